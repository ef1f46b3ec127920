"""Recovers objects from a line that the strict decoder refuses: what is certain, and what was given up."""

from __future__ import annotations

import ast
import json
from typing import Any

from runner.datasets.reading.rows import Written
from runner.datasets.records.fields import Account, Loss, UnfitError, shortened
from runner.datasets.rules.formats import MAX_DEPTH
from runner.datasets.rules.json_objects import deeper_than

_LONGEST_LITERAL = 1 << 20
"""Maximum characters of a value in Python's notation, the result of `str` in place of `json.dumps`."""


def strict_decoder(account: Account) -> json.JSONDecoder:
    """Return a JSON decoder that adds to an account what it cannot keep.

    Of a duplicate key, the last value is used; NaN and infinities, which JSON does not have, are omitted.
    """
    return json.JSONDecoder(object_pairs_hook=lambda items: _object(items, account), parse_float=Written)


def python_literal(text: str) -> Any:
    """Return a value in Python's notation. Raises ValueError, also for a duplicate key."""
    try:
        tree = ast.parse(text.strip() if len(text) <= _LONGEST_LITERAL else "", mode="eval")
        for node in ast.walk(tree):
            if isinstance(node, ast.Dict):
                keys = [ast.dump(key) for key in node.keys if key is not None]
                if len(set(keys)) < len(keys):
                    raise ValueError("a key is there twice")
        return ast.literal_eval(tree)
    except (SyntaxError, RecursionError, MemoryError) as error:
        raise ValueError(str(error)) from error


def objects_of(data: bytes, account: Account) -> list[dict[str, Any]]:
    """Return the JSON objects of a line, one after another, possibly with commas between them.

    Args:
        data: the line.
        account: receives what was done.

    Raises:
        UnfitError: the line contains something else.
    """
    try:
        text = data.decode("utf-8").lstrip("\ufeff")
    except UnicodeDecodeError as error:
        raise UnfitError(f"byte {error.start} of the line is not UTF-8") from None
    if data.startswith(b"\xef\xbb\xbf"):
        account.notes.append("byte order mark removed")
    if "\0" in text:
        text = text.replace("\0", "")
        account.notes.append("NUL bytes removed")

    decoder = strict_decoder(account)
    found: list[dict[str, Any]] = []
    position = 0
    text = text.strip()
    if text.startswith("{'"):
        text = _rewritten(text, account)
    while position < len(text):
        try:
            value, position = decoder.raw_decode(text, position)
        except RecursionError:
            raise UnfitError(f"nested deeper than {MAX_DEPTH} levels") from None
        except ValueError as error:
            raise UnfitError(f"not JSON: {error}") from None
        if deeper_than(value, MAX_DEPTH):
            raise UnfitError(f"nested deeper than {MAX_DEPTH} levels")
        found.append(value)
        while position < len(text) and (text[position].isspace() or text[position] in ",\ufeff"):
            position += 1
    return found


def _rewritten(text: str, account: Account) -> str:
    """Return the JSON of an object in Python's notation, or the unchanged text if it is not one."""
    try:
        found = json.dumps(python_literal(text))
    except (ValueError, TypeError, RecursionError):
        return text
    account.notes.append("Python's notation written as JSON")
    return found


def _object(items: list[tuple[str, Any]], account: Account) -> dict[str, Any]:
    body: dict[str, Any] = {}
    for key, value in items:
        if key in body:
            account.losses.append(Loss(key, shortened(body[key])))
            account.notes.append(f"the key {key[:40]!r} appears twice: the last value kept")
        body[key] = value
    for key in [key for key, value in body.items() if type(value) is float]:  # all other numbers are `Written`
        account.losses.append(Loss(key, shortened(body[key])))
        account.notes.append(f"{shortened(body.pop(key))} removed")
    return body
