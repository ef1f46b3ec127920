"""Keys and values of rows of a `DenseBatch`: neither a new token nor a row that joins or leaves moves the others.

Rows of about the same length lie together, padded on the right to the longest of them. Otherwise a few long rows beside
many short ones would make the attention read mostly padding.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as functional

from runner.emulator.engine.serving.dense import Attention, DenseDecoder, entries_place

_LEAST_CAPACITY = 128
"""Positions of the shortest bucket; each other one has twice as many as the one before."""


@dataclass(slots=True, eq=False)
class Row:
    """Where a sequence lies."""

    length: int
    """Positions that it has."""
    cache: Cache
    bucket: Bucket
    slot: int

    def move(self, other: Cache) -> None:
        """Go over to another cache."""
        cache, bucket, slot = self.cache, self.bucket, self.slot
        other.take(self, bucket.entries[:, slot, ..., : self.length, :])
        cache.give_up(bucket, slot)


class Bucket:
    """Rows that have at most `capacity` positions.

    Args:
        decoder: whose keys and values are kept.
        capacity: positions of a row.
    """

    def __init__(self, decoder: DenseDecoder, capacity: int) -> None:
        self.capacity = capacity
        self.rows: list[Row] = []
        shape = (decoder.layers, 0, 2, decoder.key_heads, capacity, decoder.head_size)
        self.entries = torch.zeros(shape, dtype=decoder.dtype)
        """Keys and values: (layers, slots, 2, key heads, positions, head size)."""
        self.bias = torch.zeros((0, capacity), dtype=decoder.dtype)
        """0 at the positions that a row has, else minus infinity: (slots, positions)."""

    def add(self, row: Row, entries: torch.Tensor) -> None:
        """Take in a row with its keys and values, shape (layers, 2, key heads, positions, head size)."""
        slot = len(self.rows)
        if slot == self.entries.shape[1]:
            old = self.entries
            # Untouched memory is zero and takes no room; what is masked must be finite.
            self.entries = old.new_zeros((old.shape[0], max(4, 2 * slot), *old.shape[2:]))
            width = max((one.length for one in self.rows), default=0)
            self.entries[:, :slot, :, :, :width] = old[..., :width, :]
            self.bias = functional.pad(self.bias, (0, 0, 0, self.entries.shape[1] - slot))
        self.entries[:, slot, :, :, : row.length] = entries
        self._settle(row, slot)
        self.rows.append(row)

    def remove(self, slot: int) -> None:
        """Give a row up; the last one takes its slot."""
        last = self.rows.pop()
        if slot < len(self.rows):
            self.entries[:, slot, :, :, : last.length] = self.entries[:, last.slot, :, :, : last.length]
            self._settle(last, slot)
            self.rows[slot] = last

    def _settle(self, row: Row, slot: int) -> None:
        row.bucket, row.slot = self, slot
        self.bias[slot, : row.length] = 0
        self.bias[slot, row.length :] = -torch.inf


class Cache:
    """All rows.

    Args:
        decoder: whose keys and values are kept.
    """

    def __init__(self, decoder: DenseDecoder) -> None:
        self._decoder = decoder
        self._buckets: dict[int, Bucket] = {}

    def add(self, entries: torch.Tensor) -> Row:
        """Take in a row with its keys and values, shape (layers, 2, key heads, positions, head size)."""
        bucket = self._bucket(entries.shape[3])
        row = Row(entries.shape[3], self, bucket, 0)
        bucket.add(row, entries)
        return row

    def take(self, row: Row, entries: torch.Tensor) -> None:
        """Take in a row of another cache with its keys and values, as `add` does."""
        self._bucket(row.length).add(row, entries)
        row.cache = self

    def remove(self, row: Row) -> None:
        """Give a row up."""
        self.give_up(row.bucket, row.slot)

    def count(self) -> int:
        """Return how many rows there are."""
        return sum(len(bucket.rows) for bucket in self._buckets.values())

    def ordered(self) -> list[Row]:
        """Return the rows in the order in which `Writing` takes their tokens."""
        return [row for bucket in self._buckets.values() for row in bucket.rows]

    def make_room(self) -> None:
        """Move the rows that have no room for one more position."""
        for row in self.ordered():
            bucket, slot = row.bucket, row.slot
            if row.length == bucket.capacity:
                self._bucket(row.length).add(row, bucket.entries[:, slot])
                self.give_up(bucket, slot)

    def buckets(self) -> list[Bucket]:
        """Return the buckets, of which none is empty."""
        return list(self._buckets.values())

    def give_up(self, bucket: Bucket, slot: int) -> None:
        """Free a slot, whoever had it."""
        bucket.remove(slot)
        if not bucket.rows:
            del self._buckets[bucket.capacity]

    def _bucket(self, length: int) -> Bucket:
        """Return the one for rows of a length, with room for a position more."""
        capacity = max(_LEAST_CAPACITY, 1 << length.bit_length())
        if capacity not in self._buckets:
            self._buckets[capacity] = Bucket(self._decoder, capacity)
        return self._buckets[capacity]


class Writing(Attention):
    """One token a row, in the cache's order; the rows' lengths are counted by the caller, afterwards."""

    def __init__(self, cache: Cache) -> None:
        self._cache = cache
        self._parts: list[tuple[Any, ...]] = []

    def rows(self) -> list[tuple[int, int, int, int, int]]:
        """Return where each row lies."""
        return [
            entries_place(bucket.entries[:, row.slot], 1) for bucket in self._cache.buckets() for row in bucket.rows
        ]

    def _prepare(self) -> None:
        start = 0
        for bucket in self._cache.buckets():
            slots = torch.arange(len(bucket.rows))
            places = torch.tensor([row.length for row in bucket.rows])
            bucket.bias[slots, places] = 0
            width = int(places.max()) + 1
            bias = bucket.bias[: len(slots), None, None, :width]
            entries = bucket.entries[:, : len(slots)]
            # All layers' views at once: each view takes as long as a small operation.
            keys, values = (entries[:, :, kind, :, :width].unbind() for kind in (0, 1))
            part = slice(start, start + len(slots))
            self._parts.append((part, slots, places, bias, entries.unbind(), keys, values))
            start += len(slots)

    def __call__(self, layer: int, queries: torch.Tensor, entries: torch.Tensor) -> torch.Tensor:
        """Store keys and values, and return what the queries read."""
        if not layer:
            self._prepare()
        read = []
        for part, slots, places, bias, stored, keys, values in self._parts:
            stored[layer][slots, :, :, places] = entries[part]
            read.append(
                functional.scaled_dot_product_attention(
                    queries[part].unsqueeze(2), keys[layer], values[layer], attn_mask=bias, enable_gqa=True
                )
            )
        return read[0] if len(read) == 1 else torch.cat(read)
