"""A column of 64-bit numbers, one for each line of a file, in bounded memory.

The newest stay in memory, the others go to a file without a name: 100 million lines need no more memory than a million.
"""

from __future__ import annotations

import tempfile
from array import array
from collections.abc import Iterable, Iterator
from typing import Any

KEPT = 1 << 19
"""Numbers in memory, where nothing else is said: 4 MiB."""
_CHUNK = 1 << 16


class Column:
    """Numbers from 0 to 2**64 - 1, added at the end.

    Args:
        numbers: the first ones.
        kept: numbers in memory, beside those added last.
    """

    def __init__(self, numbers: Iterable[int] = (), *, kept: int = KEPT) -> None:
        self._kept = kept
        self._tail = array("Q", numbers)
        self._spilled = 0
        self._file: Any = None

    def __len__(self) -> int:
        """Return how many there are."""
        return self._spilled + len(self._tail)

    def extend(self, numbers: Iterable[int]) -> None:
        """Add numbers at the end."""
        if len(self._tail) >= self._kept:
            self._spill()
        if isinstance(numbers, Column):
            for chunk in numbers.chunks():
                self.extend(chunk)
        else:
            self._tail.extend(numbers if isinstance(numbers, array) else array("Q", numbers))

    def chunks(self) -> Iterator[array[int]]:
        """Yield all numbers in order, some at a time."""
        for start in range(0, self._spilled, _CHUNK):
            yield self._read(start, min(_CHUNK, self._spilled - start))
        if self._tail:
            yield self._tail

    def __iter__(self) -> Iterator[int]:
        """Yield all numbers in order."""
        for chunk in self.chunks():
            yield from chunk

    def __getitem__(self, place: int) -> int:
        """Return one number."""
        return self._tail[place - self._spilled] if place >= self._spilled else self._read(place, 1)[0]

    def __eq__(self, other: object) -> bool:
        """Tell whether another column has the same numbers."""
        if not isinstance(other, Column):
            return NotImplemented
        return len(self) == len(other) and all(mine == theirs for mine, theirs in zip(self, other, strict=True))

    __hash__ = None  # type: ignore[assignment]

    def __reduce__(self) -> tuple[Any, ...]:
        """Go to another process whole."""
        return _joined, (b"".join(chunk.tobytes() for chunk in self.chunks()), self._kept)

    def __del__(self) -> None:
        """Give the file back."""
        if self._file is not None:
            self._file.close()

    def _spill(self) -> None:
        if self._file is None:
            self._file = tempfile.TemporaryFile(prefix="runner-digests-")  # noqa: SIM115 - closed by __del__
        self._file.seek(0, 2)
        self._tail.tofile(self._file)
        self._spilled += len(self._tail)
        self._tail = array("Q")

    def _read(self, start: int, count: int) -> array[int]:
        numbers = array("Q")
        self._file.seek(8 * start)
        numbers.frombytes(self._file.read(8 * count))
        return numbers


def _joined(data: bytes, kept: int) -> Column:
    numbers = array("Q")
    numbers.frombytes(data)
    return Column(numbers, kept=kept)
