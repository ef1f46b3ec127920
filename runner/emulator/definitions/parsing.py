"""Parses requests as protobuf JSON with a message's definition and the error messages of Google's own parser.

Requests can contain names in camelCase or snake_case, enums by name or number, int64 as text or number. The result has
camelCase names, names of enums and int64 as text; this form is stored and returned. All unknown names and wrong types
are reported together. Fields that only the service sets are ignored. Parsers are created when they are first needed.
"""

from __future__ import annotations

import base64
import binascii
import functools
import json
import math
import re
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

from runner.emulator.definitions.documents import Document
from runner.emulator.errors import ApiError

Faults = list[tuple[str, str]]
"""An error: the path of a field, and Google's sentence about it."""
Parser = Callable[[Any, str, Faults], Any]
"""Returns the canonical form of a value at a path; None if it is wrong."""

_INT = re.compile(r"-?[0-9]{1,20}\Z")
_DURATION = re.compile(r"-?(\d{1,12})(?:\.\d{1,9})?s\Z")
_MAX_DURATION = 315_576_000_000
_TIME = re.compile(r"\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d(?:\.\d{1,9})?(?:[Zz]|[+-]\d\d:\d\d)\Z")
_MASK = re.compile(r"[A-Za-z0-9_.,*`\s-]*\Z")
_UPPER = re.compile(r"[A-Z]")
_RANGES = {
    "int32": (-(2**31), 2**31),
    "uint32": (0, 2**32),
    "int64": (-(2**63), 2**63),
    "uint64": (0, 2**64),
}
_MAX_SHOWN = 200


def snake(name: str) -> str:
    """Return `camelCase` as `snake_case`."""
    return _UPPER.sub(lambda match: "_" + match[0].lower(), name)


class Message:
    """The parser of one message."""

    def __init__(self, document: Document, key: str) -> None:
        definition = document.messages[key]
        self.type = definition.get("name") or f"{document.package}.{key}"
        self.fields: dict[str, tuple[str, str, str]] = {}
        """By both spellings: camelCase name, snake_case name, type as written in the document."""
        for name, kind in definition["fields"].items():
            self.fields[name] = self.fields[snake(name)] = (name, snake(name), kind)
        self.names = frozenset(definition["fields"])
        self.output_only = frozenset(name for name, kind in definition["fields"].items() if is_output(kind))
        self._document = document
        self._oneofs = [(name, frozenset(fields)) for name, fields in definition.get("oneofs", {}).items()]

    def parse(self, body: Any, path: str, faults: Faults) -> Any:
        """Return the canonical form of a message."""
        if isinstance(body, list):
            return _cannot_start_list(path, faults)
        if not isinstance(body, Mapping):
            return wrong(path, f"type.googleapis.com/{self.type}", body, faults)
        parsed: dict[str, Any] = {}
        leave_out = self._document.leaves_defaults_out
        for key, value in body.items():
            found = self.fields.get(key)
            if found is None:
                place = f" at '{path}'" if path else ""
                faults.append((path, f'Invalid JSON payload received. Unknown name "{key}"{place}: Cannot find field.'))
                continue
            name, field, kind = found
            if value is None or name in self.output_only:
                continue
            if name in parsed:
                faults.append((path, f"Invalid JSON payload received. Field '{name}' is given twice."))
                continue
            converted = parser(self._document, kind)(value, f"{path}.{field}" if path else field, faults)
            if converted is None or (leave_out and _is_default(converted, kind)):
                continue
            parsed[name] = converted
        for name, members in self._oneofs:
            given = [key for key in parsed if key in members]
            if len(given) > 1:
                text = f"oneof field '{name}' is already set. Cannot set '{given[1]}'"
                faults.append((path, f"Invalid value{_at(path)} (oneof), {text}"))
        return parsed


@functools.cache
def message(document: Document, key: str) -> Message:
    """Return the parser of a message."""
    return Message(document, key)


def is_output(kind: str) -> bool:
    """Return whether a type is that of a field that only the service sets."""
    return kind.rstrip("!?").endswith("-")


