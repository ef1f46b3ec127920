"""A lean client for objects: Cloud Storage's JSON API over plain connections, one a thread, kept open.

Google's client takes about 2 ms of CPU for each small object, several times what the transfer itself takes; with a
million images that is half an hour. This one does only what bulk transfers and streams of datasets need.
"""

from __future__ import annotations

import base64
import http.client
import io
import json
import random
import re
import threading
import time
import urllib.request
from collections.abc import Sequence
from typing import Any
from urllib.parse import quote, urlsplit

from runner.errors import ConfigurationError, NotFoundError
from runner.gcp import failures, http_wire
from runner.gcp.failures import ATTEMPTS, LONGEST_PAUSE_SECONDS, ConnectionLostError, api_error
from runner.gcp.http_wire import Answer
from runner.gcp.session import TIMEOUT_SECONDS, Session
from runner.gcp.storage import ObjectInfo, data_loss, parse_gs_uri
from runner.gcp.versions import storage_base

_PASSING = frozenset({408, 429, 500, 502, 503, 504})
_SAFE = re.compile(r"[!-~]+")
FIELDS = "bucket,name,size,crc32c,generation"
"""Of an object's JSON resource: what `info_of` needs."""


class ObjectClient:
    """Requests to Cloud Storage. It may be used from several threads, each of which keeps a connection."""

    def __init__(self, session: Session) -> None:
        self._session = session
        address = urlsplit(storage_base(session))
        self._secure = address.scheme == "https"
        self._host = address.hostname or ""
        self._port = address.port or (443 if self._secure else 80)
        self._prefix = address.path.rstrip("/")
        self._authority = address.netloc
        self._local = threading.local()
        self._open: set[http.client.HTTPConnection] = set()
        self._lock = threading.Lock()

    def close(self) -> None:
        """Close the connections of all threads."""
        with self._lock:
            for connection in self._open:
                connection.close()
            self._open.clear()

    def __enter__(self) -> ObjectClient:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def request(
        self,
        method: str,
        path: str,
        *,
        resource: str,
        what: str,
        body: Sequence[bytes] = (),
        headers: dict[str, str] | None = None,
        expected: tuple[int, ...] = (200,),
    ) -> Answer:
        """Send a request whose repetition changes nothing and return the answer.

        It is repeated, with pauses, after failures that pass by themselves.

        Args:
            method: of HTTP.
            path: with its query, or a whole address of the same service.
            resource: the object, for messages.
            what: the API's name of the method, for messages.
            body: sent one behind the other.
            headers: beside the login.
            expected: statuses to return; any other is an error.

        Raises:
            GoogleApiError: the service refused (or one of its subclasses).
            ConnectionLostError: no answer, several times.
        """
        refreshed = False
        attempt = 0
        while True:
            attempt += 1
            try:
                answer = self._once(method, path, body, headers or {}, fresh=refreshed)
            except (OSError, http.client.HTTPException) as error:
                self.drop()
                if attempt >= ATTEMPTS:
                    message = f"{what} {resource}: {error or type(error).__name__}"
                    hint = "check the address and the network; `runner emulator status` tells of the local server"
                    raise ConnectionLostError(message, hint=hint) from error
                time.sleep(_pause(attempt, None))
                continue
            if answer.status in expected:
                return answer
            if answer.status == 401 and not refreshed and not self._session.environment.token:
                refreshed = True
                continue
            if answer.status not in _PASSING or attempt >= ATTEMPTS:
                text = answer.body[:500].decode("utf-8", "replace")
                raise api_error(answer.status, answer.document(), text, method=what, resource=resource)
            time.sleep(_pause(attempt, answer.headers.get("retry-after")))

    def stream(self, path: str, headers: dict[str, str]) -> http.client.HTTPResponse:
        """Send a GET and return the answer unread. The thread's connection is busy until it is read or dropped."""
        connection = self._connection()
        connection.request("GET", self._prefix + path, headers={**self._login(fresh=False), **headers})
        return connection.getresponse()

    def drop(self) -> None:
        """Close the connection of this thread."""
        connection = getattr(self._local, "connection", None)
        if connection is not None:
            self._local.connection = None
            with self._lock:
                self._open.discard(connection)
            connection.close()

    def _once(self, method: str, path: str, body: Sequence[bytes], headers: dict[str, str], *, fresh: bool) -> Answer:
        connection = self._connection()
        if connection.sock is None:
            connection.connect()
        address = path if path.startswith("http") else self._prefix + path
        if path.startswith("http"):
            parts = urlsplit(path)
            address = parts.path + (f"?{parts.query}" if parts.query else "")
        if not _SAFE.fullmatch(address):
            raise ConfigurationError(f"{address[:200]!r} cannot be asked for")
        fields = {"Host": self._authority, "Content-Length": str(sum(map(len, body)))}
        fields |= self._login(fresh=fresh) | headers
        lines = [f"{method} {address} HTTP/1.1", *(f"{name}: {value}" for name, value in fields.items()), "\r\n"]
        answer, closes = http_wire.exchange(connection.sock, ["\r\n".join(lines).encode("latin-1"), *body], method)
        if closes:
            self.drop()
        return answer

    def _login(self, *, fresh: bool) -> dict[str, str]:
        return {"Authorization": f"Bearer {self._session.token(fresh=fresh)}"}

    def _connection(self) -> http.client.HTTPConnection:
        connection: http.client.HTTPConnection | None = getattr(self._local, "connection", None)
        if connection is None:
            connection = self._connect()
            self._local.connection = connection
            with self._lock:
                self._open.add(connection)
        return connection

    def _connect(self) -> http.client.HTTPConnection:
        host, port, tunnel = self._host, self._port, False
        proxy = urllib.request.getproxies().get("https" if self._secure else "http")
        if proxy and not urllib.request.proxy_bypass(host):
            parts = urlsplit(proxy if "//" in proxy else f"//{proxy}")
            host, port, tunnel = parts.hostname or host, parts.port or 80, True
        kind = http.client.HTTPSConnection if self._secure else http.client.HTTPConnection
        connection = kind(host, port, timeout=TIMEOUT_SECONDS, blocksize=1 << 20)
        if tunnel:
            connection.set_tunnel(self._host, self._port)
        return connection


