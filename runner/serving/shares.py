"""Arithmetic of traffic splits: percent by deployed model ID, with a sum of 100 or without any entry."""

from __future__ import annotations

from collections.abc import Mapping


def with_share(traffic: Mapping[str, int], model: str, percent: int) -> dict[str, int]:
    """Return a split in which `model` has `percent`, and the others share the rest in their previous ratio.

    Models without traffic get none. If no other model has traffic, `model` gets all.

    Raises:
        ValueError: `percent` is not between 0 and 100.
    """
    if not 0 <= percent <= 100:
        raise ValueError("a share of traffic is between 0 and 100 percent")
    others = {key: share for key, share in traffic.items() if key != model and share > 0}
    if not others:
        return {model: 100} if percent else {}
    rest = 100 - percent
    total = sum(others.values())
    exact = {key: share * rest / total for key, share in others.items()}
    shares = {key: int(value) for key, value in exact.items()}
    # The largest remainders get the rounding difference; for equal remainders, the first one gets it.
    for key in sorted(exact, key=lambda key: shares[key] - exact[key])[: rest - sum(shares.values())]:
        shares[key] += 1
    return {**{key: traffic[key] and shares.get(key, 0) for key in traffic if key != model}, model: percent}


def without(traffic: Mapping[str, int], staying: list[str], gone: str) -> dict[str, int]:
    """Return the split of the remaining models; the busiest of them gets the freed share. {} if none remain."""
    rest = {key: traffic.get(key, 0) for key in staying if key != gone}
    if rest:
        busiest = max(rest, key=lambda key: rest[key])
        rest[busiest] += 100 - sum(rest.values())
    return rest
