"""Sending objects: ranges, hashes, gzip."""

from __future__ import annotations

import base64
import functools
import os
import re
import time
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from anyio import to_thread
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from runner.emulator.context import Emulator
from runner.emulator.storage import records
from runner.emulator.storage.blobs import CHUNK
from runner.emulator.storage.faults import not_satisfiable
from runner.emulator.storage.records import StoredObject, encode_crc32c

_RANGE = re.compile(r"\s*bytes\s*=\s*(\d{0,19})\s*-\s*(\d{0,19})\s*\Z", re.ASCII)
_CONTROL = re.compile(rb"[\x00-\x1f\x7f]+")


@dataclass(frozen=True, slots=True)
class Span:
    """Bytes from `begin` up to, but not including, `end`."""

    begin: int
    end: int


def parse_range(header: str | None, size: int) -> Span | None:
    """Return the part of `size` bytes that a Range header requests; None means everything.

    Invalid or multiple ranges are ignored, as allowed by RFC 9110 and on the service. Raises ApiError 416 if the range
    contains no byte of the object.
    """
    match = _RANGE.match(header) if header else None
    if match is None:
        return None
    first, last = match.groups()
    if not first and not last:
        return None
    if not first:
        count = int(last)
        if count == 0 or size == 0:
            raise not_satisfiable(size)
        return Span(max(0, size - count), size)
    begin = int(first)
    if last and int(last) < begin:
        return None
    if begin >= size:
        raise not_satisfiable(size)
    return Span(begin, min(int(last) + 1, size) if last else size)


