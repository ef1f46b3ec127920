"""Approval of prices: nothing that costs money starts before its price is known and approved."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from runner.errors import ConfigurationError, CostRefusedError


@dataclass(frozen=True, slots=True, kw_only=True)
class Price:
    """A list price in US dollars."""

    what: str
    """What the price is for: `tuning meta/…`."""
    usd: float | None
    """The upper end, which is compared with a limit; None if no price is published."""
    expected: float | None = None
    """The expected price, if it differs."""
    per: str = ""
    """`hour` for an hourly price."""

    @property
    def highest(self) -> str:
        """Return the upper end for people: `$3.20 per hour`. Raises TypeError for an unknown price."""
        if self.usd is None:
            raise TypeError("this price is unknown")
        return f"{amount(self.usd)} per {self.per}" if self.per else amount(self.usd)

    def __str__(self) -> str:
        if self.usd is None:
            return f"no price is published for {self.what}"
        differs = self.expected is not None and self.expected != self.usd
        about = f"{amount(self.expected or 0.0)}, up to {self.highest}" if differs else self.highest
        return f"{self.what}: list price about {about}" + (", until it is undeployed" if self.per else "")


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """The conditions under which the caller approves a price."""

    limit: float | None = None
    """Limit in dollars, per hour for an hourly price. With a limit, nobody is asked."""
    accept_unknown: bool = False
    """Whether an unknown price is approved."""
    agree: Callable[[Price], bool] | None = None
    """Asks for approval if there is no limit; None approves nothing."""
    tell: Callable[[Price], None] | None = None
    """Called with the price before the decision."""
    limit_name: str = "max_cost"
    """The caller's name for `limit`, for messages; also `unknown_name` and `yes_name`."""
    unknown_name: str = "accept_unknown_cost=True"
    yes_name: str = ""

    def __post_init__(self) -> None:
        """Refuse a limit that no price exceeds, such as NaN, or that is not a number. Raises ConfigurationError."""
        require_dollars(self.limit, self.limit_name)

    def require(self, price: Price) -> None:
        """Return normally if the price is approved. Raises CostRefusedError."""
        if price.usd is None and not self.accept_unknown:
            raise CostRefusedError(str(price), hint=f"continue with {self.unknown_name}")
        if self.tell is not None:
            self.tell(price)
        if price.usd is None:
            return
        if self.limit is not None:
            if price.usd > self.limit:
                raise CostRefusedError(
                    f"{price.what} may cost {price.highest}, more than {self.limit_name} {amount(self.limit)}",
                    hint=f"a smaller machine costs less: {'--machine-type' if self.yes_name else 'machine_type'}"
                    if price.per
                    else "`runner estimate` shows what the price depends on",
                )
            return
        if self.agree is not None and self._agreed(self.agree, price):
            return
        limit = f"{limit_above(price.usd):.2f}"
        given = f"{self.limit_name} {limit}" if self.yes_name else f"{self.limit_name}={limit}"
        raise CostRefusedError(
            f"{price.what} would cost {price.highest}, and nobody approved it",
            hint=f"approve it with {self.yes_name} or {given}" if self.yes_name else f"approve it with {given}",
        )

    def _agreed(self, agree: Callable[[Price], object], price: Price) -> bool:
        """Return the answer. Raises ConfigurationError for one that is neither: to Python, the text "no" is true."""
        answer = agree(price)
        if isinstance(answer, bool):
            return answer
        name = getattr(agree, "__name__", "agree")
        raise ConfigurationError(
            f"{name} returned {answer!r} for {price.what}: it must return True or False; nothing was started"
        )


DOLLARS = "an amount of US dollars, such as 12.50"
"""Describes the values that `dollars_of` and `require_dollars` accept."""
_DOLLARS = re.compile(r"\$?((?:[0-9]{1,3}(?:,[0-9]{3})+|[0-9]+)(?:\.[0-9]*)?|\.[0-9]+)")


def dollars_of(text: str) -> float:
    """Return the amount in `12.50`, `$12.50` or `1,250`. Raises ValueError for other texts."""
    match = _DOLLARS.fullmatch(text.strip())
    usd = float(match[1].replace(",", "")) if match else math.nan
    if not is_dollars(usd):
        raise ValueError(f"{text[:60]!r} is not {DOLLARS}")
    return usd


def exact(usd: float) -> str:
    """Return the text of an amount that `dollars_of` converts back exactly."""
    from decimal import Decimal  # not for every command

    return f"{Decimal(repr(float(usd))):f}".removesuffix(".0")


def is_dollars(value: object) -> bool:
    """Whether a value is an amount of dollars: a finite number of at least 0."""
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < math.inf


def require_dollars(value: object, name: str) -> None:
    """Return if a value is None or an amount of dollars. Raises ConfigurationError with `name`."""
    if value is not None and not is_dollars(value):
        raise ConfigurationError(f"{name} takes {DOLLARS}, not {value!r}")


AGREED = Terms(agree=lambda price: True, accept_unknown=True)
"""Approves every price: it was approved before, or nothing is charged."""


def total(prices: Iterable[float | None]) -> float | None:
    """Return the sum of prices; None if one of them is unknown."""
    known = list(prices)
    return None if None in known else sum((price or 0.0 for price in known), 0.0)


def price_range(low: float | None, expected: float | None, high: float | None) -> str:
    """Return `about $2.10 ($2.00 to $2.60)`."""
    if low is None or expected is None or high is None:
        return "unknown: no price is published"
    return amount(expected) if low == high else f"about {amount(expected)} ({amount(low)} to {amount(high)})"


def up_to(expected: float, high: float) -> str:
    """Return `about $2.10, up to $2.60`."""
    return f"about {amount(expected)}, up to {amount(high)}"


def cents(usd: float) -> str:
    """Return an amount rounded to a hundredth of a cent, so that displayed amounts add up."""
    return f"{'-' if usd < 0 else ''}${abs(usd):,.4f}"


def limit_above(usd: float) -> float:
    """Return a limit in whole cents that a price does not exceed."""
    return math.ceil(usd * 100) / 100


def from_a_cent(usd: float) -> str:
    """Return a price; amounts below a cent are shown as less than a cent."""
    return "less than $0.01" if 0 < usd < 0.01 else amount(usd)


def amount(usd: float) -> str:
    """Return a price: with cents from one dollar, with two significant digits below."""
    if usd < 0:
        return f"-{amount(-usd)}"
    if usd >= 1 or usd == 0:
        return f"${usd:,.2f}"
    digits = max(2, 1 - math.floor(math.log10(float(f"{usd:.1e}"))))  # $0.0999 is $0.10, not $0.100
    return f"${usd:.{digits}f}"
