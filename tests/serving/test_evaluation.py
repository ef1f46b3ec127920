"""Scores by hand-computed values; verdicts that are right as often as they claim; and a real model against another."""

from __future__ import annotations

import html
import json
import os
import random
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from math import exp
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from runner.gcp import downloads, uploads
from runner.gcp.endpoints import Endpoint
from runner.gcp.session import Session
from runner.gcp.tuning_jobs import TuningJob
from runner.jobs.following import watching
from runner.jobs.specification import TuningJobSpec
from runner.jobs.submitting import submission
from runner.quickstart.story import fast_story
from runner.serving import likelihood
from runner.serving.deployment import deploy, undeploy
from runner.serving.differences import bootstrap
from runner.serving.evaluation import Pair, Question, compare
from runner.serving.evaluation_report import to_html
from runner.serving.judging import Judgement
from runner.serving.likelihood import AnswerLoss
from runner.serving.plan import plan_deployment
from runner.serving.scores import METRICS, chrf, exact_match, rouge_l, token_agreement
from tests.cli.invocation import CommandLine, Outcome
from tests.projects import MODEL, Tuned, upload_dataset
from tests.serving.test_leases import _variables

BASE = "meta/llama-3.1-8b-instruct-maas"


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


@given(st.text("abc ", max_size=40), st.text("abc ", max_size=40))
def test_rouge_l_is_by_the_longest_common_subsequence(left: str, right: str) -> None:
    own, wanted = " ".join(left).split(), " ".join(right).split()
    table = [[0] * (len(wanted) + 1) for _ in range(len(own) + 1)]
    for i, one in enumerate(own):
        for j, other in enumerate(wanted):
            table[i + 1][j + 1] = table[i][j] + 1 if one == other else max(table[i][j + 1], table[i + 1][j])
    expected = 100 * 2 * table[-1][-1] / (len(own) + len(wanted)) if own and wanted else 100.0 * (own == wanted)
    assert rouge_l(" ".join(own), " ".join(wanted)) == pytest.approx(expected)


@pytest.mark.parametrize("metric", METRICS.values(), ids=METRICS)
def test_scores_have_their_bounds(metric: object) -> None:
    assert callable(metric)
    chance = random.Random(5)
    for _ in range(300):
        left, right = ("".join(chance.choices("ab c.é", k=chance.randrange(12))) for _ in range(2))
        assert 0 <= metric(left, right) <= 100 + 1e-9
        assert metric(left, left) == pytest.approx(100)


@pytest.mark.parametrize(("questions", "most"), [(8, 21), (40, 18)])
def test_equal_models_are_seldom_found_different(questions: int, most: int) -> None:
    """At 95 % some 10 of 200 are expected; plain percentiles of 8 questions are wrong 23 times."""
    chance = random.Random(11)
    wrong = 0
    for seed in range(200):
        base = [chance.gauss(50, 20) for _ in range(questions)]
        tuned = [value + chance.gauss(0, 10) for value in base]
        wrong += bootstrap(base, tuned, seed=seed, resamples=400).outcome != "no difference"
    assert wrong <= most


@pytest.mark.parametrize("sign", [-1, 1])
@pytest.mark.parametrize("size", [1e-8, 1e-6, likelihood.NOISE / 2])
def test_the_noise_of_a_measurement_is_no_difference(size: float, sign: int) -> None:
    chance = random.Random(size)
    base = [AnswerLoss(chance.uniform(20, 60), tuple(range(20))) for _ in range(14)]
    tuned = [AnswerLoss(one.nats + sign * 20 * size * chance.uniform(0.5, 1), one.tokens) for one in base]
    assert likelihood.compare_losses(base, tuned).outcome == "no difference"
    far = [AnswerLoss(one.nats + sign * 20 * 0.01, one.tokens) for one in base]
    assert likelihood.compare_losses(base, far).outcome == ("worse" if sign > 0 else "better")


