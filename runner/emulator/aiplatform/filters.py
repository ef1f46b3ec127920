"""Google's list filters (AIP-160): `labels.a="b" AND state="JOB_STATE_RUNNING"`.

    expression  sequence ("AND" sequence)*
    sequence    factor factor …             both must match
    factor      term ("OR" term)*           OR binds tighter than AND
    term        ("NOT" | "-") simple
    simple      "(" expression ")" | field comparator value
    comparator  = != < <= > >= :            `field:*` matches if the field is set

Field names can be snake_case or camelCase, and values plain or quoted; `*` in a value of `=` matches any text.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection
from datetime import datetime
from typing import Any

from runner.emulator.errors import ApiError, invalid
from runner.emulator.wire_json import camel_name as camel

Predicate = Callable[[dict[str, Any]], bool]

_TOKEN = re.compile(
    r"""\s*(?:
    (?P<quoted>"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*')
    | (?P<mark><=|>=|!=|=|<|>|:|\(|\)|-(?=[\w(]))
    | (?P<word>[^\s"'()=<>!:]+)
    )""",
    re.VERBOSE,
)
_COMPARATORS = frozenset({"=", "!=", "<", "<=", ">", ">=", ":"})
_MAX_LENGTH = 4096
_MAX_DEPTH = 50


def compile_filter(text: str, fields: Collection[str]) -> Predicate:
    """Return a test of resources.

    Args:
        text: the filter; an empty one matches everything.
        fields: camelCase names of the allowed top-level fields.

    Raises:
        ApiError: INVALID_ARGUMENT; the filter has an error or an unknown field.
    """
    if not text.strip():
        return lambda resource: True
    if len(text) > _MAX_LENGTH:
        raise invalid(f"Invalid filter: longer than {_MAX_LENGTH} characters.")
    return _Parser(text, fields).parse()


class _Parser:
    """Recursive-descent parser for the tokens of one filter."""

    def __init__(self, text: str, fields: Collection[str]) -> None:
        self.text = text
        self.fields = fields
        self.tokens = _tokenize(text)
        self.position = 0
        self.depth = 0

    def parse(self) -> Predicate:
        predicate = self._expression()
        if self.position < len(self.tokens):
            raise self._error(f"unexpected {self.tokens[self.position][1]!r}")
        return predicate

    def _error(self, what: str) -> ApiError:
        return invalid(f"Invalid filter {self.text!r}: {what}.")

    def _peek(self) -> tuple[str, str]:
        return self.tokens[self.position] if self.position < len(self.tokens) else ("end", "")

    def _next(self) -> tuple[str, str]:
        token = self._peek()
        self.position += 1
        return token

    def _expression(self) -> Predicate:
        self.depth += 1
        if self.depth > _MAX_DEPTH:
            raise self._error("nested too deeply")
        parts = [self._factor()]
        while True:
            kind, token = self._peek()
            if (kind, token) == ("word", "AND"):
                self._next()
            elif kind == "end" or (kind, token) == ("mark", ")"):
                break
            parts.append(self._factor())
        self.depth -= 1
        return parts[0] if len(parts) == 1 else lambda resource: all(part(resource) for part in parts)

    def _factor(self) -> Predicate:
        parts = [self._term()]
        while self._peek() == ("word", "OR"):
            self._next()
            parts.append(self._term())
        return parts[0] if len(parts) == 1 else lambda resource: any(part(resource) for part in parts)

    def _term(self) -> Predicate:
        if self._peek() in (("word", "NOT"), ("mark", "-")):
            self._next()
            inner = self._simple()
            return lambda resource: not inner(resource)
        return self._simple()

    def _simple(self) -> Predicate:
        kind, token = self._next()
        if (kind, token) == ("mark", "("):
            inner = self._expression()
            if self._next() != ("mark", ")"):
                raise self._error("a parenthesis is not closed")
            return inner
        if kind != "word" or token in ("AND", "OR", "NOT"):
            raise self._error(f"expected a field, found {token!r}" if token else "it ends too early")
        comparator = self._next()[1]
        if comparator not in _COMPARATORS:
            raise self._error(f"expected a comparator after {token!r}")
        kind, value = self._next()
        if kind not in ("word", "quoted"):
            raise self._error(f"expected a value after {token}{comparator}")
        return self._comparison(token, comparator, _unquote(value) if kind == "quoted" else value, kind == "quoted")

    def _comparison(self, field: str, comparator: str, value: str, quoted: bool) -> Predicate:
        head, _, rest = field.partition(".")
        head = camel(head)
        if head not in self.fields:
            raise self._error(f"unknown field {field!r}")
        path = [head, rest] if head == "labels" and rest else [head, *(camel(part) for part in rest.split(".") if part)]
        wildcard = value == "*" and not quoted

        def test(resource: dict[str, Any]) -> bool:
            found = _lookup(resource, path)
            if comparator == ":":
                return _has(found, value, wildcard)
            if comparator == "=":
                return _equal(found, value)
            if comparator == "!=":
                return not _equal(found, value)
            return _ordered(found, comparator, value)

        return test


def _tokenize(text: str) -> list[tuple[str, str]]:
    tokens: list[tuple[str, str]] = []
    position = 0
    end = len(text.rstrip())
    while position < end:
        match = _TOKEN.match(text, position)
        if match is None:
            raise invalid(f"Invalid filter {text!r}: unexpected {text[position:].strip()[:1]!r}.")
        tokens.append((str(match.lastgroup), match[match.lastgroup or 0]))
        position = match.end()
    return tokens


def _unquote(text: str) -> str:
    return re.sub(r"\\(.)", r"\1", text[1:-1])


def _lookup(resource: Any, path: list[str]) -> Any:
    for key in path:
        resource = resource.get(key) if isinstance(resource, dict) else None
    return resource


def _has(found: Any, value: str, wildcard: bool) -> bool:
    if found is None:
        return False
    if wildcard:
        return True
    if isinstance(found, dict | list):
        return value in found
    return _text(found) == value


def _equal(found: Any, value: str) -> bool:
    if found is None:
        return value == ""
    if isinstance(found, int | float) and not isinstance(found, bool):
        number = _number(value)
        return number is not None and found == number
    text = _text(found)
    if "*" in value:
        return _fits(text, value.split("*"))
    first, second = _instant(text), _instant(value)
    return text == value or (first is not None and first == second)


def _fits(text: str, parts: list[str]) -> bool:
    """Return whether a text consists of these parts, with any text between them."""
    first, *inner, last = parts
    at, end = len(first), len(text) - len(last)
    if at > end or not text.startswith(first) or not text.endswith(last):
        return False
    for part in inner:
        found = text.find(part, at, end)
        if found < 0:
            return False
        at = found + len(part)
    return True


def _ordered(found: Any, comparator: str, value: str) -> bool:
    if found is None:
        return False
    left: Any = _instant(_text(found))
    right: Any = _instant(value)
    if left is None or right is None:
        left, right = _number(_text(found)), _number(value)
    if left is None or right is None:
        left, right = _text(found), value
    return bool({"<": left < right, "<=": left <= right, ">": left > right, ">=": left >= right}[comparator])


def _text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def _instant(text: str) -> datetime | None:
    if len(text) < 20 or text[10] not in "Tt":
        return None
    try:
        parsed = datetime.fromisoformat(text.upper().replace("Z", "+00:00"))
    except ValueError:
        return None
    return parsed if parsed.tzinfo else None


def ordered(items: list[dict[str, Any]], order: str, default: str) -> list[dict[str, Any]]:
    """Return items sorted by an `orderBy` such as `display_name, create_time desc`.

    An empty one uses `default`, a field name, with a `-` for descending order. Raises ApiError INVALID_ARGUMENT.
    """
    keys: list[tuple[str, bool]] = []
    for part in order.split(","):
        words = part.split()
        if len(words) > 2 or (len(words) == 2 and words[1].lower() not in ("asc", "desc")):
            raise invalid(f"Invalid order_by: {order!r}.")
        if words:
            keys.append((camel(words[0]), len(words) == 2 and words[1].lower() == "desc"))
    keys = keys or [(default.lstrip("-"), default.startswith("-"))]
    result = sorted(items, key=lambda item: str(item.get("name", "")))
    for field, descending in reversed(keys):
        result.sort(key=lambda item: str(item.get(field, "")), reverse=descending)
    return result
