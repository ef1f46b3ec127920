"""The HTTP client of `runner.gcp`, based on the standard library: reused connections, JSON, limited responses.

The client never follows redirects. Before it sends an access token, it checks that the token is meant for the host,
regardless of the origin of the address. `http.client` takes a fraction of the import time of other libraries, and less
CPU time for each request (docs/decisions/0002-clients.md).
"""

from __future__ import annotations

import http.client
import json as json_form
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import lru_cache
from typing import Any
from urllib.parse import SplitResult, quote, urlencode, urlsplit

from runner.gcp.connections import Answer, Connection, TlsConnection, readable
from runner.gcp.proxies import proxy_for, proxy_login, tls_context
from runner.json_text import parsed

TIMEOUT_SECONDS = 60.0
"""Maximum silence in one request; predictions set their own. A complete response can take twice as long."""
CONNECT_SECONDS = 15.0
MAX_BODY_BYTES = 256 << 20
"""Maximum size of a response that is read into memory."""
_IDLE_SECONDS = 5.0
"""Maximum idle time of a reused connection, because servers close idle connections without notice."""
_SAFE = "!$&'()*+,;=:@/?%-._~"


class TransportError(Exception):
    """The connection broke or became silent after the request may have been sent, or the response is malformed."""


class ConnectError(TransportError):
    """There is no connection: nothing was sent."""


class StrangerError(ConnectError):
    """The address has a host that must not get the login: nothing was sent."""


class StatusError(Exception):
    """The service returned another status than success."""

    def __init__(self, response: Response) -> None:
        super().__init__(f"HTTP {response.status_code} {response.reason_phrase}")
        self.response = response


class Response:
    """A response. `RestClient.request` has read its body; after `RestClient.open`, the caller reads and closes it."""

    def __init__(self, answer: Answer, release: Callable[[bool], None], *, decode: bool) -> None:
        self.status_code = answer.status
        self.reason_phrase = answer.reason
        self.headers: Mapping[str, str] = answer.headers  # type: ignore[assignment]
        """With lowercase names."""
        self.content = b""
        self._answer = answer
        self._release: Callable[[bool], None] | None = release
        self._decode = decode

    @property
    def is_success(self) -> bool:
        """Return whether the status is 2xx."""
        return 200 <= self.status_code < 300

    @property
    def length(self) -> int | None:
        """Remaining bytes of the body; None if the service does not send the length."""
        return self._answer.length

    def raise_for_status(self) -> Response:
        """Return this response. Raises StatusError if the status is not 2xx."""
        if not self.is_success:
            raise StatusError(self)
        return self

    def json(self) -> Any:
        """Return the JSON body. Raises ValueError."""
        return parsed(self.content)

    def read(self) -> bytes:
        """Read the whole body into `content`, and close. Raises TransportError."""
        try:
            known = self._answer.length
            if known is None or known <= MAX_BODY_BYTES:
                self.content = self._answer.read_to_end(MAX_BODY_BYTES)
            if (known or len(self.content)) > MAX_BODY_BYTES:
                raise TransportError(f"the answer has more than {MAX_BODY_BYTES} bytes")
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise TransportError(_text(error)) from error
        finally:
            self.close()
        if self._decode:
            self.content = _decoded(self.content, self.headers.get("content-encoding", ""))
        return self.content

    def read_piece(self, most: int) -> bytes:
        """Return the next part of the body, up to this many bytes; b"" at its end. Raises TransportError."""
        try:
            return self._answer.read_piece(most)
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise TransportError(_text(error)) from error

    def lines(self) -> Iterator[str]:
        """Yield the lines of the body as they arrive. Raises TransportError."""
        rest = b""
        while piece := self.read_piece(64 * 1024):
            *lines, rest = (rest + piece).split(b"\n")
            if len(rest) > MAX_BODY_BYTES:
                raise TransportError(f"a line of the answer has more than {MAX_BODY_BYTES} bytes")
            for line in lines:
                yield line.decode("utf-8", "replace").rstrip("\r")
        if rest:
            yield rest.decode("utf-8", "replace")

    def close(self) -> None:
        """Keep the connection for the next request if the body was read to its end; otherwise close it."""
        release, self._release = self._release, None
        if release is not None:
            read = self._answer.isclosed()
            release(read and not self._answer.will_close)
            if not read:
                self._answer.close()