def test_nothing_is_claimed_of_a_handful() -> None:
    assert bootstrap([0.0] * 4, [1.0] * 4).outcome == "undecided"
    assert bootstrap([0.0] * 5, [1.0] * 5).outcome == "better"
    found = compare("b", "t", _pairs(4, "", "x", "right answer"))
    assert found.outcome == "undecided"
    assert any("give no verdict" in note for note in found.notes)


def test_a_real_difference_is_found() -> None:
    chance = random.Random(12)
    base = [chance.gauss(50, 20) for _ in range(40)]
    tuned = [value + chance.gauss(8, 10) for value in base]
    found = bootstrap(base, tuned)
    assert found.outcome == "better"
    assert found.low < found.mean < found.high
    assert bootstrap(tuned, base).outcome == "worse"
    assert bootstrap(base, base).outcome == "no difference"


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
    assert {label: metrics["chrF"].outcome for label, metrics in found.slices.items()} == {
        "up": "better",
        "<down>": "worse",
    }
    assert any("tiny" in note for note in found.notes)
    page = to_html(found)
    assert "<script" not in page
    assert "<img" not in page
    assert page.count('class="pair"') == 14
    assert html.escape(evil) in page
    assert not re.search(r"(?:src|href)=|url\(|@import", page.replace(html.escape(evil), ""))
    assert "default-src 'none'" in page
    assert json.loads(json.dumps(found.to_json(pairs=True)))["pairs"][0]["base"] == evil


def test_losses_are_compared_by_the_token_and_only_if_the_tokens_are_the_same() -> None:
    def pair(base: AnswerLoss | None, tuned: AnswerLoss | None) -> Pair:
        [made] = _pairs(1, "", "a", "b")
        return replace(made, base_loss=base, tuned_loss=tuned)

    short, long = (7, 8), tuple(range(8))
    pairs = [
        *[pair(AnswerLoss(4.0, short), AnswerLoss(2.0, short)) for _ in range(6)],
        *[pair(AnswerLoss(8.0, long), AnswerLoss(8.0, long)) for _ in range(6)],
        pair(None, None),
    ]
    found = compare("b", "t", pairs, primary="loss")
    assert found.likelihood is not None
    # (6 x 4 + 6 x 8) nats over 6 x 2 + 6 x 8 tokens: a long answer counts for more than a short one.
    assert found.likelihood.difference.base == pytest.approx(72 / 60)
    assert found.likelihood.difference.tuned == pytest.approx(60 / 60)
    assert found.likelihood.perplexity == pytest.approx((exp(1.2), exp(1.0)))
    assert (found.outcome, found.likelihood.left_out) == ("better", 1)
    assert any("1 answers could not be measured" in note for note in found.notes)
    other = compare("b", "t", [*pairs, pair(AnswerLoss(4.0, (7, 9)), AnswerLoss(2.0, short))], primary="loss")
    assert (other.outcome, other.likelihood) == ("undecided", None)
    assert "different tokens" in to_html(other)
    assert "loss could not be measured" in to_html(other)


BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


