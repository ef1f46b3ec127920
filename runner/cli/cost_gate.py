"""Nothing that costs money starts before its price was shown and agreed to. Fails closed."""

from __future__ import annotations

import math
import sys

import click

from runner.cli.options import Invocation
from runner.cli.text import amount
from runner.errors import CostRefusedError


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
    if usd is None:
        if not accept_unknown_cost:
            raise CostRefusedError(f"no price is published for {what}", hint="continue with --accept-unknown-cost")
        invocation.output.warning(f"no price is published for {what}")
        return
    price = f"{amount(usd)} per {per}" if per else amount(usd)
    shown = (
        f"list price about {amount(expected)}, up to {price}"
        if expected not in (None, usd)
        else f"list price about {price}"
    )
    invocation.output.note(f"{what}: {shown}" + (", until it is undeployed" if per else ""))
    if max_cost is not None:
        if usd > max_cost:
            raise CostRefusedError(
                f"{what} may cost {price}, more than {limit_option} {amount(max_cost)}",
                hint="a smaller machine costs less: --machine-type"
                if per
                else "`runner estimate` shows what the price depends on",
            )
        return
    if invocation.yes or confirmed("Continue?"):
        return
    raise CostRefusedError(
        f"{what} would cost {price}, and nobody approved it",
        hint=f"approve it with --yes or {limit_option} {math.ceil(usd * 100) / 100:.2f}",
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