class RestClient:
    """Sends requests. Several threads can use it; they share its connections.

    Args:
        base_url: base of addresses that are only paths.
        login: returns the bearer token; with `fresh=True` a new one, which is tried once after a 401. None: no login.
        trusted: returns for a scheme and HOST:PORT whether the login may be sent there, in addition to the host of
            `base_url` [nowhere].
        renewable: whether a new token can differ.
        user_agent: "" sends none.
        trust_environment: use the variables for proxies and certificates.
    """

    def __init__(
        self,
        base_url: str = "",
        *,
        login: Callable[..., str] | None = None,
        trusted: Callable[[str, str], bool] | None = None,
        renewable: bool = True,
        user_agent: str = "",
        trust_environment: bool = True,
    ) -> None:
        self._base_url = base_url
        self._login = login
        self._trusted = {place(base_url)[0]} if base_url else set()
        self._may_be_trusted = trusted
        self._renewable = renewable and login is not None
        self._own_headers = {"User-Agent": user_agent} if user_agent else {}
        self._trust_environment = trust_environment
        self._lock = threading.Lock()
        self._idle: dict[tuple[str, str], list[tuple[Connection, float]]] = {}
        self._proxies: dict[tuple[str, str], SplitResult | None] = {}
        self._closed = False

    def close(self) -> None:
        """Close the connections."""
        with self._lock:
            self._closed = True
            idle, self._idle = self._idle, {}
        for connections in idle.values():
            for connection, _ in connections:
                connection.close()

    def __enter__(self) -> RestClient:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def request(self, verb: str, url: str, **options: Any) -> Response:
        """Send a request and return the complete response, with any status; see `open`."""
        response = self.open(verb, url, **options)
        response.read()
        return response

    def get(self, url: str, **options: Any) -> Response:
        """Send a GET; see `request`."""
        return self.request("GET", url, **options)

    def post(self, url: str, **options: Any) -> Response:
        """Send a POST; see `request`."""
        return self.request("POST", url, **options)

    @contextmanager
    def stream(self, verb: str, url: str, **options: Any) -> Iterator[Response]:
        """Send a request and yield the response, whose body has not been read; see `open`."""
        response = self.open(verb, url, **options)
        try:
            yield response
        finally:
            response.close()

    def open(
        self,
        verb: str,
        url: str,
        *,
        params: Mapping[str, Any] | None = None,
        json: Any = None,
        content: bytes | Sequence[bytes] = b"",
        headers: Mapping[str, str] | None = None,
        timeout: float | None = None,
    ) -> Response:
        """Send a request and return the response, whose body has not been read.

        Args:
            verb: the HTTP method.
            url: a path, or a complete address.
            params: the query parameters.
            json: the body, which is written as JSON.
            content: the body, or its parts, sent unchanged.
            headers: additional headers. Without `accept-encoding`, `read` returns the decompressed body.
            timeout: maximum silence, in seconds [TIMEOUT_SECONDS].

        Raises:
            ConnectError: nothing was sent. TransportError: the request may have been sent.
        """
        try:
            host, target = place(self._base_url + url if url.startswith("/") else url)
        except ValueError as error:
            raise ConnectError(f"{url[:200]!r} is not an address: {error}") from error
        if self._login is not None and host not in self._trusted:
            self._trust(*host)
        if params:
            target += ("&" if "?" in target else "?") + urlencode(params, quote_via=quote)
        fields = {**self._own_headers, **(headers or {})}
        decode = not any(name.lower() == "accept-encoding" for name in headers or ())
        if decode:
            fields["Accept-Encoding"] = "gzip"
        if json is not None:
            content = json_form.dumps(json, ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode()
            fields["Content-Type"] = "application/json"
        body = [piece for piece in ([content] if isinstance(content, bytes) else content) if piece]
        if body or verb not in {"GET", "HEAD", "DELETE"}:
            fields["Content-Length"] = str(sum(map(len, body)))
        for fresh in (False, True):
            if self._login is not None:
                fields["Authorization"] = f"Bearer {self._login(fresh=fresh)}"
            response = self._exchange(host, verb, target, body, fields, timeout, decode=decode)
            if response.status_code != 401 or fresh or not self._renewable:
                break
            response.read()
        return response

    def _trust(self, scheme: str, authority: str) -> None:
        """Return normally if the login may be sent to a host. Raises StrangerError if it may not."""
        if self._may_be_trusted is None or not self._may_be_trusted(scheme, authority):
            raise StrangerError(f"the access token does not belong to {f'{scheme}://{authority}'[:200]!r}")
        self._trusted.add((scheme, authority))

    def _exchange(
        self,
        host: tuple[str, str],
        verb: str,
        target: str,
        body: list[bytes],
        fields: dict[str, str],
        timeout: float | None,
        *,
        decode: bool,
    ) -> Response:
        connection = self._connection(host)
        proxy = self._proxies[host]
        if proxy is not None and host[0] == "http":  # the proxy gets the request itself, with its complete address
            fields, target = {**fields, **proxy_login(proxy)}, f"http://{host[1]}{target}"
        sent = False
        try:
            if connection.sock.gettimeout() != (timeout or TIMEOUT_SECONDS):
                connection.sock.settimeout(timeout or TIMEOUT_SECONDS)
            connection.ask(verb, target, {"Host": host[1], **fields}, body)
            sent = True
            answer = connection.answered(verb, 2 * (timeout or TIMEOUT_SECONDS))
            return Response(answer, lambda clean: self._release(host, connection, clean), decode=decode)
        except (OSError, http.client.HTTPException, ValueError) as error:
            connection.close()
            # A header or an address with a line break is refused before anything is sent.
            kind = TransportError if sent or isinstance(error, OSError) else ConnectError
            raise kind(_text(error)) from error
        except BaseException:
            connection.close()
            raise

    def _connection(self, host: tuple[str, str]) -> Connection:
        while True:
            with self._lock:
                idle = self._idle.get(host)
                kept, since = idle.pop() if idle else (None, 0.0)
            if kept is None:
                return self._connect(host)
            if time.monotonic() - since < _IDLE_SECONDS and not readable(kept):
                return kept
            kept.close()

    def _connect(self, host: tuple[str, str]) -> Connection:
        scheme, authority = host
        connection: Connection | None = None
        try:
            parts = urlsplit(f"{scheme}://{authority}")
            if scheme not in {"http", "https"} or not parts.hostname:
                raise ValueError(f"{scheme}://{authority} is not an http:// or https:// address")
            if host not in self._proxies:
                self._proxies[host] = proxy_for(parts) if self._trust_environment else None
            proxy = self._proxies[host]
            name, port = (proxy.hostname or "", proxy.port or 80) if proxy else (parts.hostname, parts.port)
            if scheme == "https":
                context = tls_context(trust_environment=self._trust_environment)
                connection = TlsConnection(name, port, timeout=CONNECT_SECONDS, context=context)
                if proxy is not None:
                    connection.set_tunnel(parts.hostname, parts.port or 443, proxy_login(proxy))
            else:
                connection = Connection(name, port, timeout=CONNECT_SECONDS)
            connection.connect()
        except (OSError, http.client.HTTPException, ValueError) as error:
            if connection is not None:
                connection.close()
            raise ConnectError(_text(error)) from error
        return connection

    def _release(self, host: tuple[str, str], connection: Connection, clean: bool) -> None:
        with self._lock:
            kept = clean and not self._closed and connection.sock is not None
            if kept:
                self._idle.setdefault(host, []).append((connection, time.monotonic()))
        if not kept:
            connection.close()


@lru_cache(64)
def place(url: str) -> tuple[tuple[str, str], str]:
    """Return the scheme and host of an address, and the path of the request; many uploads use the same.

    Raises ValueError if `url` is not an address.
    """
    parts = urlsplit(url)
    query = f"?{quote(parts.query, safe=_SAFE)}" if parts.query else ""
    return (parts.scheme, parts.netloc.rpartition("@")[2]), quote(parts.path or "/", safe=_SAFE) + query


def _decoded(content: bytes, coding: str) -> bytes:
    if coding.lower() in {"", "identity"}:
        return content
    if coding.lower() != "gzip":
        raise TransportError(f"the answer is in the encoding {coding[:40]!r}, which was not asked for")
    import zlib

    unzip = zlib.decompressobj(31)
    try:
        plain = unzip.decompress(content, MAX_BODY_BYTES)
    except zlib.error as error:
        raise TransportError(f"the answer is not gzip: {error}") from error
    if not unzip.eof:
        raise TransportError("the answer's gzip is cut short, or too long")
    return plain


def _text(error: Exception) -> str:
    return str(error) or type(error).__name__
