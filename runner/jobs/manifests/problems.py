"""What is wrong with a manifest, as `file:line: path: what`."""

from __future__ import annotations

import difflib
from typing import Any

from runner.jobs.manifests.located_yaml import Located
from runner.jobs.manifests.schema import TuningJobManifest


def translated(file: str, document: Located, error: Any) -> str:
    """Return one mistake that the schema found, in words for whoever wrote the file."""
    path = tuple(step for step in error["loc"] if step != "[key]")
    kind, context = error["type"], error.get("ctx") or {}
    message = str(error["msg"])
    if kind == "extra_forbidden":
        message = f"unknown field{_suggestion(path)}"
    elif kind == "missing":
        message = "is missing"
    elif kind == "literal_error":
        message = f"{error['input']!r} is not {context.get('expected')}"
    elif kind == "string_pattern_mismatch":
        message = f"{error['input']!r} does not match {context.get('pattern')}"
    elif kind.endswith("_type"):
        wanted = {
            "int_type": "a whole number",
            "float_type": "a number",
            "string_type": "a text",
            "bool_type": "true or false",
        }
        wanted |= {"list_type": "a list", "dict_type": "a mapping", "model_type": "a mapping"}
        message = f"{_shown(error['input'])} is not {wanted.get(kind, kind)}"
    elif kind == "value_error":
        message = message.removeprefix("Value error, ")
    elif message.startswith("Input should be "):
        message = f"{_shown(error['input'])} is not {message.removeprefix('Input should be ')}"
    return problem_at(file, document.line_of(path), path, message)


def _shown(value: Any) -> str:
    return "nothing" if value is None else "a mapping" if isinstance(value, dict) else repr(value)[:80]


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
    """Return `file:line: path: what`."""
    where = ".".join(str(step) for step in path)
    return f"{file}:{line}: {where}: {message}" if where else f"{file}:{line}: {message}"
