"""Nothing that costs money starts before its price was shown and approved."""

from __future__ import annotations

import dataclasses

from runner.cli.options import Invocation
from runner.cli.questions import agreed, at_terminal
from runner.errors import ConfigurationError
from runner.prices import Price, Terms


def terms(invocation: Invocation, *, verb: str = "Continue") -> Terms:
    """Return the approval of a command line; `terms(…).require(price)` returns if the price is approved.

    The price is printed to standard error. With a limit, nobody is asked: a price below it is approved, and a price
    above it is refused, even with `--yes`. Without a limit, `--yes` approves; otherwise, the user at the terminal is
    asked. Without a terminal, the price is refused.

    Args:
        invocation: contains `--max-cost`, `--accept-unknown-cost` and `--yes`.
        verb: the first word of the question: `Submit`.
    """
    asks = invocation.max_cost is None and not invocation.yes and at_terminal()

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
        limit=invocation.max_cost,
        accept_unknown=invocation.accept_unknown_cost,
        agree=agree,
        tell=tell,
        limit_name="--max-cost",
        unknown_name="--accept-unknown-cost",
        yes_name="--yes",
    )


def confirmed(invocation: Invocation, question: str) -> bool:
    """Ask the user at the terminal, naming the target; return False without a terminal or answer. `--yes` approves."""
    if invocation.yes:
        return True
    return at_terminal() and agreed(f"{invocation.target}: {question}" if invocation.target else question)


def require_confirmed(invocation: Invocation, question: str, what: str, *, hint: str = "confirm with --yes") -> None:
    """Return if the user or `--yes` approves.

    Raises ConfigurationError: `what`, such as `the repair`, is not approved.
    """
    if not confirmed(invocation, question):
        raise ConfigurationError(f"{what} was not confirmed", hint=hint)
