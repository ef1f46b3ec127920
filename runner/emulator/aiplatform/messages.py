"""Requests as protobuf JSON: either spelling of names, enums by name or number, int64 as text or number.

A message is described by a table of its fields; `parse` turns what a client sent into the one canonical form that is
stored and sent back: camelCase names, enum names, int64 as text, defaults left out. Unknown names are refused.
Output-only fields are accepted and ignored, as the service does.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from runner.emulator.errors import ApiError
from runner.emulator.wire_json import camel_name as camel

Scalar = Literal["string", "bool", "int32", "int64", "double", "value"]


@dataclass(frozen=True, slots=True)
class Enum:
    """An enumeration: names to wire numbers."""

    name: str
    values: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Message:
    """A message: camelCase field names to their types."""

    name: str
    fields: Mapping[str, Type]


@dataclass(frozen=True, slots=True)
class Repeated:
    """A list of one type."""

    of: Type


@dataclass(frozen=True, slots=True)
class MapOf:
    """A map from text to one type."""

    of: Type


@dataclass(frozen=True, slots=True)
class Output:
    """A field that only the service sets; whatever a client sends in it is dropped."""


Type = Scalar | Enum | Message | Repeated | MapOf | Output

OUTPUT = Output()

_INT = re.compile(r"-?[0-9]{1,20}\Z")
_RANGES = {"int32": 2**31, "int64": 2**63}


def snake(name: str) -> str:
    """Return `camelCase` as `snake_case`."""
    return re.sub(r"([A-Z])", lambda match: "_" + match[1].lower(), name)


def parse(message: Message, body: Mapping[str, Any], root: str = "") -> dict[str, Any]:
    """Return the canonical form of a request body.

    Args:
        message: what the body must be.
        root: name of the request's field that the body fills (`tuning_job`), for error messages.

    Raises:
        ApiError: INVALID_ARGUMENT with every unknown name and every value of a wrong type.
    """
    violations: list[tuple[str, str]] = []
    parsed = _message(message, body, root, violations)
    if violations:
        raise ApiError(
            "INVALID_ARGUMENT",
            "\n".join(text for _, text in violations),
            details=[
                {
                    "@type": "type.googleapis.com/google.rpc.BadRequest",
                    "fieldViolations": [{"field": field, "description": text} for field, text in violations],
                }
            ],
        )
    return parsed


def _message(message: Message, body: Any, path: str, violations: list[tuple[str, str]]) -> dict[str, Any]:
    if not isinstance(body, Mapping):
        _wrong(path, f"type.googleapis.com/{message.name}", body, violations)
        return {}
    parsed: dict[str, Any] = {}
    for key, value in body.items():
        name = camel(key)
        kind = message.fields.get(name)
        if kind is None:
            place = f" at '{path}'" if path else ""
            violations.append((path, f'Invalid JSON payload received. Unknown name "{key}"{place}: Cannot find field.'))
            continue
        if value is None or isinstance(kind, Output):
            continue
        converted = _value(kind, value, f"{path}.{snake(name)}" if path else snake(name), violations)
        if converted not in (None, "", False, 0, "0") or isinstance(converted, dict):
            parsed[name] = converted
    return parsed


def _value(kind: Type, value: Any, path: str, violations: list[tuple[str, str]]) -> Any:
    if isinstance(kind, Message):
        return _message(kind, value, path, violations)
    if isinstance(kind, Repeated):
        if not isinstance(value, list):
            return _wrong(path, "repeated", value, violations)
        return [_value(kind.of, item, f"{path}[{index}]", violations) for index, item in enumerate(value)] or None
    if isinstance(kind, MapOf):
        if not isinstance(value, Mapping):
            return _wrong(path, "map", value, violations)
        return {str(key): _value(kind.of, item, f"{path}[{key}]", violations) for key, item in value.items()}
    if isinstance(kind, Enum):
        return _enum(kind, value, path, violations)
    if isinstance(kind, Output) or kind == "value":
        return value
    return _scalar(kind, value, path, violations)


def _enum(kind: Enum, value: Any, path: str, violations: list[tuple[str, str]]) -> str | None:
    numbers = {number: name for name, number in kind.values.items()}
    name: str | None = None
    if isinstance(value, str):
        name = value if value in kind.values else numbers.get(int(value)) if _INT.match(value) else None
    elif (whole := _integer(value)) is not None:
        name = numbers.get(whole)
    if name is None:
        _wrong(path, f"type.googleapis.com/{kind.name}", value, violations)
        return None
    return None if kind.values[name] == 0 else name


def _scalar(kind: Scalar, value: Any, path: str, violations: list[tuple[str, str]]) -> Any:
    if kind == "string":
        return value if isinstance(value, str) else _wrong(path, "TYPE_STRING", value, violations)
    if kind == "bool":
        if value in ("true", "false"):
            return value == "true"
        return value if isinstance(value, bool) else _wrong(path, "TYPE_BOOL", value, violations)
    if kind == "double":
        number = _double(value)
        return number if number is not None else _wrong(path, "TYPE_DOUBLE", value, violations)
    whole = _integer(value)
    limit = _RANGES[kind]
    if whole is None or not -limit <= whole < limit:
        return _wrong(path, f"TYPE_{kind.upper()}", value, violations)
    return str(whole) if kind == "int64" else whole


def _integer(value: Any) -> int | None:
    if isinstance(value, str):
        return int(value) if _INT.match(value) else None
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return int(value) if value == int(value) else None


def _double(value: Any) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None


def _wrong(path: str, kind: str, value: Any, violations: list[tuple[str, str]]) -> None:
    shown = f'"{value}"' if isinstance(value, str) else str(value)[:100]
    violations.append((path, f"Invalid value at '{path}' ({kind}), {shown[:200]}"))
