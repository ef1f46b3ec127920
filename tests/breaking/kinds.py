"""How one exchange with the service can go wrong: some 70 ways, before the request takes effect or after."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from tests.gcp.corrupting import Exchange

When = Literal["before", "after"]
PAGE = b"<!doctype html><html><head><title>Sign in</title></head><body>Log in to the network</body></html>"
YESTERDAY = "Sat, 01 Jan 2000 00:00:00 GMT"
TOMORROW = "Fri, 01 Jan 2100 00:00:00 GMT"


@dataclass(frozen=True, slots=True)
class Kind:
    """One way; `before` the request does not take effect, `after` it has."""

    name: str
    when: When
    change: Callable[[Exchange], None]


def _error(status: int, name: str, **headers: str) -> Callable[[Exchange], None]:
    def change(exchange: Exchange) -> None:
        body = {"error": {"code": status, "message": "injected", "status": name}}
        exchange.status, exchange.content = status, json.dumps(body).encode()
        fields = {key.replace("_", "-"): value for key, value in headers.items()}
        exchange.answered = {"content-type": "application/json", "date": exchange.answered.get("date", ""), **fields}
        exchange.answered = {key: value for key, value in exchange.answered.items() if value}

    return change


def _content(content: bytes, status: int = 200, **headers: str) -> Callable[[Exchange], None]:
    def change(exchange: Exchange) -> None:
        exchange.status, exchange.content = status, content
        fields = {key.replace("_", "-"): value for key, value in headers.items()}
        exchange.answered = {"content-type": "application/json; charset=UTF-8", **fields}

    return change


def _set(**fields: Any) -> Callable[[Exchange], None]:
    def change(exchange: Exchange) -> None:
        for name, value in fields.items():
            setattr(exchange, name, value)

    return change


def _headers(**headers: str) -> Callable[[Exchange], None]:
    def change(exchange: Exchange) -> None:
        exchange.answered |= {name.replace("_", "-"): value for name, value in headers.items()}

    return change


def _cut(exchange: Exchange) -> None:
    exchange.content = exchange.content[: len(exchange.content) // 2]


def _short(exchange: Exchange) -> None:
    exchange.answered["content-length"] = str(len(exchange.content) + 10)
    exchange.keep_open = False


def _long(exchange: Exchange) -> None:
    exchange.answered["content-length"] = str(max(0, len(exchange.content) - 3))


def _negative(exchange: Exchange) -> None:
    exchange.answered["content-length"] = "-1"


def _not_gzip(exchange: Exchange) -> None:
    exchange.answered["content-encoding"] = "gzip"


def _torn_gzip(exchange: Exchange) -> None:
    exchange.content = gzip.compress(exchange.content)[:-9]
    exchange.answered["content-encoding"] = "gzip"


def _chunks_cut(exchange: Exchange) -> None:
    exchange.answered["transfer-encoding"] = "chunked"
    exchange.content = b"%x\r\n%b" % (len(exchange.content) + 5, exchange.content)
    exchange.keep_open = False


def _chunks_bad(exchange: Exchange) -> None:
    exchange.answered["transfer-encoding"] = "chunked"
    exchange.content = b"zz\r\n%b\r\n0\r\n\r\n" % exchange.content


def _redirect(status: int) -> Callable[[Exchange], None]:
    def change(exchange: Exchange) -> None:
        exchange.status, exchange.content = status, b""
        exchange.answered = {"location": "http://127.0.0.1:9/elsewhere"}

    return change


def _edited(edit: Callable[[Any], Any]) -> Callable[[Exchange], None]:
    """Change the JSON of an answer; what is none stays."""

    def change(exchange: Exchange) -> None:
        try:
            exchange.content = json.dumps(edit(json.loads(exchange.content))).encode()
        except ValueError:
            exchange.content = exchange.content[::-1]

    return change


def _nameless(body: Any) -> Any:
    return {key: value for key, value in body.items() if key not in {"name", "id", "bucket"}} if _is(body) else []


def _misnamed(body: Any) -> Any:
    return {**body, "name": "../x y"} if _is(body) else {}


def _is(body: Any) -> bool:
    return isinstance(body, dict)


def _turned(body: Any) -> Any:
    """Give every value another type."""
    if isinstance(body, dict):
        return {key: _turned(value) for key, value in body.items()}
    if isinstance(body, list):
        return {"0": body}
    return [body] if isinstance(body, str) else str(body)


def _nulls(body: Any) -> Any:
    return dict.fromkeys(body) if _is(body) else None


def _texts(body: Any) -> Any:
    return dict.fromkeys(body, "text") if _is(body) else "text"


def _numbers(body: Any) -> Any:
    return dict.fromkeys(body, 7) if _is(body) else 7


def _lists(body: Any) -> Any:
    return {key: [None, 7, "text", {}] for key in body} if _is(body) else []


def _foreign(exchange: Exchange) -> None:
    exchange.content = exchange.content[:-2] + b"\xff\xfe" + exchange.content[-2:]


_BOTH: dict[str, Callable[[Exchange], None]] = {
    "closed": _set(raw=b""),
    "reset": _set(raw=b"", reset=True),
    "silent": _set(raw=b"", silent=True),
    "408": _error(408, "DEADLINE_EXCEEDED"),
    "429": _error(429, "RESOURCE_EXHAUSTED"),
    "500": _error(500, "INTERNAL"),
    "502 page": _content(PAGE, 502, content_type="text/html"),
    "503": _error(503, "UNAVAILABLE"),
    "503 retry-after": _error(503, "UNAVAILABLE", retry_after="0"),
    "504": _error(504, "DEADLINE_EXCEEDED"),
    "302": _redirect(302),
    "page": _content(PAGE, content_type="text/html"),
    "empty": _content(b""),
    "empty object": _content(b"{}"),
    "done": _content(b'{"done": true}'),
    "garbage": _set(raw=b"SSH-2.0-OpenSSH_9.2\r\n"),
    "interim for ever": _set(raw=b"HTTP/1.1 100 Continue\r\n\r\n" * 300),
}
_BEFORE: dict[str, Callable[[Exchange], None]] = {
    "400": _error(400, "INVALID_ARGUMENT"),
    "401": _error(401, "UNAUTHENTICATED"),
    "403": _error(403, "PERMISSION_DENIED"),
    "404": _error(404, "NOT_FOUND"),
    "409": _error(409, "ABORTED"),
    "412": _error(412, "FAILED_PRECONDITION"),
    "429 retry-after": _error(429, "RESOURCE_EXHAUSTED", retry_after="0"),
    "503 odd retry-after": _error(503, "UNAVAILABLE", retry_after="nan"),
    "501": _error(501, "UNIMPLEMENTED"),
    "304": _content(b"", 304),
    "308": _redirect(308),
}
_AFTER: dict[str, Callable[[Exchange], None]] = {
    "slow": _set(pause=0.3),
    "late": _set(pause=1.5),
    "no content": _content(b"", 204),
    "null": _content(b"null"),
    "list": _content(b"[]"),
    "deep": _content(b"[" * 100_000),
    "cut": _cut,
    "short": _short,
    "long": _long,
    "no length": _negative,
    "not gzip": _not_gzip,
    "torn gzip": _torn_gzip,
    "other encoding": _headers(content_encoding="br"),
    "chunks cut": _chunks_cut,
    "bad chunks": _chunks_bad,
    "endless": _set(raw=b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n", endless=b"1\r\n \r\n"),
    "endless head": _set(raw=b"HTTP/1.1 200 OK\r\nx: ", endless=b"x"),
    "huge head": _headers(x_large="x" * 70_000),
    "extra bytes": _set(after=b"HTTP/1.1 200 OK\r\n\r\n"),
    "not utf-8": _foreign,
    "nameless": _edited(_nameless),
    "misnamed": _edited(_misnamed),
    "other types": _edited(_turned),
    "nulls": _edited(_nulls),
    "texts": _edited(_texts),
    "numbers": _edited(_numbers),
    "lists": _edited(_lists),
    "date long ago": _headers(date=YESTERDAY),
    "date to come": _headers(date=TOMORROW),
    "odd date": _headers(date="soon"),
}
KINDS: tuple[Kind, ...] = (
    *(Kind(name, "before", change) for name, change in {**_BOTH, **_BEFORE}.items()),
    *(Kind(name, "after", change) for name, change in {**_BOTH, **_AFTER}.items()),
    Kind("twice", "after", _set()),
)
"""Of these, `twice` sends the request on two times and answers what came last."""