def _pause(attempt: int, retry_after: str | None) -> float:
    """Return seconds: what `Retry-After` says, else truncated exponential with full jitter."""
    try:
        return min(LONGEST_PAUSE_SECONDS, max(0.0, float(retry_after or "")))
    except ValueError:
        return random.uniform(0, min(LONGEST_PAUSE_SECONDS, failures.FIRST_PAUSE_SECONDS * 2 ** (attempt - 1)))


def object_path(uri: str, *, download: bool = False) -> str:
    """Return the path of an object in the JSON API. Raises ConfigurationError."""
    bucket, name = parse_gs_uri(uri)
    if not name:
        message = f"{uri!r} names a bucket, not an object"
        raise ConfigurationError(message, problems=[message])
    return f"{'/download' if download else ''}/storage/v1/b/{bucket}/o/{quote(name, safe='')}"


def find(client: ObjectClient, uri: str) -> ObjectInfo | None:
    """Return what is stored under an address now, None if nothing is. Raises what `info_of` raises."""
    path = object_path(uri) + f"?fields={FIELDS},contentType"
    answer = client.request("GET", path, resource=uri, what="storage.objects.get", expected=(200, 404))
    if answer.status == 404:
        return None
    return info_of(uri, answer.document(), method="storage.objects.get")


def info_of(uri: str, body: Any, *, method: str) -> ObjectInfo:
    """Return an object's JSON resource as `ObjectInfo`. Raises GoogleApiError where it is none, or another object's."""
    try:
        named = f"gs://{body['bucket']}/{body['name']}"
        size, crc32c, generation = int(body["size"]), str(body["crc32c"]), int(body["generation"])
    except (KeyError, TypeError, ValueError):
        raise data_loss(uri, "the answer does not say size, checksum and generation", method=method) from None
    if named != uri:
        raise data_loss(uri, f"the answer is about {named}", method=method)
    content_type = str(body.get("contentType", ""))
    return ObjectInfo(uri=uri, size=size, crc32c=crc32c, generation=generation, content_type=content_type)


