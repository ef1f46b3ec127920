"""Determines an image's type, its size in pixels, and whether it is complete, from its bytes.

Nothing is decoded, so a decompression bomb does no harm.
"""

from __future__ import annotations

import binascii
import re
import struct
from dataclasses import dataclass

from runner.datasets.rules.formats import MAX_PIXELS

_MAGIC = (
    (re.compile(rb"\x89PNG\r\n\x1a\n"), "image/png"),
    (re.compile(rb"\xff\xd8\xff"), "image/jpeg"),
    (re.compile(rb"RIFF....WEBP", re.DOTALL), "image/webp"),
)
"""The first bytes of each type."""
_BASE64 = re.compile(r"[A-Za-z0-9+/]+={0,2}")
_SHORTEST_BASE64 = 60
"""Shortest base64 text of an image, in characters: no image has fewer than 45 bytes. A path can be shorter."""
_HEAD = 64

_DATA_URL = re.compile(r"data:(?P<type>[^;,]*)(?P<base64>;base64)?,", re.ASCII)


Note = tuple[str, str, str]
"""Code, message and fix of something that is allowed but probably unintended."""


class ImageError(Exception):
    """The bytes are not an image that the service accepts. `finding` is a finding's code; users never see it."""

    def __init__(self, finding: str, message: str) -> None:
        super().__init__(message)
        self.finding = finding
        self.message = message


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageHeader:
    """Type and size of an image."""

    mime_type: str
    width: int
    height: int
    notes: tuple[Note, ...] = ()


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


def as_data_url(text: str) -> str | None:
    """Return the data URL of a base64 image without its head; None if a text is certainly something else.

    White space in the base64 is removed, and missing padding is added.
    """
    head = text[:_HEAD].split()
    try:
        start = binascii.a2b_base64("".join(head)[:16].encode("ascii"), strict_mode=True)
    except (binascii.Error, UnicodeEncodeError):
        return None
    mime_type = next((kind for magic, kind in _MAGIC if magic.match(start)), None)
    if mime_type is None:
        return None
    body = "".join(text.split())
    if len(body) < _SHORTEST_BASE64 or not _BASE64.fullmatch(body):
        return None
    return f"data:{mime_type};base64,{body.rstrip('=')}{'=' * (-len(body.rstrip('=')) % 4)}"


def read_header(data: bytes) -> ImageHeader:
    """Return what the bytes declare about the image.

    Raises:
        ImageError: it is not JPEG, PNG or WEBP, is incomplete, or has more than `MAX_PIXELS` pixels.
    """
    notes: list[Note] = []
    if data.startswith(b"\x89PNG\r\n\x1a\n"):
        kind, (width, height, end) = "image/png", _png(data, notes)
    elif data.startswith(b"\xff\xd8"):
        kind, (width, height, end) = "image/jpeg", _jpeg(data, notes)
    elif data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        kind, (width, height, end) = "image/webp", _webp(data, notes)
    else:
        raise ImageError("image-type", f"no JPEG, PNG or WEBP (it starts with {data[:8].hex(' ') or 'nothing'})")
    if width * height > MAX_PIXELS:
        message = f"{width} x {height} pixels are more than {MAX_PIXELS // 1_000_000} million"
        raise ImageError("image-too-large", message)
    if not width or not height:
        raise _broken("the image has no pixels")
    if (trailing := len(data) - end) > 0:
        notes.insert(0, ("image-trailing", f"{trailing} bytes follow the end of the image", ""))
    return ImageHeader(mime_type=kind, width=width, height=height, notes=tuple(notes))


def _broken(what: str = "the image is cut short") -> ImageError:
    return ImageError("image-truncated", what)


# Each returns width, height and the end of the image, and adds notes. They raise ImageError.
def _png(data: bytes, notes: list[Note]) -> tuple[int, int, int]:
    if len(data) < 33 or data[12:16] != b"IHDR":
        raise _broken()
    width, height = struct.unpack(">II", data[16:24])
    position, pixels = 8, False
    while position + 12 <= len(data):
        length = int.from_bytes(data[position : position + 4], "big")
        kind = data[position + 4 : position + 8]
        end = position + 12 + length
        if end > len(data):
            raise _broken()
        if binascii.crc32(memoryview(data)[position + 4 : end - 4]) != int.from_bytes(data[end - 4 : end], "big"):
            raise _broken(f"the checksum of the PNG chunk {kind!r} is wrong")
        if kind == b"IDAT":
            pixels = True
        elif kind == b"acTL":
            notes.append(_ANIMATED)
        elif kind == b"eXIf":
            notes += _exif(data[position + 8 : end - 4])
        elif kind == b"IEND":
            if not pixels:
                raise _broken("the PNG has no picture data")
            return width, height, end
        position = end
    raise _broken()