@pytest.mark.skipif(BROWSER is None, reason="needs Chromium")
def test_a_browser_paints_the_report(tmp_path: Path) -> None:
    """The verdict is green, and text is there. What a model wrote would turn the page white if it ran."""
    assert BROWSER is not None
    losses = (AnswerLoss(4.0, (7, 8)), AnswerLoss(2.0, (7, 8)))
    evil = '<script>document.body.innerHTML = ""</script><img src=x onerror="document.body.innerHTML = 0">'
    pairs = [
        replace(one, base_loss=losses[0], tuned_loss=losses[1])
        for one in [*_pairs(8, "up", evil, "right answer"), *_pairs(6, "down", "right answer", "wrong")]
    ]
    judgement = Judgement(judge="a judge", verdicts=("tuned",) * 8 + ("unreadable", "swayed") * 3)
    report = Path(os.environ.get("SERVING_TEST_REPORT", tmp_path / "report.html"))
    report.write_text(to_html(compare("base", "tuned", pairs, primary="loss", judgement=judgement)), "utf-8")
    picture = report.with_suffix(".png")
    command = [BROWSER, "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path / 'profile'}"]
    command += ["--window-size=900,1800", f"--screenshot={picture}", report.as_uri()]
    subprocess.run(command, check=True, timeout=120, capture_output=True)
    with Image.open(picture) as image:
        colours: dict[Any, int] = {colour: count for count, colour in image.convert("RGB").getcolors(1 << 24) or []}
    assert colours.get((0x12, 0x69, 0x3A), 0) > 500, "the verdict's badge, in the colour of the style sheet"
    assert sum(count for colour, count in colours.items() if max(colour) < 80) > 5000, "text"


