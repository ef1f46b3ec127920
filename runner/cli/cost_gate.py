"""Nothing that costs money starts before its price was shown and agreed to. Fails closed."""

from __future__ import annotations

import dataclasses

from runner.cli.options import Invocation
from runner.cli.questions import agreed, at_terminal
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
    verb: str = "Continue",
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
        verb: what a person is asked: `Submit`.

    Raises:
        CostRefusedError: not agreed to.
    """
    price = Price(what=what, usd=usd, expected=expected, per=per)
    accepted = terms(
        invocation,
        max_cost=max_cost,
        accept_unknown_cost=accept_unknown_cost,
        limit_option=limit_option,
        verb=verb,
    )
    accepted.require(price)


def terms(
    invocation: Invocation,
    *,
    max_cost: float | None,
    accept_unknown_cost: bool,
    limit_option: str = "--max-cost",
    verb: str = "Continue",
) -> Terms:
    """Return what a command line agrees to, for use cases of the library that have a price."""
    asks = max_cost is None and not invocation.yes and at_terminal()

    def told(price: Price) -> str:
        placed = f"{price.what} in {invocation.target}" if invocation.target else price.what
        return str(dataclasses.replace(price, what=placed[:1].upper() + placed[1:]))

    def tell(price: Price) -> None:
        if price.usd is None:
            invocation.output.warning(told(price))
        elif not asks:
            invocation.output.note(told(price))

    def agree(price: Price) -> bool:
        return invocation.yes or (asks and agreed(f"{told(price)}. {verb}?"))

    return Terms(
        limit=max_cost,
        accept_unknown=accept_unknown_cost,
        agree=agree,
        tell=tell,
        limit_name=limit_option,
        unknown_name="--accept-unknown-cost",
        yes_name="--yes",
    )


def confirmed(invocation: Invocation, question: str) -> bool:
    """Ask a person at the terminal, naming the target; False when there is none, or none answers. `--yes` agrees."""
    if invocation.yes:
        return True
    return at_terminal() and agreed(f"{invocation.target}: {question}" if invocation.target else question)
