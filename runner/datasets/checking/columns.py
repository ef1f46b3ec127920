"""A column of 64-bit numbers, one for each line of a file, with bounded memory.

Beyond a threshold, the numbers move to an unnamed file: 100 million lines need no more memory than a million.
"""

from __future__ import annotations

import tempfile
from array import array
from collections.abc import Iterable, Iterator
from typing import Any

KEPT = 1 << 19
"""Default number of values in memory: 4 MiB."""
_CHUNK = 1 << 19
"""Size of a number, in bytes."""


class Column:
    """Numbers from 0 to 2**64 - 1, appended at the end.

    Args:
        numbers: the initial numbers.
        kept: how many numbers are kept in memory; if there are more, all of them are in a file.
    """

    def __init__(self, numbers: Iterable[int] = (), *, kept: int = KEPT) -> None:
        self._kept = kept
        self._file: Any = tempfile.SpooledTemporaryFile(8 * kept, prefix="runner-digests-")  # noqa: SIM115 - see __del__
        self._count = 0
        self.extend(numbers)

    def __len__(self) -> int:
        """Return the number of entries."""
        return self._count

    def extend(self, numbers: Iterable[int]) -> None:
        """Append numbers at the end."""
        for chunk in numbers.chunks() if isinstance(numbers, Column) else [numbers]:
            added = chunk if isinstance(chunk, array) else array("Q", chunk)
            self._file.seek(0, 2)
            self._file.write(added)
            self._count += len(added)

    def chunks(self) -> Iterator[array[int]]:
        """Yield all numbers in order, in chunks."""
        for start in range(0, 8 * self._count, _CHUNK):
            self._file.seek(start)
            yield array("Q", self._file.read(_CHUNK))

    def __iter__(self) -> Iterator[int]:
        """Yield all numbers in order."""
        for chunk in self.chunks():
            yield from chunk

    def tobytes(self) -> bytes:
        """Return all numbers, in eight bytes each."""
        return b"".join(map(bytes, self.chunks()))

    def __eq__(self, other: object) -> bool:
        """Return whether another column has the same numbers."""
        return isinstance(other, Column) and self.tobytes() == other.tobytes()

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle the column with all its numbers, for another process."""
        return _joined, (self.tobytes(), self._kept)

    def __del__(self) -> None:
        """Close the file."""
        self._file.close()


def _joined(data: bytes, kept: int) -> Column:
    return Column(array("Q", data), kept=kept)
