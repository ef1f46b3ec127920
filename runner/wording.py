"""The spelling of numbers and keys."""

from __future__ import annotations

from typing import TypeVar, cast

_Document = TypeVar("_Document")


def counted(number: int, noun: str) -> str:
    """Return `1 row` or `2 rows`."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def shortened(text: str, limit: int) -> str:
    """Return a text, cut to a maximum number of characters; … says that something is missing."""
    return text if len(text) <= limit else f"{text[: limit - 1].rstrip()}…"


def tokens_of(count: int, epochs: int) -> str:
    """Return the number of trained tokens: `1,000 per epoch, 3,000 in 3 epochs`."""
    return f"{count:,} per epoch, {count * epochs:,} in {counted(epochs, 'epoch')}"


def state_words(state: str) -> str:
    """Return `waiting for quota` for `TUNING_JOB_STATE_WAITING_FOR_QUOTA`, `running` for `JOB_STATE_RUNNING`."""
    return state.removeprefix("TUNING_").removeprefix("JOB_STATE_").replace("_", " ").lower()


def camel_keys(body: _Document) -> _Document:
    """Return a JSON document with keys in the style of Google's APIs: `maxSequenceLength`.

    Names of Python fields become camel case; keys with capitals or other characters, such as `PEFT_ADAPTER`, are
    unchanged.
    """
    if isinstance(body, dict):
        spelled = {camel(key) if isinstance(key, str) else key: camel_keys(value) for key, value in body.items()}
        return cast(_Document, spelled)
    if isinstance(body, list | tuple):
        return cast(_Document, [camel_keys(item) for item in body])
    return body


def camel(name: str) -> str:
    """Return the camel case of a Python field name; names with capitals or other characters are unchanged."""
    if name != name.lower() or not name.replace("_", "").isalnum():
        return name
    first, *rest = name.split("_")
    return first + "".join(part.capitalize() for part in rest)