def media_headers(record: StoredObject, settings: dict[str, Any]) -> list[tuple[bytes, bytes]]:
    """Return the headers with an object's metadata, in the JSON and the XML API."""
    hashes = f"crc32c={encode_crc32c(record.crc32c)}"
    if record.md5 is not None:
        hashes += f",md5={base64.b64encode(record.md5).decode()}"
    counted = [
        (b"x-goog-hash", hashes.encode()),
        (b"x-goog-generation", b"%d" % record.generation),
        (b"x-goog-metageneration", b"%d" % record.metageneration),
        (b"x-goog-stored-content-length", b"%d" % record.size),
        (b"accept-ranges", b"bytes"),
        (b"last-modified", http_date(record.created // 1_000_000).encode()),
    ]
    if record.components is not None:
        counted.append((b"x-goog-component-count", b"%d" % record.components))
    pairs = {
        "content-type": settings.get("contentType") or "application/octet-stream",
        "cache-control": settings.get("cacheControl"),
        "content-disposition": settings.get("contentDisposition"),
        "content-language": settings.get("contentLanguage"),
        "x-goog-storage-class": settings.get("storageClass"),
        "x-goog-stored-content-encoding": settings.get("contentEncoding") or "identity",
    }
    if key := settings.get("customerEncryption"):
        pairs["x-goog-encryption-algorithm"] = key["encryptionAlgorithm"]
        pairs["x-goog-encryption-key-sha256"] = key["keySha256"]
    for key, value in (settings.get("metadata") or {}).items():
        pairs[f"x-goog-meta-{quote(str(key), safe='!#$&+.^`|~')}".lower()] = str(value)
    return [*((name.encode(), header_value(value)) for name, value in pairs.items() if value is not None), *counted]


_DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_MONTHS = ("", "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


@functools.lru_cache(64)
def http_date(seconds: int) -> str:
    """Return seconds since 1970 as an HTTP date; `email.utils.formatdate` takes five times as long."""
    year, month, day, hour, minute, second, weekday, *_ = time.gmtime(seconds)
    return f"{_DAYS[weekday]}, {day:02d} {_MONTHS[month]} {year:04d} {hour:02d}:{minute:02d}:{second:02d} GMT"


def header_value(text: object) -> bytes:
    """Return text as a header's value: UTF-8, without characters that could end the header."""
    value = str(text)
    if value.isascii() and value.isprintable():
        return value.encode().strip()
    return _CONTROL.sub(b" ", value.encode("utf-8", "replace")).strip()


class MediaResponse(Response):
    """Sends an object, or a part of it, without loading a large one into memory."""

    def __init__(
        self,
        emulator: Emulator,
        record: StoredObject,
        headers: Mapping[str, str],
        *,
        etag: str,
        extra: dict[str, str] | None = None,
        body: bool = True,
    ) -> None:
        self.background = None
        self._record = record
        self._with_body = body
        settings = record.settings
        self.raw_headers = media_headers(record, settings)
        self.raw_headers.append((b"etag", header_value(etag)))
        for name, value in (extra or {}).items():
            self.raw_headers = [pair for pair in self.raw_headers if pair[0] != name.lower().encode()]
            self.raw_headers.append((name.lower().encode(), header_value(value)))
        stored_gzip = settings.get("contentEncoding") == "gzip"
        accepts_gzip = _accepts_gzip(headers.get("accept-encoding", "")) or "no-transform" in settings.get(
            "cacheControl", ""
        )
        self._gunzip = stored_gzip and not accepts_gzip
        self.status_code = 200
        self._span = Span(0, record.size)
        if self._gunzip:
            # The length is not known before the end, so ranges are ignored, as on the service.
            self.raw_headers.append((b"warning", b"214 UploadServer gunzipped"))
            self.raw_headers = [pair for pair in self.raw_headers if pair[0] != b"accept-ranges"]
        else:
            if encoding := settings.get("contentEncoding"):
                self.raw_headers.append((b"content-encoding", header_value(encoding)))
            span = parse_range(headers.get("range"), record.size)
            if span is not None:
                self._span, self.status_code = span, 206
                content_range = f"bytes {span.begin}-{span.end - 1}/{record.size}"
                self.raw_headers.append((b"content-range", content_range.encode()))
            self.raw_headers.append((b"content-length", str(self._span.end - self._span.begin).encode()))
        # Opened before the response starts, so that the file can be deleted meanwhile.
        self._descriptor = None if record.blob is None or not body else _open(emulator, record.blob)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send it."""
        try:
            await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
            if not self._with_body or (self._descriptor is None and not self._gunzip):
                data = (self._record.inline or b"")[self._span.begin : self._span.end] if self._with_body else b""
                await send({"type": "http.response.body", "body": data})
                return
            read = self._reader()
            while chunk := await to_thread.run_sync(read):
                await send({"type": "http.response.body", "body": chunk, "more_body": True})
            await send({"type": "http.response.body", "body": b""})
        finally:
            if self._descriptor is not None:
                os.close(self._descriptor)
                self._descriptor = None

    def _reader(self) -> Callable[[], bytes]:
        chunks = self._gunzipped() if self._gunzip else self._chunks()
        return lambda: next(chunks, b"")

    def _chunks(self) -> Iterator[bytes]:
        if self._descriptor is None:
            yield (self._record.inline or b"")[self._span.begin : self._span.end]
            return
        at = self._span.begin
        while at < self._span.end:
            chunk = os.pread(self._descriptor, min(CHUNK, self._span.end - at), at)
            if not chunk:
                raise OSError(f"blob {self._record.blob} is shorter than its row says")
            at += len(chunk)
            yield chunk

    def _gunzipped(self) -> Iterator[bytes]:
        inflater = zlib.decompressobj(wbits=31)
        for chunk in self._chunks():
            pending = chunk
            while pending:
                # Limited, because a small file can unpack to a very large one.
                if plain := inflater.decompress(pending, CHUNK):
                    yield plain
                pending = inflater.unconsumed_tail
        if rest := inflater.flush():
            yield rest


def _accepts_gzip(header: str) -> bool:
    """Return whether an Accept-Encoding header accepts gzip; `gzip;q=0` is a refusal."""
    for part in header.lower().split(","):
        name, _, weight = part.partition(";")
        if name.strip() in ("gzip", "x-gzip", "*"):
            return not re.fullmatch(r"\s*q\s*=\s*0(\.0*)?\s*", weight)
    return False


def _open(emulator: Emulator, blob: str) -> int:
    return os.open(emulator.blobs / blob, os.O_RDONLY)


def open_media(
    emulator: Emulator,
    load: Callable[[], StoredObject],
    headers: Mapping[str, str],
    *,
    xml: bool = False,
    extra: dict[str, str] | None = None,
    body: bool = True,
) -> MediaResponse:
    """Return the response for the version that `load` returns.

    `load` is called again if the version's file was deleted meanwhile. Raises the errors of `load`, and ApiError 416.
    """
    while True:
        record = load()
        etag = record.etag
        if xml:
            etag = f'"{record.md5.hex() if record.md5 is not None else etag}"'
        try:
            return MediaResponse(emulator, record, headers, etag=etag, extra=extra, body=body)
        except FileNotFoundError:
            if not records.is_gone(emulator.store, record):
                raise
