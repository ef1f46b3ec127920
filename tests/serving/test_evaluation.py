"""Scores by hand-computed values; verdicts that are right as often as they claim; and a real model against another."""

from __future__ import annotations

import html
import json
import os
import random
import re
from pathlib import Path

import pytest

from runner.gcp.session import Session
from runner.jobs import submission, watching
from runner.jobs.specification import TuningJobSpec
from runner.serving.deployment import deploy, plan_deployment, undeploy
from runner.serving.evaluation import Pair, Question, bootstrap, compare, outcome_of
from runner.serving.evaluation_report import to_html
from runner.serving.scores import METRICS, chrf, exact_match, rouge_l, token_agreement
from tests.cli.invocation import process
from tests.runner.conftest import MODEL, Tuned, upload_dataset
from tests.serving.test_leases import _variables


def test_scores_of_known_pairs() -> None:
    assert exact_match("a  b\n", "a b") == 100
    assert exact_match("a b", "a c") == 0
    # Unigrams a b c d against a b c e: 3/4; bigrams 2/3; trigrams 1/2; 4-grams 0; longer there are none.
    mean = (3 / 4 + 2 / 3 + 1 / 2 + 0) / 4
    assert chrf("abcd", "abce") == pytest.approx(100 * mean)
    # Precision (2/2 + 1/1)/2 = 1, recall (2/4 + 1/3)/2 = 5/12; F with beta 2 = 5·1·r/(4·1 + r).
    assert chrf("ab", "a b c d") == pytest.approx(100 * 5 * (5 / 12) / (4 + 5 / 12))
    assert chrf("", "abc") == 0
    assert chrf("", "") == 100
    # Lin's own example: "police kill the gunman" against "police killed the gunman": LCS 3, P = R = 3/4.
    assert rouge_l("Police kill the gunman!", "police killed the gunman") == pytest.approx(75.0)
    assert rouge_l("the gunman kill police", "police killed the gunman") == pytest.approx(50.0)
    assert rouge_l("猫", "猫") == 100
    assert rouge_l("", "x") == 0
    assert token_agreement("a b c", "a x c d") == 50
    assert token_agreement("", "") == 100


@pytest.mark.parametrize("metric", METRICS.values(), ids=METRICS)
def test_scores_have_their_bounds(metric: object) -> None:
    assert callable(metric)
    chance = random.Random(5)
    for _ in range(300):
        left, right = ("".join(chance.choices("ab c.é", k=chance.randrange(12))) for _ in range(2))
        assert 0 <= metric(left, right) <= 100 + 1e-9
        assert metric(left, left) == pytest.approx(100)


def test_equal_models_are_seldom_found_different() -> None:
    chance = random.Random(11)
    wrong = 0
    for seed in range(200):
        base = [chance.gauss(50, 20) for _ in range(40)]
        tuned = [value + chance.gauss(0, 10) for value in base]
        wrong += outcome_of(bootstrap(base, tuned, seed=seed, resamples=400)) != "no difference"
    # At 95 % some 10 of 200 are expected; a binomial with p = 0.07 exceeds 26 once in a thousand times.
    assert wrong <= 26


def test_a_real_difference_is_found() -> None:
    chance = random.Random(12)
    base = [chance.gauss(50, 20) for _ in range(40)]
    tuned = [value + chance.gauss(8, 10) for value in base]
    found = bootstrap(base, tuned)
    assert outcome_of(found) == "better"
    assert found.low < found.mean < found.high
    assert outcome_of(bootstrap(tuned, base)) == "worse"
    assert outcome_of(bootstrap(base, base)) == "no difference"


def _pairs(number: int, label: str, base: str, tuned: str) -> list[Pair]:
    question = Question(line=1, messages=({"role": "user", "content": "<q>&"},), reference="right answer", label=label)
    return [
        Pair(
            question=question,
            base=base,
            tuned=tuned,
            base_scores={name: metric(base, "right answer") for name, metric in METRICS.items()},
            tuned_scores={name: metric(tuned, "right answer") for name, metric in METRICS.items()},
            base_seconds=0.2,
            tuned_seconds=0.1,
        )
        for _ in range(number)
    ]


