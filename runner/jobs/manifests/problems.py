"""Errors in a manifest, as `file:line: path: text`."""

from __future__ import annotations

import difflib
from typing import Any

from runner.jobs.manifests.located_yaml import Located
from runner.jobs.manifests.schema import PATTERNS, TuningJobManifest
from runner.prices import DOLLARS


def translated(file: str, document: Located, error: Any) -> str:
    """Describe one error of the schema for the author of the file."""
    path = tuple(step for step in error["loc"] if step != "[key]")
    kind, context, given = error["type"], error.get("ctx") or {}, shown(error["input"])
    bound = next((context[key] for key in ("max_length", "min_length") if key in context), None)
    if kind == "extra_forbidden":
        message = f"unknown field{_suggestion(path)}"
    elif kind == "missing":
        message = "is missing"
    elif kind == "literal_error":
        message = f"{given} is not {context.get('expected')}"
    elif kind == "string_pattern_mismatch":
        message = f"{given} is not {PATTERNS[context['pattern']]}"
    elif kind in _WANTED:
        message = f"{given} is not {_WANTED[kind]}"
    elif kind == "string_too_long":
        message = f"{len(error['input'])} characters; at most {bound} are allowed"
    elif kind == "too_long":
        message = f"{context['actual_length']} entries; at most {bound} are allowed"
    elif kind in ("string_too_short", "too_short"):
        message = "is empty"
    elif kind == "value_error":
        message = str(error["msg"]).removeprefix("Value error, ")
    elif kind in _BOUNDS:
        words, key = _BOUNDS[kind]
        message = f"{given} is not {words} {context[key]:g}"
    else:
        message = f"{given}: {error['msg']}"
    return problem_at(file, document.line_of(path), path, message)


_WANTED = {
    "dollars": DOLLARS,
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "finite_number": "a number that a job can use",
    "string_type": "a text",
    "bool_type": "true or false",
    "list_type": "a list",
    "dict_type": "a mapping",
    "model_type": "a mapping",
}
_BOUNDS = {
    "greater_than": ("above", "gt"),
    "greater_than_equal": ("at least", "ge"),
    "less_than_equal": ("at most", "le"),
}
_SHOWN = 60
"""Maximum number of characters of a value in messages."""


def shown(value: Any) -> str:
    """Return a value in YAML syntax, truncated if long."""
    if isinstance(value, dict | list):
        return "a mapping" if isinstance(value, dict) else "a list"
    if value is None or isinstance(value, bool):
        return "nothing" if value is None else str(value).lower()
    text = f"{value:g}" if isinstance(value, float) else repr(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"


def _suggestion(path: tuple[str | int, ...]) -> str:
    model: Any = TuningJobManifest
    for step in path[:-1]:
        fields = {item.alias or name: item for name, item in getattr(model, "model_fields", {}).items()}
        annotation = fields[step].annotation if step in fields else None
        options = [annotation, *getattr(annotation, "__args__", ())]
        model = next((item for item in options if hasattr(item, "model_fields")), None)
    known = [item.alias or name for name, item in getattr(model, "model_fields", {}).items()]
    near = difflib.get_close_matches(str(path[-1]), known, n=1, cutoff=0.5)
    return f"; did you mean {near[0]}?" if near else f"; known: {', '.join(known)}" if known else ""


def problem_at(file: str, line: int, path: tuple[str | int, ...], message: str) -> str:
    """Return `file:line: path: text`."""
    where = ".".join(str(step) for step in path)
    text = f"{file}:{line}: {where}: {message}" if where else f"{file}:{line}: {message}"
    return "".join(char if char.isprintable() else ascii(char)[1:-1] for char in text)
