"""Google's paths: verbs after a colon, encoded slashes inside one segment.

Starlette matches decoded paths, which makes `o/a%2Fb/acl` ambiguous. This router matches the raw path and decodes each
captured segment afterwards. A method has the ID of the real API's method (`storage.objects.get`), which is used in
errors and in the documents.
"""

from __future__ import annotations

import contextlib
import functools
import json
import re
import zlib
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal
from urllib.parse import unquote

from starlette.datastructures import Headers, QueryParams
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from runner.emulator import wire_json
from runner.emulator.context import Emulator
from runner.emulator.errors import ApiError

Handler = Callable[["ApiRequest"], Awaitable[Response]]

_BARE = ("/b/", "/projects/")
"""Beginnings of paths of Storage's JSON API without `/storage/v1`, which Node's client sends if STORAGE_EMULATOR_HOST
is set. They are unique: a bucket name has at least three letters, and every other API starts with its version."""
_SHORT = 128
"""Maximum bytes of a cached query."""
_FIELD = re.compile(r"\{(\w+)(?::(path|segment))?(?:=([^}]+))?\}")


def is_packed(headers: Mapping[str, str]) -> bool:
    """Return whether the body for these headers is compressed with gzip."""
    return headers.get("content-encoding", "").strip().lower() == "gzip"


@functools.lru_cache(1024)
def _known_query(query: bytes) -> QueryParams:
    """Return the parameters of a query; most requests have one of few queries, such as `alt=media`."""
    return QueryParams(query)


class _SentHeaders(Headers):
    """Headers with fast lookup, because a request reads its headers some ten times. Of duplicates, the first counts."""

    def __init__(self, scope: Scope) -> None:
        super().__init__(scope=scope)
        self._firsts: dict[str, str] = {
            name.decode("latin-1"): value.decode("latin-1") for name, value in reversed(scope["headers"])
        }

    def __getitem__(self, key: str) -> str:
        return self._firsts[key.lower()]

    def __contains__(self, key: object) -> bool:
        return isinstance(key, str) and key.lower() in self._firsts

    def get(self, key: str, default: Any = None) -> Any:  # Mapping's version looks up twice
        """Return a header's value, or the default."""
        return self._firsts.get(key.lower(), default)


class ApiRequest(Request):
    """A request with its captured path fields and its emulator."""

    emulator: Emulator
    fields: dict[str, str]
    message: dict[str, Any] | None = None
    """The body as parsed by `definitions.checking`; None before, and if a body is forwarded unchanged."""

    @functools.cached_property
    def headers(self) -> Headers:
        """Return the headers."""
        return _SentHeaders(self.scope)

    @functools.cached_property
    def query_params(self) -> QueryParams:
        """Return the parameters of the query."""
        query: bytes = self.scope["query_string"]
        return _known_query(query) if len(query) <= _SHORT else QueryParams(query)

    @property
    def base(self) -> str:
        """Return `http://host:port` as addressed by the client, for links."""
        return f"{self.scope['scheme']}://{self.headers['host']}"

    async def read_body(self) -> bytes:
        """Return the decompressed body, limited by `max_body_bytes`. Raises ApiError 413 or 400."""
        limit = self.emulator.settings.max_body_bytes
        # Google's Java library compresses every message.
        unpack = zlib.decompressobj(31) if is_packed(self.headers) else None
        chunks: list[bytes] = []
        size = 0
        async for received in self.stream():
            chunk = received
            if unpack is not None and received:
                try:
                    chunk = unpack.decompress(received, limit + 1)
                except zlib.error as error:
                    raise ApiError(
                        "INVALID_ARGUMENT", f"The body cannot be unpacked as gzip: {error}.", http=400
                    ) from error
            size += len(chunk)
            if size > limit:
                # Cloud Storage returns this as the code; all other APIs answer 400.
                http = 413 if self._is_storage else 400
                message = f"Request payload size exceeds the limit: {limit} bytes."
                raise ApiError("INVALID_ARGUMENT", message, http=http)
            chunks.append(chunk)
        if unpack is not None and chunks and not unpack.eof:
            raise ApiError("INVALID_ARGUMENT", "The body cannot be unpacked as gzip: it ends too early.", http=400)
        return b"".join(chunks)

    async def read_json(self) -> dict[str, Any]:
        """Return the JSON object of the body, {} if it is empty; parsed, if the method has a definition.

        Raises ApiError INVALID_ARGUMENT.
        """
        if self.message is not None:
            return self.message
        content = await self.read_body()
        if content and self._is_storage:
            self._refuse_other_types()
        return wire_json.loads(content)

    @property
    def _is_storage(self) -> bool:
        path: str = self.scope["path"]
        return "/storage/" in path or path.startswith("/b/")

    def _refuse_other_types(self) -> None:
        """Raise ApiError if the content type of a body is not JSON; only Cloud Storage checks this."""
        kind = self.headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind == "application/x-www-form-urlencoded":
            message = "This API does not support parsing form-encoded input."
            raise ApiError("INVALID_ARGUMENT", message, http=400, reason="parseError")
        if kind and kind != "application/json" and not kind.endswith("+json"):
            message = f"Unsupported content with type: {kind}"
            raise ApiError("INVALID_ARGUMENT", message, http=400, reason="badContent")

    @property
    def document(self) -> dict[str, Any]:
        """Return the JSON object of the body in the handlers of `resources`, where it has been read."""
        return self.message or {}


