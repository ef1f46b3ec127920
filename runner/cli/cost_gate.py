"""Nothing that costs money starts before its price was shown and agreed to. Fails closed."""

from __future__ import annotations

import sys

import click

from runner.cli.options import Invocation
from runner.prices import Price, Terms


def confirm_cost(
    invocation: Invocation,
    *,
    what: str,
    usd: float | None,
    expected: float | None = None,
    per: str = "",
    max_cost: float | None,
    accept_unknown_cost: bool = False,
    limit_option: str = "--max-cost",
) -> None:
    """Return if the price is agreed to.

    The price goes to standard error. A limit decides by itself: below it nobody is asked, above it nothing helps, not
    even `--yes`. Without a limit `--yes` agrees, else a person at a terminal is asked; where there is no terminal,
    silence is no agreement.

    Args:
        invocation: says whether `--yes` was given.
        what: what would be paid for: `tuning meta/…`.
        usd: the high end of the estimate, which the limit is compared with; None where no price is published.
        expected: the estimate itself, where it differs.
        per: `hour` for a price that runs on.
        max_cost: the limit, in dollars per the same unit.
        accept_unknown_cost: an unknown price was accepted explicitly.
        limit_option: name of the option behind `max_cost`, for hints.

    Raises:
        CostRefusedError: not agreed to.
    """
    price = Price(what=what, usd=usd, expected=expected, per=per)
    terms(invocation, max_cost=max_cost, accept_unknown_cost=accept_unknown_cost, limit_option=limit_option).require(
        price
    )


def terms(
    invocation: Invocation, *, max_cost: float | None, accept_unknown_cost: bool, limit_option: str = "--max-cost"
) -> Terms:
    """Return what a command line agrees to, for use cases of the library that have a price."""

    def tell(price: Price) -> None:
        say = invocation.output.warning if price.usd is None else invocation.output.note
        say(str(price))

    return Terms(
        limit=max_cost,
        accept_unknown=accept_unknown_cost,
        agree=lambda _: invocation.yes or confirmed("Continue?"),
        tell=tell,
        limit_name=limit_option,
        unknown_name="--accept-unknown-cost",
        yes_name="--yes",
    )


def confirmed(question: str) -> bool:
    """Ask a person at the terminal; False when there is none, or none answers."""
    if not (sys.stdin is not None and sys.stdin.isatty() and sys.stderr.isatty()):
        return False
    try:
        return click.confirm(question, default=False, err=True)
    except click.Abort as abort:
        if isinstance(abort.__cause__, KeyboardInterrupt) or isinstance(abort.__context__, KeyboardInterrupt):
            raise
        return False
