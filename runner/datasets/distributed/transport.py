"""Data that workers send one another and back: totals and accounts, as bytes that are read without running code."""

from __future__ import annotations

from array import array
from collections.abc import Iterable
from typing import Any, TypeVar, get_origin

import msgspec

from runner.datasets.checking.columns import Column
from runner.datasets.checking.totals import Totals
from runner.datasets.distributed import pipelines

T = TypeVar("T")


def encode(value: Any) -> bytes:
    """Return totals, settings or an account as bytes for another machine."""
    return msgspec.msgpack.encode(value, enc_hook=_plain)


def decode(data: bytes, kind: type[T]) -> T:
    """Return the value in bytes from `encode`; unlike unpickling, this runs no code from the bytes."""
    return msgspec.msgpack.decode(data, type=kind, dec_hook=_restored)


def write(value: Any, address: str) -> None:
    """Write a value to a file for `read`."""
    pipelines.write(address, encode(value))


def read(address: str, kind: type[T]) -> T:
    """Return the value in a file from `write`."""
    return decode(pipelines.read(address), kind)


def read_totals(address: str) -> Totals:
    """Return the totals of a whole source that `add_up` has joined."""
    ((_, _, data),) = read(address, list[tuple[int, int, bytes]])
    return decode(data, Totals)


def add_up(groups: Iterable[list[tuple[int, int, bytes]]]) -> list[tuple[int, int, bytes]]:
    """Join the totals of adjacent ranges; ranges with gaps between them stay separate.

    Args:
        groups: lists of first range, last range and encoded totals.
    """
    parts = sorted(part for group in groups for part in group)
    joined: list[tuple[int, int, bytes]] = []
    whole: Totals | None = None
    first = last = -1
    for start, end, data in parts:
        if whole is not None and start == last + 1:
            whole.add(decode(data, Totals))
            last = end
            continue
        if whole is not None:
            joined.append((first, last, encode(whole)))
        whole, first, last = decode(data, Totals), start, end
    if whole is not None:
        joined.append((first, last, encode(whole)))
    return joined


def _plain(value: Any) -> Any:
    return value.tobytes() if isinstance(value, Column) else str(value)  # it is a path


def _restored(kind: Any, value: Any) -> Any:
    return Column(array("Q", value)) if kind is Column else (get_origin(kind) or kind)(value)