@functools.cache
def parser(document: Document, kind: str) -> Parser:
    """Return the parser of a type in the notation of documents (see `make`)."""
    kind = kind.rstrip("-!?")
    if kind.startswith("["):
        return _list_of(parser(document, kind[1:]))
    if kind.startswith("{"):
        return _map_of(parser(document, kind[1:]))
    if kind.startswith("@"):
        return message(document, kind[1:]).parse
    if kind.startswith("#"):
        return _enum(document.enums[int(kind[1:])])
    return _any if kind == "any" else _single(_SCALARS[kind])


def refusal(faults: Faults) -> ApiError:
    """Return the 400 error with all errors, and google.rpc.BadRequest."""
    violations = [({"field": field} if field else {}) | {"description": text} for field, text in faults]
    detail = {"@type": "type.googleapis.com/google.rpc.BadRequest", "fieldViolations": violations}
    return ApiError("INVALID_ARGUMENT", "\n".join(text for _, text in faults), details=[detail])


def wrong(path: str, kind: str, value: Any, faults: Faults, said: str = "") -> None:
    """Add the error for a value of the wrong type."""
    shown = said or (f'"{value}"' if isinstance(value, str) else _plain(value))[:_MAX_SHOWN]
    faults.append((path, f"Invalid value{_at(path)} ({kind}), {shown}"))


def _plain(value: Any) -> str:
    return json.dumps(value) if value is None or isinstance(value, bool) else str(value)


def _at(path: str) -> str:
    return f" at '{path}'" if path else ""


def _parent(path: str) -> tuple[str, str]:
    """Return the path of the message with a field, and the field's name."""
    parent, _, name = path.rpartition(".")
    return parent, name


def _cannot_start_list(path: str, faults: Faults) -> None:
    parent, name = _parent(path)
    place = _at(parent)
    text = (
        f'Invalid JSON payload received. Unknown name "{name}"{place}: Proto field is not repeating, cannot start list.'
    )
    if not path:
        text = 'Invalid JSON payload received. Unknown name "": Root element must be a message.'
    faults.append((parent, text))


def _is_default(value: Any, kind: str) -> bool:
    if kind.startswith(("@", "{", "any")) or kind.endswith("?"):
        return False
    if kind.startswith("["):
        return not value
    return value in ("", False, 0, "0") or (kind.startswith("#") and value.endswith("_UNSPECIFIED"))


def _any(value: Any, path: str, faults: Faults) -> Any:
    return value


def _list_of(of: Parser) -> Parser:
    def parse(value: Any, path: str, faults: Faults) -> Any:
        if not isinstance(value, list):
            return wrong(path, "repeated field", value, faults)
        return [_element(of, item, f"{path}[{index}]", faults) for index, item in enumerate(value)]

    return parse


def _map_of(of: Parser) -> Parser:
    def parse(value: Any, path: str, faults: Faults) -> Any:
        if isinstance(value, list):
            return _cannot_start_list(path, faults)
        if not isinstance(value, Mapping):
            return wrong(path, "map field", value, faults)
        return {
            str(key): _element(of, item, f"{path}[{index}].value", faults)
            for index, (key, item) in enumerate(value.items())
        }

    return parse


def _element(of: Parser, value: Any, path: str, faults: Faults) -> Any:
    if value is None and of is not _any:
        return wrong(path, "element", value, faults)
    return of(value, path, faults)


def _enum(definition: Any) -> Parser:
    values = definition["values"] if isinstance(definition, dict) else definition
    numbers = values if isinstance(values, dict) else {name: index for index, name in enumerate(values)}
    by_number = {number: name for name, number in numbers.items()}
    kind = f"type.googleapis.com/{definition['name']}" if isinstance(definition, dict) else "TYPE_ENUM"

    def parse(value: Any, path: str, faults: Faults) -> Any:
        name: str | None = None
        if isinstance(value, str):
            # Google's parser tries other spellings of a name before it reports an error.
            name = next((one for one in (value, value.upper().replace("-", "_")) if one in numbers), None)
        number = _integer(value)
        if name is None and number is not None and number >= 0:
            name = by_number.get(number)
        return name if name is not None else wrong(path, kind, value, faults)

    return _single(parse)