def test_slices_and_the_report() -> None:
    evil = '</div><script>alert(1)</script><img src="http://evil.example/x">'
    pairs = [
        *_pairs(6, "up", evil, "right answer"),
        *_pairs(6, "<down>", "right answer", "wrong"),
        *_pairs(2, "tiny", "a", "b"),
    ]
    found = compare("base", "tuned", pairs, usd_per_1000=1.5)
    assert {label: outcome_of(metrics["chrF"]) for label, metrics in found.slices.items()} == {
        "up": "better",
        "<down>": "worse",
    }
    assert any("tiny" in note for note in found.notes)
    page = to_html(found)
    assert "<script" not in page
    assert "<img" not in page
    assert page.count("<section class=pair>") == 14
    assert html.escape(evil) in page
    assert not re.search(r"(?:src|href)=|url\(|@import", page.replace(html.escape(evil), ""))
    assert "default-src 'none'" in page
    assert json.loads(json.dumps(found.to_json(pairs=True)))["pairs"][0]["base"] == evil


@pytest.mark.training
def test_a_model_against_its_base_and_against_itself(
    tuned: Tuned, tuned_session: Session, state: Path, tmp_path: Path
) -> None:
    endpoint = deploy(tuned_session, plan_deployment(tuned_session, tuned.job.id, display_name="tuned"), poll=0.3)
    held_out = tmp_path / "held_out.jsonl"
    rows = [
        {"prompt": f"What is {index}?", "completion": f"It is {index}.", "parity": "even" if index % 2 == 0 else "odd"}
        for index in range(16)
    ]
    held_out.write_text("".join(json.dumps(row) + "\n" for row in rows))
    variables = _variables(tuned, state)

    def evaluate(*more: str) -> tuple[int, dict[str, object], str]:
        words = ["eval", str(held_out), "--endpoint", endpoint.id, "--max-tokens", "8", "--format", "json", *more]
        outcome = process(*words, stdin="", timeout=240, **variables)
        return outcome.code, outcome.document if outcome.out else {}, outcome.err

    code, same, err = evaluate("--base-endpoint", endpoint.id, "--gate", "not-worse")
    assert code == 0, err
    assert same["outcome"] == "no difference"
    code, _, err = evaluate("--base-endpoint", endpoint.id, "--gate", "better", "--limit", "4")
    assert (code, json.loads(err.splitlines()[-1])["error"]["code"]) == (11, "gate_failed")

    report = tmp_path / "report.html"
    base = ["--base-model", "meta/llama-3.1-8b-instruct-maas", "--report", str(report), "--slice-by", "parity"]
    code, found, err = evaluate(*base)
    assert code == 0, err
    assert found["questions"] == 16
    slices = found["slices"]
    assert isinstance(slices, dict)
    assert set(slices) == {"even", "odd"}
    assert report.read_text().count("<section class=pair>") == 16

    code, _, err = evaluate()
    assert (code, json.loads(err)["error"]["code"]) == (2, "configuration")
    code, _, err = evaluate("--base-endpoint", endpoint.id, "--slice-by", "nope")
    assert (code, json.loads(err)["error"]["code"]) == (2, "configuration")
    undeploy(tuned_session, endpoint, delete=True)


@pytest.mark.training
def test_what_has_learned_is_found_better_on_questions_it_has_not_seen(
    tuned: Tuned, tuned_session: Session, state: Path, tmp_path: Path
) -> None:
    dataset = upload_dataset(tuned_session, 48, "learn.jsonl")
    spec = TuningJobSpec(base_model=MODEL, training_dataset=dataset, epochs=12, display_name="learned")
    job = watching.wait(tuned_session, submission.submit(tuned_session, spec).id, 400)
    endpoint = deploy(tuned_session, plan_deployment(tuned_session, job.id, display_name="learned"), poll=0.3)
    held_out = tmp_path / "held_out.jsonl"
    rows = [{"prompt": f"What is {index}?", "completion": f"It is {index}."} for index in range(60, 84)]
    held_out.write_text("".join(json.dumps(row) + "\n" for row in rows))
    report = Path(os.environ.get("SERVING_TEST_REPORT", tmp_path / "report.html"))
    words = ["eval", str(held_out), "--endpoint", endpoint.id, "--base-model", "meta/llama-3.1-8b-instruct-maas"]
    words += ["--max-tokens", "12", "--gate", "better", "--report", str(report), "--format", "json"]
    outcome = process(*words, stdin="", timeout=300, **_variables(tuned, state))
    assert outcome.code == 0, outcome.err
    chrf_found = outcome.document["metrics"]["chrF"]
    assert chrf_found["low"] > 0, chrf_found
    assert outcome.document["usdPer1000Answers"] > 0
    undeploy(tuned_session, endpoint, delete=True)