@dataclass(frozen=True, slots=True)
class Method:
    """One API method.

    Path templates: `{name}` is one segment without `:`; `{name:segment}` can contain `:`; `{name:path}` can contain
    `/`; `{name=v1|v1beta1}` is one of the alternatives.
    """

    id: str
    http: str
    path: str
    handler: Handler
    style: Literal["rpc", "storage"] = "rpc"
    pattern: re.Pattern[str] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        end = "/?" if self.style == "storage" else ""  # Storage's JSON API accepts every path with a final slash
        object.__setattr__(self, "pattern", re.compile(_to_regex(self.path) + end + r"\Z"))


def _to_regex(template: str) -> str:
    parts: list[str] = []
    end = 0
    for match in _FIELD.finditer(template):
        parts.append(re.escape(template[end : match.start()]))
        name, kind, alternatives = match.groups()
        expression = alternatives or {"path": ".+", "segment": "[^/]+"}.get(kind or "", "[^/:]+")
        parts.append(f"(?P<{name}>{expression})")
        end = match.end()
    parts.append(re.escape(template[end:]))
    return "".join(parts)


class Router:
    """Finds the method of a request; earlier methods have precedence."""

    def __init__(self, methods: list[Method]) -> None:
        self.methods = methods
        self._by_http: dict[str, list[Method]] = {}
        for method in methods:
            self._by_http.setdefault(method.http, []).append(method)
            if method.http == "GET" and method.style == "storage":
                self._by_http.setdefault("HEAD", []).append(method)

    def find(self, scope: Scope) -> tuple[Method, dict[str, str]] | None:
        """Return the method and its decoded fields, or None."""
        raw: bytes = scope.get("raw_path") or scope["path"].encode()
        path = raw.split(b"?", 1)[0].decode("latin-1")
        if path.startswith(_BARE) or path == "/b":
            path = "/storage/v1" + path
        for method in self._by_http.get(scope["method"], ()):
            match = method.pattern.match(path)
            if match:
                return method, {key: unquote(value) for key, value in match.groupdict().items()}
        return None


class StreamedResponse(StreamingResponse):
    """A streamed response whose source is closed with it, also if the client disconnects."""

    def __init__(self, pieces: AsyncGenerator[bytes, None], status: int, headers: dict[str, str], kind: str) -> None:
        super().__init__(pieces, status, headers, kind)
        self._pieces = pieces

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send it."""
        async with contextlib.aclosing(self._pieces):
            await super().__call__(scope, receive, send)


def json_response(body: Any, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    """Return compact JSON, as sent by Google with `prettyPrint=false`."""
    content = json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode()
    return Response(content, status, headers, "application/json; charset=UTF-8")
