"""Reads typed values from a configuration of texts, and collects all mistakes."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

NAMESPACE = "open-model-tuning"


def as_texts(values: Mapping[str, Any]) -> dict[str, str]:
    """Return settings in the form in which Pulumi passes them to a program: texts unchanged, all else as JSON."""
    return {key: value if isinstance(value, str) else json.dumps(value, default=str) for key, value in values.items()}


class Reader:
    """Reads typed values and collects mistakes."""

    def __init__(self, values: Mapping[str, str]) -> None:
        self.values = values
        self.problems: list[str] = []
        self.asked: set[str] = set()
        """Full keys that were read, set or not: no other key has an effect."""

    def problem(self, key: str, text: str) -> None:
        """Record a mistake in one of the program's own keys."""
        self.problems.append(f"{NAMESPACE}:{key} {text}")

    def raw(self, key: str) -> str:
        """Return the text of a key, or "" if it is not set."""
        name = key if ":" in key else f"{NAMESPACE}:{key}"
        self.asked.add(name)
        return self.values.get(name, "")

    def text(self, key: str, shape: re.Pattern[str], wanted: str, *, default: str = "", required: bool = False) -> str:
        """Return a text that matches a pattern."""
        value = self.raw(key) or default
        name = key if ":" in key else f"{NAMESPACE}:{key}"
        if not value and required:
            self.problems.append(f"{name} is not set: {wanted} is needed")
        elif value and not shape.fullmatch(value):
            self.problems.append(f"{name} is {value!r}: {wanted} is needed")
        return value

    def choice(self, key: str, offered: tuple[str, ...], default: str) -> str:
        """Return one of several words."""
        value = self.raw(key) or default
        if value not in offered:
            self.problem(key, f"is {value!r}: it is one of {', '.join(offered)}")
            return default
        return value

    def number(self, key: str, default: int, *, low: int, high: int) -> int:
        """Return a whole number in a range."""
        text = self.raw(key)
        if not text:
            return default
        if not re.fullmatch(r"0|-?[1-9][0-9]{0,11}", text):
            self.problem(key, f"is {text!r}: a whole number is needed")
            return default
        if not low <= int(text) <= high:
            self.problem(key, f"is {text}: it goes from {low} to {high}")
            return default
        return int(text)

    def boolean(self, key: str, default: bool) -> bool:
        """Return true or false."""
        text = self.raw(key)
        if text in {"true", "false"}:
            return text == "true"
        if text:
            self.problem(key, f"is {text!r}: true or false is needed")
        return default

    def json(self, key: str, kind: type, default: Any) -> Any:
        """Return an object or a list."""
        text = self.raw(key)
        if not text:
            return default
        try:
            value = json.loads(text)
        except (ValueError, RecursionError):
            value = None
        if not isinstance(value, kind):
            self.problem(key, f"is {text!r}: a JSON {'object' if kind is dict else 'list'} is needed")
            return default
        return value

    def texts(self, key: str, shape: re.Pattern[str], wanted: str) -> tuple[str, ...]:
        """Return a list of distinct texts that match a pattern."""
        found = self.json(key, list, [])
        for item in found:
            if not isinstance(item, str) or not shape.fullmatch(item):
                self.problem(key, f"holds {item!r}: {wanted} is needed")
        return tuple(dict.fromkeys(str(item) for item in found))
