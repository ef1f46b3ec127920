"""Batches: up to 100 requests without data in one request (https://cloud.google.com/storage/docs/batch)."""

from __future__ import annotations

import asyncio
import logging
import re
import secrets
from collections.abc import MutableMapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote

from starlette.responses import Response

from runner.emulator.errors import ApiError, unknown_path
from runner.emulator.routing import ApiRequest, Handler, Method, Router, json_response
from runner.emulator.storage.faults import bad_request
from runner.emulator.storage.related import boundary_of

logger = logging.getLogger(__name__)

_MAX_REQUESTS = 100
_BLANK = re.compile(rb"\r?\n\r?\n")
_REQUEST_LINE = re.compile(r"([A-Z]+) (\S+)(?: HTTP/\d(?:\.\d)?)?\Z")

_ORIGIN = re.compile(r"\A(?:https?:)?//[^/?#]*", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Part:
    """One request of a batch."""

    content_id: str
    method: str
    target: str
    headers: list[tuple[bytes, bytes]]
    body: bytes


def answering(methods: Sequence[Method]) -> Handler:
    """Return the handler of batches whose parts can call these methods, except uploads and downloads."""
    router = Router([method for method in methods if method.path.startswith("/storage/")])

    async def batch(request: ApiRequest) -> Response:
        return await _batch(request, router)

    return batch


async def _batch(request: ApiRequest, router: Router) -> Response:
    """Answer all parts concurrently, and return the responses in their order."""
    body = await request.read_body()
    parts = split(body, boundary_of(request.headers.get("content-type", "")))
    if len(parts) > _MAX_REQUESTS:
        raise bad_request(f"The batch has {len(parts)} requests; the limit is {_MAX_REQUESTS}.")
    answers = await asyncio.gather(*(_answer(request, router, part) for part in parts))
    boundary = f"batch_{secrets.token_hex(16)}"
    lines = b""
    for part, answer in zip(parts, answers, strict=True):
        content_id = part.content_id.strip("<>")
        lines += (
            f"--{boundary}\r\nContent-Type: application/http\r\nContent-ID: <response-{content_id}>\r\n\r\n".encode()
        )
        lines += answer + b"\r\n"
    lines += f"--{boundary}--\r\n".encode()
    return Response(lines, headers={"content-type": f"multipart/mixed; boundary={boundary}"})


def split(body: bytes, boundary: bytes) -> list[Part]:
    """Return the parts of a multipart/mixed body with line ends CRLF or LF. Raises ApiError 400."""
    sections = (b"\n" + body).split(b"\n--" + boundary)[1:]
    parts = []
    for section in sections:
        if section.startswith(b"--"):
            break
        outer, _, inner = _partition(section.lstrip(b" \t").removesuffix(b"\r"))
        headers = _headers(outer)
        parts.append(_parse(dict(headers).get(b"content-id", b"").decode("latin-1"), inner.lstrip(b"\r\n")))
    if not parts:
        raise bad_request("The batch holds no requests.")
    return parts


def _partition(data: bytes) -> tuple[bytes, bytes, bytes]:
    match = _BLANK.search(data)
    return (data, b"", b"") if match is None else (data[: match.start()], match.group(), data[match.end() :])


def _headers(data: bytes) -> list[tuple[bytes, bytes]]:
    pairs = (line.partition(b":") for line in data.splitlines() if b":" in line)
    return [(name.strip().lower(), value.strip()) for name, _, value in pairs]


def _parse(content_id: str, inner: bytes) -> Part:
    head, _, body = _partition(inner)
    first, _, rest = head.partition(b"\n")
    match = _REQUEST_LINE.match(first.decode("latin-1").strip())
    if match is None:
        raise bad_request(f"Failed to parse batch request line {first[:100]!r}.")
    return Part(content_id, match[1], match[2], _headers(rest), body)


async def _answer(request: ApiRequest, router: Router, part: Part) -> bytes:
    path, _, query = _ORIGIN.sub("", part.target, count=1).partition("#")[0].partition("?")
    given = {name for name, _ in part.headers}
    # The batch's credentials apply to parts without credentials.
    inherited = {b"host"} | ({b"authorization"} - given)
    outer = [(name, value) for name, value in request.scope["headers"] if name in inherited]
    scope: MutableMapping[str, Any] = {
        **request.scope,
        "method": part.method,
        "path": unquote(path),
        "raw_path": path.encode("latin-1", "replace"),
        "query_string": query.encode("latin-1", "replace"),
        # Links in the response use the batch's address, regardless of the part's own URL.
        "headers": outer + [pair for pair in part.headers if pair[0] not in (b"host", b"content-length")],
    }

    async def receive() -> MutableMapping[str, Any]:
        return {"type": "http.request", "body": part.body, "more_body": False}

    inner = ApiRequest(scope, receive)
    inner.emulator = request.emulator
    response = await _dispatch(inner, router, scope)
    status, headers, body = 500, [], b""

    async def send(message: MutableMapping[str, Any]) -> None:
        nonlocal status, headers, body
        if message["type"] == "http.response.start":
            status, headers = message["status"], message["headers"]
        else:
            body += message.get("body", b"")

    await response(scope, receive, send)
    lines = f"HTTP/1.1 {status} {_REASONS.get(status, 'Unknown')}\r\n".encode()
    for name, value in headers:
        if name != b"content-length":
            lines += name.title() + b": " + value + b"\r\n"
    return lines + f"Content-Length: {len(body)}\r\n\r\n".encode() + body


async def _dispatch(request: ApiRequest, router: Router, scope: MutableMapping[str, Any]) -> Response:
    try:
        found = router.find(scope)
        if found is None:
            raise unknown_path(scope["method"], scope["path"])
        if b"alt=media" in request.scope["query_string"]:
            raise bad_request("Media cannot be read in a batch.")
        method, request.fields = found
        return await method.handler(request)
    except ApiError as error:
        return json_response(error.to_storage(), error.http, error.headers)
    except Exception:
        logger.exception("bug while answering %s %s in a batch", scope["method"], scope["path"])
        internal = ApiError("INTERNAL", "Internal error encountered.")
        return json_response(internal.to_storage(), internal.http)


_REASONS = {
    200: "OK",
    204: "No Content",
    304: "Not Modified",
    400: "Bad Request",
    403: "Forbidden",
    404: "Not Found",
    409: "Conflict",
    412: "Precondition Failed",
    416: "Requested Range Not Satisfiable",
    500: "Internal Server Error",
    405: "Method Not Allowed",
}
