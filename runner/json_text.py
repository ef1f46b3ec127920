"""Reading JSON from other programs, with ValueErrors that describe the problem for people."""

from __future__ import annotations

import json
import sys
from typing import Any


def parsed(text: str | bytes | bytearray) -> Any:
    """Return the value of a JSON text.

    Raises:
        ValueError: it is not JSON, or nested too deeply to be read; the message is for people.
    """
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    except UnicodeDecodeError as error:
        raise ValueError(f"it is not UTF-8: {place_of(error)}") from None
    except json.JSONDecodeError as error:
        raise ValueError(_mistake(error)) from None
    except ValueError:  # the interpreter's limit for integers, whose message is about Python
        raise ValueError(f"a number has more than {sys.get_int_max_str_digits()} digits") from None


def expected(problem: str) -> str:
    """Return what the JSON parser expected, such as `expected ','`, or its message."""
    if problem.startswith("Expecting "):
        return f"expected {problem.removeprefix('Expecting ').removesuffix(' delimiter')}"
    return problem[:1].lower() + problem[1:]


def place_of(error: UnicodeDecodeError) -> str:
    """Return `line 2 contains the byte 0xe9` for text that is not UTF-8."""
    line = error.object.count(b"\n", 0, error.start) + 1
    return f"line {line} contains the byte 0x{error.object[error.start]:02x}"


def _mistake(error: json.JSONDecodeError) -> str:
    where = f"line {error.lineno}, column {error.colno}"
    if error.msg == "Extra data":
        return f"something follows the end of the JSON value at {where}"
    if error.doc[error.pos :].strip():
        return f"{expected(error.msg)} at {where}"
    return f"it is cut off at {where}" if error.doc.strip() else "it is empty"