# In a scan every 0xFF is followed by 0x00 (stuffing), a restart marker or the marker of the next segment.
_SCAN_END = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]", re.DOTALL)
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
# Allowed after a scan: tables, another scan, a comment, application data, the number of lines, the end.
_AFTER_SCAN = frozenset({0xC4, 0xD9, 0xDA, 0xDB, 0xDC, 0xDD, 0xFE, *range(0xE0, 0xF0)})


def _jpeg(data: bytes, notes: list[Note]) -> tuple[int, int, int]:
    position, width, height, scans = 2, 0, 0, 0
    while position + 2 <= len(data):
        if data[position] != 0xFF:
            raise _broken("the JPEG's segments are broken")
        marker = data[position + 1]
        if marker == 0xFF:
            position += 1
            continue
        if marker == 0xD9:
            if not scans or not width:
                raise _broken("the JPEG has no picture data")
            return width, height, position + 2
        if scans and marker not in _AFTER_SCAN:
            raise _broken(f"the JPEG's picture data are broken at byte {position}")
        length = int.from_bytes(data[position + 2 : position + 4], "big")
        end = position + 2 + length
        if length < 2 or end > len(data):
            raise _broken()
        if marker in _FRAMES and length >= 8:
            height, width = struct.unpack(">HH", data[position + 5 : position + 9])
        elif marker == 0xE1 and data[position + 4 : position + 10] == b"Exif\0\0":
            notes += _exif(data[position + 10 : end])
        elif marker == 0xDA:
            scans += 1
            end = _scan_end(data, end)
        position = end
    raise _broken()


def _scan_end(data: bytes, start: int) -> int:
    """Return the position of the marker after a scan."""
    found = _SCAN_END.search(data, start)
    if found is None:
        raise _broken()
    if found.start() == start:
        raise _broken("the JPEG's scan is empty")
    return found.start()


def _webp(data: bytes, notes: list[Note]) -> tuple[int, int, int]:
    size = int.from_bytes(data[4:8], "little") + 8
    if len(data) < max(size, 30):
        raise _broken()
    kind = data[12:16]
    if kind == b"VP8X":
        width = int.from_bytes(data[24:27], "little") + 1
        height = int.from_bytes(data[27:30], "little") + 1
    elif kind == b"VP8L":
        if data[20] != 0x2F:
            raise _broken("the WEBP's picture data are broken")
        bits = int.from_bytes(data[21:25], "little")
        width, height = (bits & 0x3FFF) + 1, ((bits >> 14) & 0x3FFF) + 1
    elif kind == b"VP8 ":
        if data[23:26] != b"\x9d\x01\x2a":
            raise _broken("the WEBP's picture data are broken")
        width = int.from_bytes(data[26:28], "little") & 0x3FFF
        height = int.from_bytes(data[28:30], "little") & 0x3FFF
    else:
        raise ImageError("image-type", "the WEBP holds no picture")
    _webp_chunks(data, size, notes)
    return width, height, size + (size & 1)


def _webp_chunks(data: bytes, size: int, notes: list[Note]) -> None:
    """Read the chunks: each must be inside the file, and one must contain the picture."""
    position, pixels = 12, False
    while position + 8 <= size:
        kind = data[position : position + 4]
        end = position + 8 + int.from_bytes(data[position + 4 : position + 8], "little")
        if end > size:
            raise _broken()
        pixels |= kind in {b"VP8 ", b"VP8L", b"ANMF"}
        if kind == b"ANIM":
            notes.append(_ANIMATED)
        elif kind == b"EXIF":
            notes += _exif(data[position + 8 : end].removeprefix(b"Exif\0\0"))
        position = end + (end & 1)
    if not pixels:
        raise _broken("the WEBP has no picture data")


_ANIMATED = ("image-animated", "the image is animated: at most one frame of it is seen", "save the frame that is meant")


def _exif(block: bytes) -> list[Note]:
    """Note what matters in an EXIF block: where the photo was taken, and that its pixels are stored rotated."""
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(block[:4])
    if order is None or len(block) < 10:
        return []
    (offset,) = struct.unpack_from(order + "I", block, 4)
    if offset + 2 > len(block):
        return []
    (count,) = struct.unpack_from(order + "H", block, offset)
    notes = []
    for index in range(min(count, 200)):
        entry = offset + 2 + 12 * index
        if entry + 12 > len(block):
            break
        (tag,) = struct.unpack_from(order + "H", block, entry)
        if tag == 0x8825:
            notes.append(("personal-data", "the image's EXIF data say where it was taken", "save it without EXIF data"))
        elif tag == 0x0112:
            (turned,) = struct.unpack_from(order + "H", block, entry + 8)
            if 2 <= turned <= 8:
                message = f"the EXIF orientation is {turned}: the pixels lie turned or mirrored"
                notes.append(("image-orientation", message, "turn the pixels themselves and save the image again"))
    return notes
