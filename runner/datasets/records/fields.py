"""The keys of a record, each of which is either used or reported as not carried over."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, NamedTuple

from runner.datasets.rules.value_checks import closest

_SHOWN = 60
"""Maximum characters of a reported value."""
_LEAVES = 50
"""Maximum values reported for one key."""
_NEAR = 0.8


class UnfitError(Exception):
    """A record that cannot become an example; the message says where and why."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


class Loss(NamedTuple):
    """A value of a record that is not in its example."""

    path: str
    """JSON path in the record, such as `messages[1].weight`, or the name of a column in a table."""
    value: str
    """The value as JSON, shortened."""


@dataclass(slots=True)
class Account:
    """What happened to a record, besides its example."""

    losses: list[Loss] = field(default_factory=list)
    """Values of the record that are not in the example."""
    notes: list[str] = field(default_factory=list)
    """What was corrected or interpreted differently: misspelled keys, names of roles, omitted turns."""

    def lose(self, path: str, value: Any) -> None:
        """Report a value that is not carried over, with everything in it; None is not reported."""
        self.losses += [Loss(*leaf) for leaf in leaves(value, path)]


class Fields:
    """The keys of one object. Call `leave` after all known keys were used.

    Args:
        body: the object.
        path: its JSON path in the record; empty for the record itself.
        account: receives values that are not carried over, and near misses that are interpreted as known keys.
    """

    def __init__(self, body: dict[str, Any], path: str, account: Account) -> None:
        self._rest = dict(body)
        self.path = path
        self._account = account

    def place(self, key: str) -> str:
        """Return the JSON path of a key."""
        return f"{self.path}.{key}" if self.path else key

    def get(self, key: str | None) -> Any:
        """Return the value of a key that was not used before."""
        return self._rest.get(key) if key is not None else None

    def find(self, *names: str, near: bool = False) -> str | None:
        """Return the first of these keys that has a value, as it is written; None if there is none.

        Args:
            names: keys; case and underscores are ignored.
            near: also accept a misspelled key.
        """
        lowered = {_plain(key): key for key in reversed(self._rest) if self._rest[key] is not None}
        for name in names:
            if self._rest.get(name) is not None:
                return name
            if (key := lowered.get(_plain(name))) is not None:
                return key
        for name in names if near else ():
            if (match := closest(_plain(name), tuple(lowered), _NEAR)) is not None:
                return lowered[match]
        return None

    def pop(self, *names: str, near: bool = False) -> tuple[str, Any]:
        """Return the JSON path and the value of the key that `find` finds, and count it as carried over.

        If there is none, return the first name, and None.
        """
        key = self.find(*names, near=near)
        if key is None:
            return self.place(names[0]), None
        if _plain(key) not in map(_plain, names):
            self._account.notes.append(f"key {key[:40]!r} renamed {closest(_plain(key), names, 0) or names[0]!r}")
        return self.place(key), self._rest.pop(key)

    def take(self, *names: str, near: bool = False) -> Any:
        """Return the value that `pop` returns."""
        return self.pop(*names, near=near)[1]

    def leave(self) -> None:
        """Report every key that was not used; a key without a value is not reported."""
        for key, value in self._rest.items():
            self._account.lose(self.place(key), value)
        self._rest.clear()


@lru_cache(4096)
def _plain(key: str) -> str:
    return key.lower().replace("_", "").strip()


def leaves(value: Any, path: str) -> Iterator[tuple[str, str]]:
    """Yield the JSON paths and texts of a value's contents, at most fifty, then the number of the others."""
    found = _walk(value, path)
    for count, leaf in enumerate(found):
        if count == _LEAVES:
            yield path, f"and {1 + sum(1 for _ in found)} more values"
            return
        yield leaf


def _walk(value: Any, path: str) -> Iterator[tuple[str, str]]:
    if value is None:
        return
    if isinstance(value, dict) and value:
        for key, child in value.items():
            yield from _walk(child, f"{path}.{key}")
    elif isinstance(value, list) and value:
        for index, child in enumerate(value):
            yield from _walk(child, f"{path}[{index}]")
    else:
        yield path, shortened(value)


def _described(value: Any) -> str:
    return f"{len(value)} bytes" if isinstance(value, bytes) else str(value)


def shortened(value: Any) -> str:
    """Return a value as JSON, at most 60 characters of it."""
    text = json.dumps(value, ensure_ascii=False, default=_described)
    text = text.encode("utf-8", "backslashreplace").decode()
    return text if len(text) <= _SHOWN else text[: _SHOWN - 1] + "…"
