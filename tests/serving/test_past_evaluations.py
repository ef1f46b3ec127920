"""An evaluation that was kept is the evaluation that was made, and only its own project shows it."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import pytest

from runner.environment import Environment
from runner.errors import NotFoundError
from runner.serving import past_evaluations
from runner.serving.evaluation import Evaluation, compare
from runner.serving.judging import Judgement
from runner.serving.likelihood import AnswerLoss
from tests.serving.test_evaluation import _pairs

HERE = Environment(project="p", location="us-central1", vertex_url="http://127.0.0.1:9", token="t")


def _evaluation() -> Evaluation:
    losses = (AnswerLoss(4.0, (7, 8)), AnswerLoss(2.0, (7, 8)))
    pairs = [
        replace(one, base_loss=losses[0], tuned_loss=losses[1], tuned_cut=True, base="<b>\x1b\u202e\U0001f600")
        for one in [*_pairs(8, "up", "wrong", "right answer"), *_pairs(6, "down", "right answer", "wrong")]
    ]
    pairs[0] = replace(pairs[0], base_seconds=math.inf)
    judgement = Judgement(judge="a judge", verdicts=("tuned",) * 8 + ("unreadable", "swayed") * 3)
    return replace(compare("base", "tuned", pairs, judgement=judgement), settings={"max_tokens": 9})


def test_what_was_kept_is_what_was_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RUNNER_STATE_DIR", str(tmp_path))
    made = _evaluation()
    identifier = past_evaluations.keep(HERE, made)
    again = past_evaluations.load(HERE, identifier)
    assert again.pairs == made.pairs
    assert again.judgement == made.judgement
    assert (again.made, again.settings, again.outcome) == (made.made, made.settings, made.outcome)
    [listed] = past_evaluations.past(HERE)
    assert (listed.id, listed.summary["tuned"], listed.summary["questions"]) == (identifier, "tuned", 14)
    assert past_evaluations.past(replace(HERE, project="other")) == []
    with pytest.raises(NotFoundError):
        past_evaluations.load(replace(HERE, project="other"), identifier)


@pytest.mark.parametrize("name", ["../x", "", "20260101T000000-00000000", "20260101T000000-0000000g"])
def test_only_what_was_kept_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv("RUNNER_STATE_DIR", str(tmp_path))
    with pytest.raises(NotFoundError):
        past_evaluations.load(HERE, name)


def test_a_torn_one_is_left_out_and_the_oldest_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RUNNER_STATE_DIR", str(tmp_path))
    monkeypatch.setattr(past_evaluations, "KEPT", 3)
    made = compare("base", "tuned", _pairs(8, "", "wrong", "right answer"))
    ids = [past_evaluations.keep(HERE, replace(made, made=1e9 + number)) for number in range(5)]
    assert [item.id for item in past_evaluations.past(HERE)] == ids[:1:-1]
    [folder] = (tmp_path / "evaluations").iterdir()
    (folder / f"{ids[4]}.summary.json").write_text('{"tuned": "x')
    (folder / f"{ids[3]}.evaluation.json").write_text('{"pairs": []}')
    assert [item.id for item in past_evaluations.past(HERE)] == [ids[3], ids[2]]
    with pytest.raises(NotFoundError):
        past_evaluations.load(HERE, ids[3])
