"""How numbers and keys are spelled."""

from __future__ import annotations

from typing import TypeVar, cast

_Document = TypeVar("_Document")


def counted(number: int, noun: str) -> str:
    """Return `1 row` or `2 rows`."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def tokens_of(count: int, epochs: int) -> str:
    """Return the tokens that epochs train: `1,000 per epoch, 3,000 in 3 epochs`."""
    return f"{count:,} per epoch, {count * epochs:,} in {counted(epochs, 'epoch')}"


def state_words(state: str) -> str:
    """Return `waiting for quota` for `TUNING_JOB_STATE_WAITING_FOR_QUOTA`, `running` for `JOB_STATE_RUNNING`."""
    return state.removeprefix("TUNING_").removeprefix("JOB_STATE_").replace("_", " ").lower()


def camel_keys(body: _Document) -> _Document:
    """Return a JSON document whose keys are spelled as Google's APIs spell theirs: `maxSequenceLength`.

    Names of Python fields become camel case; keys with capitals or other signs, such as `PEFT_ADAPTER`, stay.
    """
    if isinstance(body, dict):
        spelled = {camel(key) if isinstance(key, str) else key: camel_keys(value) for key, value in body.items()}
        return cast(_Document, spelled)
    if isinstance(body, list | tuple):
        return cast(_Document, [camel_keys(item) for item in body])
    return body


def camel(name: str) -> str:
    """Return the camel case of the name of a Python field; names with capitals or other signs stay."""
    if name != name.lower() or not name.replace("_", "").isalnum():
        return name
    first, *rest = name.split("_")
    return first + "".join(part.capitalize() for part in rest)
