"""What an image is, by its bytes: type, size in pixels, whether it is whole.

Nothing is decoded, so a bomb costs nothing.
"""

from __future__ import annotations

import binascii
import re
import struct
from dataclasses import dataclass

MIME_TYPES = ("image/jpeg", "image/png", "image/webp")
"""The specification's image formats."""

MAX_PIXELS = 50_000_000
"""Bound against decompression bombs; the service publishes none."""

GS_URI = re.compile(r"gs://(?P<bucket>[a-z0-9][a-z0-9._-]{1,220}[a-z0-9])/(?P<name>[^\r\n\x00]{1,1024})\Z")
"""A Cloud Storage object; its name is opaque."""

_DATA_URL = re.compile(r"data:(?P<type>[^;,]*)(?P<base64>;base64)?,", re.ASCII)


class ImageError(Exception):
    """The bytes are no image the service takes. `finding` is the finding's code; no user sees the exception."""

    def __init__(self, finding: str, message: str) -> None:
        super().__init__(message)
        self.finding = finding
        self.message = message


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageHeader:
    """Type and size of an image; `trailing` counts the bytes after its end."""

    mime_type: str
    width: int
    height: int
    trailing: int = 0


def decode_data_url(url: str) -> tuple[str, bytes]:
    """Return (declared type, bytes) of a `data:` URL. Raises ImageError."""
    match = _DATA_URL.match(url)
    if match is None:
        raise ImageError("image-data-url", "not a data: URL of the form data:image/jpeg;base64,…")
    if not match["base64"]:
        raise ImageError("image-data-url", "the data: URL does not say ;base64")
    try:
        return match["type"].lower(), binascii.a2b_base64(url[match.end() :].encode("ascii"), strict_mode=True)
    except (binascii.Error, UnicodeEncodeError) as error:
        raise ImageError("image-base64", f"the base64 text is broken ({error})") from error


def read_header(data: bytes) -> ImageHeader:
    """Return what the bytes say of themselves.

    Raises:
        ImageError: no JPEG, PNG or WEBP, cut short, or more than `MAX_PIXELS` pixels.
    """
    if data.startswith(b"\x89PNG\r\n\x1a\n"):
        header = _png(data)
    elif data.startswith(b"\xff\xd8"):
        header = _jpeg(data)
    elif data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        header = _webp(data)
    else:
        raise ImageError("image-type", f"no JPEG, PNG or WEBP (it starts with {data[:8].hex(' ') or 'nothing'})")
    if header.width * header.height > MAX_PIXELS:
        size = f"{header.width} x {header.height}"
        raise ImageError("image-too-large", f"{size} pixels are more than {MAX_PIXELS // 1_000_000} million")
    if not header.width or not header.height:
        raise ImageError("image-truncated", "the image has no pixels")
    return header


def _cut() -> ImageError:
    return ImageError("image-truncated", "the image is cut short")


def _png(data: bytes) -> ImageHeader:
    if len(data) < 33 or data[12:16] != b"IHDR":
        raise _cut()
    width, height = struct.unpack(">II", data[16:24])
    position = 8
    while position + 12 <= len(data):
        length = int.from_bytes(data[position : position + 4], "big")
        kind = data[position + 4 : position + 8]
        end = position + 12 + length
        if end > len(data):
            raise _cut()
        if binascii.crc32(data[position + 4 : end - 4]) != int.from_bytes(data[end - 4 : end], "big"):
            raise ImageError("image-truncated", f"the checksum of the PNG chunk {kind!r} is wrong")
        if kind == b"IEND":
            return ImageHeader(mime_type="image/png", width=width, height=height, trailing=len(data) - end)
        position = end
    raise _cut()


def _jpeg(data: bytes) -> ImageHeader:
    position, width, height = 2, 0, 0
    while position + 4 <= len(data):
        if data[position] != 0xFF:
            raise ImageError("image-truncated", "the JPEG's segments are broken")
        marker = data[position + 1]
        if marker == 0xFF:
            position += 1
            continue
        length = int.from_bytes(data[position + 2 : position + 4], "big")
        if 0xC0 <= marker <= 0xCF and marker not in {0xC4, 0xC8, 0xCC} and position + 9 <= len(data):
            height, width = struct.unpack(">HH", data[position + 5 : position + 9])
        if marker == 0xDA:
            end = data.rfind(b"\xff\xd9", position)
            if end < 0:
                raise _cut()
            return ImageHeader(mime_type="image/jpeg", width=width, height=height, trailing=len(data) - end - 2)
        position += 2 + length
    raise _cut()


def _webp(data: bytes) -> ImageHeader:
    size = int.from_bytes(data[4:8], "little") + 8
    if len(data) < max(size, 30):
        raise _cut()
    kind = data[12:16]
    if kind == b"VP8X":
        width = int.from_bytes(data[24:27], "little") + 1
        height = int.from_bytes(data[27:30], "little") + 1
    elif kind == b"VP8L":
        bits = int.from_bytes(data[21:25], "little")
        width, height = (bits & 0x3FFF) + 1, ((bits >> 14) & 0x3FFF) + 1
    elif kind == b"VP8 ":
        width = int.from_bytes(data[26:28], "little") & 0x3FFF
        height = int.from_bytes(data[28:30], "little") & 0x3FFF
    else:
        raise ImageError("image-type", "the WEBP holds no picture")
    return ImageHeader(mime_type="image/webp", width=width, height=height, trailing=len(data) - size - (size & 1))
