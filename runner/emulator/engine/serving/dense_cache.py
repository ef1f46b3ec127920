"""Keys and values of the rows of a `DenseBatch`: new tokens, and rows that join or leave, do not move other rows.

Rows of similar length are stored together, padded on the right to the longest of them. Otherwise, a few long rows
beside many short ones would make attention mostly read padding.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as functional

from runner.emulator.engine.serving.dense import Attention, DenseDecoder, entries_place

_LEAST_CAPACITY = 128
"""Positions of the shortest bucket; each bucket has twice as many as the previous one."""


@dataclass(slots=True, eq=False)
class Row:
    """The location of a sequence."""

    length: int
    """Number of its positions."""
    cache: Cache
    bucket: Bucket
    slot: int

    def move(self, other: Cache) -> None:
        """Move to another cache."""
        cache, bucket, slot = self.cache, self.bucket, self.slot
        other.take(self, bucket.entries[:, slot, ..., : self.length, :])
        cache.give_up(bucket, slot)


class Bucket:
    """Rows with at most `capacity` positions.

    Args:
        decoder: determines the shape of keys and values.
        capacity: maximum positions of a row.
    """

    def __init__(self, decoder: DenseDecoder, capacity: int) -> None:
        self.capacity = capacity
        self.rows: list[Row] = []
        shape = (decoder.layers, 0, 2, decoder.key_heads, capacity, decoder.head_size)
        self.entries = torch.zeros(shape, dtype=decoder.dtype)
        """Keys and values: (layers, slots, 2, key heads, positions, head size)."""
        self.bias = torch.zeros((0, capacity), dtype=decoder.dtype)
        """0 at the positions of a row, otherwise minus infinity: (slots, positions)."""

    def add(self, row: Row, entries: torch.Tensor) -> None:
        """Add a row with its keys and values, shape (layers, 2, key heads, positions, head size)."""
        slot = len(self.rows)
        if slot == self.entries.shape[1]:
            old = self.entries
            # Untouched memory is zero and uses no RAM; masked values must be finite.
            self.entries = old.new_zeros((old.shape[0], max(4, 2 * slot), *old.shape[2:]))
            width = max((one.length for one in self.rows), default=0)
            self.entries[:, :slot, :, :, :width] = old[..., :width, :]
            self.bias = functional.pad(self.bias, (0, 0, 0, self.entries.shape[1] - slot))
        self.entries[:, slot, :, :, : row.length] = entries
        self._settle(row, slot)
        self.rows.append(row)

    def remove(self, slot: int) -> None:
        """Remove a row; the last one takes its slot."""
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
        decoder: determines the shape of keys and values.
    """

    def __init__(self, decoder: DenseDecoder) -> None:
        self._decoder = decoder
        self._buckets: dict[int, Bucket] = {}

    def add(self, entries: torch.Tensor) -> Row:
        """Add a row with its keys and values, shape (layers, 2, key heads, positions, head size)."""
        bucket = self._bucket(entries.shape[3])
        row = Row(entries.shape[3], self, bucket, 0)
        bucket.add(row, entries)
        return row

    def take(self, row: Row, entries: torch.Tensor) -> None:
        """Add a row of another cache with its keys and values, like `add`."""
        self._bucket(row.length).add(row, entries)
        row.cache = self

    def remove(self, row: Row) -> None:
        """Remove a row."""
        self.give_up(row.bucket, row.slot)

    def count(self) -> int:
        """Return the number of rows."""
        return sum(len(bucket.rows) for bucket in self._buckets.values())

    def ordered(self) -> list[Row]:
        """Return the rows in the order in which `Writing` expects their tokens."""
        return [row for bucket in self._buckets.values() for row in bucket.rows]

    def make_room(self) -> None:
        """Move the rows without space for another position."""
        for row in self.ordered():
            bucket, slot = row.bucket, row.slot
            if row.length == bucket.capacity:
                self._bucket(row.length).add(row, bucket.entries[:, slot])
                self.give_up(bucket, slot)

    def buckets(self) -> list[Bucket]:
        """Return the buckets that are not empty."""
        return list(self._buckets.values())

    def give_up(self, bucket: Bucket, slot: int) -> None:
        """Free a slot."""
        bucket.remove(slot)
        if not bucket.rows:
            del self._buckets[bucket.capacity]

    def _bucket(self, length: int) -> Bucket:
        """Return the bucket for rows of a length, with space for another position."""
        capacity = max(_LEAST_CAPACITY, 1 << length.bit_length())
        if capacity not in self._buckets:
            self._buckets[capacity] = Bucket(self._decoder, capacity)
        return self._buckets[capacity]


class Writing(Attention):
    """One token per row, in the cache's order; afterwards, the caller increases the rows' lengths."""

    def __init__(self, cache: Cache) -> None:
        self._cache = cache
        self._parts: list[tuple[Any, ...]] = []

    def rows(self) -> list[tuple[int, int, int, int, int]]:
        """Return the location of each row."""
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
            # All layers' views at once, because each view takes as long as a small operation.
            keys, values = (entries[:, :, kind, :, :width].unbind() for kind in (0, 1))
            part = slice(start, start + len(slots))
            self._parts.append((part, slots, places, bias, entries.unbind(), keys, values))
            start += len(slots)

    def __call__(self, layer: int, queries: torch.Tensor, entries: torch.Tensor) -> torch.Tensor:
        """Store keys and values, and return the results for the queries."""
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
