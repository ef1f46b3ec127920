"""What workers send one another and back: totals and accounts as bytes that are read without running code of theirs."""

from __future__ import annotations

import dataclasses
from array import array
from collections import Counter
from pathlib import Path
from typing import Any

import msgspec

from runner.datasets.checking.columns import Column
from runner.datasets.checking.ranges import Settings
from runner.datasets.checking.totals import Tally, Totals
from runner.datasets.examples import Finding


def add_up(groups: Any) -> list[tuple[int, int, bytes]]:
    """Join totals of neighbouring ranges; what is not joined yet stays beside it.

    Args:
        groups: lists of first range, last range and encoded totals.
    """
    parts = sorted(part for group in groups for part in group)
    joined: list[tuple[int, int, bytes]] = []
    whole: Totals | None = None
    first = last = -1
    for start, end, data in parts:
        if whole is not None and start == last + 1:
            whole.add(decode(data))
            last = end
            continue
        if whole is not None:
            joined.append((first, last, encode(whole)))
        whole, first, last = decode(data), start, end
    if whole is not None:
        joined.append((first, last, encode(whole)))
    return joined


def encode(totals: Totals) -> bytes:
    """Return totals as bytes, to be sent to another machine."""
    return msgspec.msgpack.encode(_packed(totals))


def decode(data: bytes) -> Totals:
    """Return the totals in bytes that `encode` made; unlike unpickling it, this runs no code of theirs."""
    totals: Totals = _unpacked(Totals(), msgspec.msgpack.decode(data))
    return totals


def _packed(value: Any) -> Any:
    if isinstance(value, (Totals, Tally)):
        return {item.name: _packed(getattr(value, item.name)) for item in dataclasses.fields(value)}
    if isinstance(value, Column):
        return b"".join(chunk.tobytes() for chunk in value.chunks())
    if isinstance(value, Finding):
        return value.to_json()
    return [_packed(item) for item in value] if isinstance(value, list) else value


def _unpacked(like: Any, value: Any) -> Any:
    """Return what was packed, of the type of `like`."""
    if isinstance(like, (Totals, Tally)):
        for item in dataclasses.fields(like):
            setattr(like, item.name, _unpacked(getattr(like, item.name), value[item.name]))
        return like
    if isinstance(like, Column):
        return Column(array("Q", value))
    if isinstance(like, Counter):
        return Counter(value)
    if isinstance(like, list):
        return [
            Finding(**item) if isinstance(item, dict) else tuple(item) if isinstance(item, list) else item
            for item in value
        ]
    return value


def encode_settings(settings: Settings) -> bytes:
    """Return settings as bytes."""
    body = {item.name: getattr(settings, item.name) for item in dataclasses.fields(settings)}
    return msgspec.msgpack.encode({**body, "tokenizer": str(settings.tokenizer) if settings.tokenizer else None})


def decode_settings(data: bytes) -> Settings:
    """Return the settings in bytes that `encode_settings` made."""
    body = msgspec.msgpack.decode(data)
    return Settings(**{**body, "tokenizer": Path(body["tokenizer"]) if body["tokenizer"] else None})