def open_object(client: ObjectClient, uri: str) -> tuple[ObjectInfo, io.BufferedReader]:
    """Return an object and a stream of its bytes.

    The stream reads one version of the object whatever happens to it, goes on where it was when the connection breaks,
    and compares the CRC32C at the end.

    Raises:
        NotFoundError: nothing is stored there. While reading: GoogleApiError, ConnectionLostError.
    """
    found = find(client, uri)
    if found is None:
        raise NotFoundError(
            f"storage.objects.get {uri}: there is no such object",
            status="NOT_FOUND",
            http=404,
            method="storage.objects.get",
            resource=uri,
            hint="`runner data check gs://BUCKET/NAME` takes the whole name",
        )
    return found, stream_of(client, found)


def stream_of(client: ObjectClient, info: ObjectInfo) -> io.BufferedReader:
    """Return a stream of the bytes of an object that was found; see `open_object`."""
    return io.BufferedReader(_ObjectStream(client, info), 1 << 20)


class _ObjectStream(io.RawIOBase):
    def __init__(self, client: ObjectClient, info: ObjectInfo) -> None:
        import google_crc32c

        self._client = client
        self._info = info
        self._position = 0
        self._checksum: Any = google_crc32c.Checksum()
        self._response: http.client.HTTPResponse | None = None

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        left = self._info.size - self._position
        if not left:
            self._verify()  # of an empty object nothing has been
            return 0
        view = memoryview(buffer)[:left]
        failures = 0
        while True:
            try:
                if self._response is None:
                    self._response = self._ask(left)
                count = self._response.readinto(view)
                if not count:
                    raise http.client.IncompleteRead(b"", left)
                break
            except (OSError, http.client.HTTPException) as error:
                self._client.drop()
                self._response = None
                failures += 1
                if failures >= ATTEMPTS:
                    raise ConnectionLostError(f"storage.objects.get {self._info.uri}: {error}") from error
                time.sleep(_pause(failures, None))
        self._position += count
        self._checksum.update(bytes(view[:count]))  # it takes no buffer that can be written
        if count == left:
            self._verify()
            self._end(self._response)
        return int(count)

    def _end(self, response: http.client.HTTPResponse) -> None:
        """Read the end of an answer, so that the connection can be asked more; give it up where something follows."""
        try:
            clean = not response.read(1)
        except (OSError, http.client.HTTPException):
            clean = False
        if not clean:
            self._client.drop()

    def close(self) -> None:
        """Give the connection up if the object was not read to its end."""
        if not self.closed and self._response is not None and self._position < self._info.size:
            self._client.drop()
        super().close()

    def _ask(self, left: int) -> http.client.HTTPResponse:
        path = f"{object_path(self._info.uri, download=True)}?alt=media&generation={self._info.generation}"
        headers = {"Accept-Encoding": "gzip"}  # the bytes as they are stored
        if self._position:
            headers["Range"] = f"bytes={self._position}-"
        response = self._client.stream(path, headers)
        if response.status in _PASSING:
            response.read()
            raise http.client.HTTPException(f"HTTP {response.status}")
        if response.status not in {200, 206}:
            body = response.read()
            try:
                document = json.loads(body)
            except ValueError:
                document = {}
            resource = self._info.uri
            raise api_error(response.status, document, "", method="storage.objects.get", resource=resource)
        if response.length not in {None, left}:
            raise http.client.HTTPException(f"an answer of {response.length} bytes where {left} are left")
        return response

    def _verify(self) -> None:
        found = base64.b64encode(self._checksum.digest()).decode()
        if found != self._info.crc32c:
            raise data_loss(self._info.uri, "what arrived differs from what is stored", method="storage.objects.get")
