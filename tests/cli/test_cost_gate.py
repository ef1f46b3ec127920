"""The cost gate fails closed."""

from __future__ import annotations

import io
import os
import sys
from typing import Any

import pytest

from runner.cli.cost_gate import confirmed, terms
from runner.cli.options import Invocation
from runner.errors import CostRefusedError
from runner.prices import Price


def _gate(invocation: Invocation | None = None, **changes: Any) -> None:
    arguments: dict[str, Any] = {"what": "tuning a model", "usd": 3.0, **changes}
    terms(invocation or Invocation()).require(Price(**arguments))


@pytest.fixture(autouse=True)
def no_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO("y\n"))


def test_silence_without_a_terminal_is_no_agreement(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(CostRefusedError) as refusal:
        _gate()

    assert refusal.value.exit_code == 7
    assert refusal.value.hint == "approve it with --yes or --max-cost 3.00"
    assert "list price about $3.00" in capsys.readouterr().err


def test_yes_agrees() -> None:
    _gate(Invocation(yes=True))


def test_a_limit_agrees_to_what_is_below_it() -> None:
    _gate(Invocation(max_cost=3.0))


@pytest.mark.parametrize("yes", [True, False])
def test_a_limit_holds_even_against_yes(yes: bool) -> None:
    with pytest.raises(CostRefusedError, match=r"may cost \$3\.00, more than --max-cost \$2\.99"):
        _gate(Invocation(yes=yes, max_cost=2.99))


@pytest.mark.parametrize("changes", [{}, {"max_cost": 1000.0}])
@pytest.mark.parametrize("yes", [True, False])
def test_an_unknown_price_is_refused_whatever_else_is_said(changes: dict[str, Any], yes: bool) -> None:
    with pytest.raises(CostRefusedError) as refusal:
        _gate(Invocation(yes=yes, **changes), usd=None)

    assert "--accept-unknown-cost" in str(refusal.value.hint)


def test_an_unknown_price_can_be_accepted(capsys: pytest.CaptureFixture[str]) -> None:
    _gate(Invocation(accept_unknown_cost=True), usd=None)

    assert "no price is published" in capsys.readouterr().err


def test_a_price_that_runs_on_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    _gate(Invocation(yes=True), per="hour")

    assert capsys.readouterr().err == "Tuning a model: list price about $3.00 per hour, until it is undeployed\n"


@pytest.mark.parametrize(("typed", "agreed"), [("y\n", True), ("n\n", False), ("\n", False), ("\x04", False)])
def test_a_person_at_a_terminal_is_asked(typed: str, agreed: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    person, terminal = os.openpty()
    with open(terminal, closefd=False) as stdin, open(terminal, "w", closefd=False) as stderr:
        monkeypatch.setattr(sys, "stdin", stdin)
        monkeypatch.setattr(sys, "stderr", stderr)
        os.write(person, typed.encode())

        assert confirmed(Invocation(), "Continue?") is agreed

    monkeypatch.undo()
    os.close(terminal)
    os.close(person)