@pytest.fixture
def evaluate(
    tuned: Tuned, state: Path, run: CommandLine, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Callable[..., Outcome]:
    """Run `eval` on rows of a dataset, in the project of the tuned model."""
    for name, value in _variables(tuned, state).items():
        monkeypatch.setenv(name, value)

    def command(rows: Sequence[dict[str, Any]], *words: str) -> Outcome:
        held_out = tmp_path / "held_out.jsonl"
        held_out.write_text("".join(json.dumps(row) + "\n" for row in rows))
        return run("eval", str(held_out), "--format", "json", *words)

    return command


@contextmanager
def _learned(session: Session, **fields: Any) -> Iterator[tuple[TuningJob, Endpoint]]:
    """Train on this project and serve what comes of it."""
    job = watching.wait(session, submission.submit(session, TuningJobSpec(base_model=MODEL, **fields)).id, 400)
    endpoint = deploy(session, plan_deployment(session, job.id, display_name="learned"), poll=0.3)
    try:
        yield job, endpoint
    finally:
        undeploy(session, endpoint, delete=True)


def _upload(session: Session, name: str, rows: Sequence[dict[str, Any]]) -> str:
    content = "".join(json.dumps(row) + "\n" for row in rows).encode()
    return uploads.upload_bytes(session, content, f"gs://{session.environment.datasets_bucket}/{name}").uri


@pytest.mark.training
def test_a_model_against_its_base_and_against_itself(
    tuned: Tuned, tuned_session: Session, evaluate: Callable[..., Outcome], tmp_path: Path
) -> None:
    endpoint = deploy(tuned_session, plan_deployment(tuned_session, tuned.job.id, display_name="tuned"), poll=0.3)
    rows = [
        {"prompt": f"What is {index}?", "completion": f"It is {index}.", "parity": "even" if index % 2 == 0 else "odd"}
        for index in range(10)
    ]
    few = ["--endpoint", endpoint.id, "--max-tokens", "8"]
    outcome = evaluate(rows, *few, "--base-endpoint", endpoint.id, "--gate", "not-worse")
    assert outcome.code == 0, outcome.err
    assert outcome.document["outcome"] == "no difference"
    assert outcome.document["loss"]["outcome"] == "no difference"
    outcome = evaluate(rows, *few, "--base-endpoint", endpoint.id, "--gate", "better", "--limit", "4")
    assert (outcome.code, outcome.error["code"]) == (11, "gate_failed")

    report = tmp_path / "report.html"
    base = ["--base-model", BASE, "--report", str(report), "--slice-by", "parity"]
    outcome = evaluate(rows, *few, *base)
    assert outcome.code == 0, outcome.err
    found = outcome.document
    assert found["questions"] == 10
    assert set(found["slices"]) == set(found["sliceLosses"]) == {"even", "odd"}
    assert report.read_text().count('class="pair"') == 10

    # A model of under a million parameters does not keep to a form: that is said, and nothing is made of it.
    outcome = evaluate(rows, *few, "--base-model", BASE, "--judge", endpoint.id, "--limit", "3")
    judged = outcome.document["judge"]
    assert judged["unreadable"] + judged["sameAnswers"] == 3
    assert judged["unreadable"] > 0
    assert judged["outcome"] == "undecided"
    assert "could not be read" in outcome.err

    for wrong in (few, [*few, "--base-endpoint", endpoint.id, "--slice-by", "nope"], [*few, *base, "--model", BASE]):
        outcome = evaluate(rows, *wrong)
        assert (outcome.code, outcome.error["code"]) == (2, "configuration"), wrong
    undeploy(tuned_session, endpoint, delete=True)


@pytest.mark.training
def test_what_has_learned_is_found_better_on_questions_it_has_not_seen(
    tuned_session: Session, evaluate: Callable[..., Outcome], tmp_path: Path
) -> None:
    """And its loss there is the one that training itself measured."""
    unseen = [{"prompt": f"What is {index}?", "completion": f"It is {index}."} for index in range(60, 71)]
    with _learned(
        tuned_session,
        training_dataset=upload_dataset(tuned_session, 48, "learn.jsonl"),
        validation_dataset=_upload(tuned_session, "unseen.jsonl", unseen),
        epochs=12,
        display_name="learned",
    ) as (job, endpoint):
        report = Path(os.environ.get("SERVING_TEST_REPORT", tmp_path / "report.html"))
        words = ["--endpoint", endpoint.id, "--base-model", BASE, "--max-tokens", "12"]
        outcome = evaluate(unseen, *words, "--gate", "better", "--report", str(report))
        assert outcome.code == 0, outcome.err
        found = outcome.document
        assert found["metrics"]["chrF"]["low"] > 0, found["metrics"]
        assert found["usdPer1000Answers"] > 0
        facts = json.loads(downloads.read_bytes(tuned_session, f"{job.final_checkpoint_uri}/run.json"))
        loss = found["loss"]
        assert loss["tuned"] == pytest.approx(facts["validationLosses"][-1], abs=2e-3)
        assert loss["tunedPerplexity"] == pytest.approx(exp(loss["tuned"]), rel=1e-3)
        assert (loss["outcome"], loss["questions"], loss["leftOut"]) == ("better", 11, 0)
        assert loss["high"] < 0 < loss["base"] - loss["tuned"]
        # Bound to decide, the loss does.
        outcome = evaluate(unseen, *words, "--metric", "loss", "--gate", "better", "--max-tokens", "1")
        assert (outcome.code, outcome.document["outcome"]) == (0, "better")


@pytest.mark.training
def test_the_quickstart_is_an_improvement_and_its_base_is_none(
    tuned_session: Session, evaluate: Callable[..., Outcome], tmp_path: Path
) -> None:
    story = fast_story(tmp_path)
    rows = [json.loads(line) for line in story.training.read_text("utf-8").splitlines()]
    with _learned(
        tuned_session,
        mode=story.mode,
        training_dataset=_upload(tuned_session, "fast.jsonl", rows),
        epochs=story.epochs,
        learning_rate=story.learning_rate,
        batch_size=story.batch_size,
        export_last_checkpoint_only=True,
        display_name="quickstart",
    ) as (_, endpoint):
        outcome = evaluate(rows, "--endpoint", endpoint.id, "--base-model", BASE, "--max-tokens", "48")
    assert outcome.code == 0, outcome.err
    found = outcome.document
    assert found["outcome"] == "better", found["metrics"]
    assert found["metrics"]["chrF"]["low"] > 0
    assert found["loss"]["high"] < 0
    twice = evaluate(rows, "--model", BASE, "--base-model", BASE, "--max-tokens", "16", "--gate", "not-worse")
    assert twice.code == 0, twice.err
    assert twice.document["outcome"] == twice.document["loss"]["outcome"] == "no difference"
    assert {item["outcome"] for item in twice.document["metrics"].values()} == {"no difference"}
