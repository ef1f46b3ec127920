"""Arithmetic of traffic splits: per cent by deployed model id, 100 together or none at all."""

from __future__ import annotations

from collections.abc import Mapping


def with_share(traffic: Mapping[str, int], model: str, percent: int) -> dict[str, int]:
    """Return a split in which `model` has `percent`, and the others share the rest as they did before.

    Others without traffic get none; where nobody else has any, `model` gets all.

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
    # The largest remainders get what rounding left; ties go to the one that comes first.
    for key in sorted(exact, key=lambda key: shares[key] - exact[key])[: rest - sum(shares.values())]:
        shares[key] += 1
    return {**{key: traffic[key] and shares.get(key, 0) for key in traffic if key != model}, model: percent}


def without(traffic: Mapping[str, int], staying: list[str], gone: str) -> dict[str, int]:
    """Return the split of the models that stay; what is freed goes to the busiest of them. {} if none stay."""
    rest = {key: traffic.get(key, 0) for key in staying if key != gone}
    if rest:
        busiest = max(rest, key=lambda key: rest[key])
        rest[busiest] += 100 - sum(rest.values())
    return rest
