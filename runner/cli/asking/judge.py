"""`runner eval --judge`: who judges, and what that costs before anybody is asked."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from runner.cli.options import Command, Invocation, Money, cost_options
from runner.errors import CostRefusedError

if TYPE_CHECKING:
    from runner.gcp.session import Session
    from runner.serving.evaluation import Question
    from runner.serving.judging import Judge

_CHARACTERS_A_TOKEN = 3.5
"""Of English text; errs to the dear side for most tokenizers."""
_FRAME_TOKENS = 150
"""The instructions and tags of one request."""


def judge_options(function: Command) -> Command:
    """Add `judge`, `judge_price`, `max_cost` and `accept_unknown_cost`."""
    judge = click.option(
        "--judge",
        metavar="NAME",
        help="Also have a model judge the answers: an endpoint, or a Google-managed PUBLISHER/MODEL.",
    )
    price = click.option(
        "--judge-price",
        type=Money(),
        metavar="USD",
        help="Price per million tokens of a Google-managed judge, which the catalogue does not list.",
    )
    return judge(price(cost_options(function)))


def find_judge(session: Session, name: str) -> Judge:
    """Return the judge of that name. Raises NotFoundError, ConfigurationError."""
    from runner.serving.judging import Judge
    from runner.serving.prediction import resolve_endpoint

    if "/" in name and not name.startswith("projects/"):
        return Judge(name=name, model=name)
    found = resolve_endpoint(session, name)
    return Judge(name=found.display_name or found.id, endpoint=found)


def agree_to_judge(
    invocation: Invocation,
    judge: Judge,
    questions: Sequence[Question],
    *,
    price: float | None,
    max_cost: float | None,
    accept_unknown_cost: bool,
) -> None:
    """Show what the judge will be asked and cost. Raises CostRefusedError."""
    from runner.cli.cost_gate import confirm_cost

    requests = 2 * len(questions)
    if judge.endpoint is not None:
        from runner.cli.text import amount
        from runner.serving.listing import describe

        hourly = describe(judge.endpoint).usd_per_hour
        billed = f"{amount(hourly)} per hour, with or without requests" if hourly else "an unknown hourly price"
        invocation.output.note(f"judge: up to {requests} requests to {judge.name}, which costs {billed}")
        return
    tokens = estimate_tokens(questions)
    what = f"the judge {judge.name}, up to {requests} requests of about {tokens:,} tokens together"
    usd = None if price is None else tokens * price / 1e6
    if usd is None and not accept_unknown_cost:
        raise CostRefusedError(
            f"no price is published for {what}",
            hint="give the price per million tokens with --judge-price USD, or continue with --accept-unknown-cost",
        )
    confirm_cost(invocation, what=what, usd=usd, max_cost=max_cost, accept_unknown_cost=accept_unknown_cost)


def estimate_tokens(questions: Sequence[Question]) -> int:
    """Return about how many tokens a judge reads and writes: answers as long as the references, replies at their most.

    Pictures are not shown to it.
    """
    from runner.serving.judging import REPLY_TOKENS

    characters = sum(len(one.text) + 3 * len(one.reference) for one in questions)
    return round(2 * (characters / _CHARACTERS_A_TOKEN + len(questions) * (_FRAME_TOKENS + REPLY_TOKENS)))