def _single(parse: Parser) -> Parser:
    """Return the parser of a type that is neither a list nor a message."""

    def checked(value: Any, path: str, faults: Faults) -> Any:
        if isinstance(value, list):
            return _cannot_start_list(path, faults)
        if isinstance(value, dict):
            parent, name = _parent(path)
            faults.append((parent, f"Invalid value{_at(parent)} ({name}), Starting an object on a scalar field"))
            return None
        return parse(value, path, faults)

    return checked


def _string(value: Any, path: str, faults: Faults) -> Any:
    return value if isinstance(value, str) else wrong(path, "TYPE_STRING", value, faults)


def _bool(value: Any, path: str, faults: Faults) -> Any:
    if isinstance(value, bool):
        return value
    if value in ("true", "false"):
        return value == "true"
    return wrong(path, "TYPE_BOOL", value, faults)


def _whole(kind: str) -> Parser:
    least, limit = _RANGES[kind]

    def parse(value: Any, path: str, faults: Faults) -> Any:
        number = _integer(value)
        if number is None or not least <= number < limit:
            return wrong(path, f"TYPE_{kind.upper()}", value, faults)
        return str(number) if kind.endswith("64") else number

    return parse


def _integer(value: Any) -> int | None:
    if isinstance(value, str):
        return int(value) if value.isascii() and _INT.match(value) else None
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return int(value) if value == int(value) else None


def _number(kind: str) -> Parser:
    def parse(value: Any, path: str, faults: Faults) -> Any:
        if not isinstance(value, bool) and isinstance(value, int | float | str):
            try:
                number = float(value)
            except (ValueError, OverflowError):
                number = math.nan
            if math.isfinite(number):
                return number
        return wrong(path, kind, value, faults)

    return parse


def _bytes(value: Any, path: str, faults: Faults) -> Any:
    if not isinstance(value, str):
        return wrong(path, "TYPE_BYTES", value, faults)
    try:
        base64.b64decode(value.replace("-", "+").replace("_", "/") + "=" * (-len(value) % 4), validate=True)
    except (binascii.Error, ValueError):
        return wrong(path, "TYPE_BYTES", value, faults, f'Base64 decoding failed for "{value[:_MAX_SHOWN]}"')
    return value


def _duration(value: Any, path: str, faults: Faults) -> Any:
    kind = "type.googleapis.com/google.protobuf.Duration"
    if not isinstance(value, str):
        return wrong(path, kind, value, faults)
    match = _DURATION.match(value)
    if match is None or int(match[1]) > _MAX_DURATION:
        name = _parent(path)[1]
        said = f"Field '{name}', Illegal duration format; duration must end with 's'"
        return wrong(
            path, kind, value, faults, said if match is None else f"Field '{name}', Duration value exceeds limits"
        )
    return value


def _time(value: Any, path: str, faults: Faults) -> Any:
    kind = "type.googleapis.com/google.protobuf.Timestamp"
    if not isinstance(value, str):
        return wrong(path, kind, value, faults)
    name = _parent(path)[1]
    if not _TIME.match(value):
        said = "Illegal timestamp format; timestamps must end with 'Z' or have a valid timezone offset."
        return wrong(path, kind, value, faults, f"Field '{name}', {said}")
    try:
        datetime.fromisoformat(value.upper()[:19])
    except ValueError:
        return wrong(path, kind, value, faults, f"Field '{name}', Invalid time format: {value}")
    return value


def _mask(value: Any, path: str, faults: Faults) -> Any:
    if not isinstance(value, str) or not _MASK.match(value):
        return wrong(path, "type.googleapis.com/google.protobuf.FieldMask", value, faults)
    return value


_SCALARS: dict[str, Parser] = {
    "string": _string,
    "bool": _bool,
    **{kind: _whole(kind) for kind in _RANGES},
    "float": _number("TYPE_FLOAT"),
    "double": _number("TYPE_DOUBLE"),
    "bytes": _bytes,
    "duration": _duration,
    "time": _time,
    "mask": _mask,
}
