"""Nothing that costs money starts before its price was shown and agreed to. Fails closed."""

from __future__ import annotations

import dataclasses

from runner.cli.options import Invocation
from runner.cli.questions import agreed, at_terminal
from runner.errors import ConfigurationError
from runner.prices import Price, Terms


def terms(invocation: Invocation, *, verb: str = "Continue") -> Terms:
    """Return what a command line agrees to; `terms(…).require(price)` returns if that is agreed to.

    The price goes to standard error. A limit decides by itself: below it nobody is asked, above it nothing helps, not
    even `--yes`. Without a limit `--yes` agrees, else a person at a terminal is asked; where there is no terminal,
    silence is no agreement.

    Args:
        invocation: has `--max-cost`, `--accept-unknown-cost` and `--yes`.
        verb: what a person is asked: `Submit`.
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
    """Ask a person at the terminal, naming the target; False when there is none, or none answers. `--yes` agrees."""
    if invocation.yes:
        return True
    return at_terminal() and agreed(f"{invocation.target}: {question}" if invocation.target else question)


def require_confirmed(invocation: Invocation, question: str, what: str, *, hint: str = "confirm with --yes") -> None:
    """Return if a person, or `--yes`, agrees. Raises ConfigurationError: `what`, such as `the repair`, is not."""
    if not confirmed(invocation, question):
        raise ConfigurationError(f"{what} was not confirmed", hint=hint)
