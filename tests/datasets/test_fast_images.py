"""A reader takes an image without a word only if there is nothing to say of it, whatever bytes it is made of."""

from __future__ import annotations

import base64
import json
import random
import struct
import zlib

import pytest

from runner.datasets.rules.formats import MIME_TYPES
from runner.datasets.rules.images import ImageError, read_header
from tests.datasets.examples import png
from tests.datasets.test_fast_path import READERS, open_reader
from tests.datasets.written import JPEG, WEBP, WEBP_LOSSY


def _exif(order: str, entries: list[tuple[int, int]], count: int | None = None) -> bytes:
    """Return an EXIF block with these tags and values."""
    head = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(order + "I", 8)
    made = head + struct.pack(order + "H", len(entries) if count is None else count)
    for tag, value in entries:
        made += struct.pack(order + "HHIHH", tag, 3, 1, value, 0)
    return made


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def _segment(kind: int, data: bytes) -> bytes:
    return bytes((0xFF, kind)) + struct.pack(">H", len(data) + 2) + data


def _riff(chunks: bytes) -> bytes:
    return b"RIFF" + struct.pack("<I", len(chunks) + 4) + b"WEBP" + chunks


def _piece(kind: bytes, data: bytes) -> bytes:
    return kind + struct.pack("<I", len(data)) + data + b"\0" * (len(data) % 2)


def _size_of(width: int, height: int) -> bytes:
    return b"\0" * 4 + struct.pack("<I", width - 1)[:3] + struct.pack("<I", height - 1)[:3]


def _made() -> list[bytes]:
    """Return images that are right or wrong in one way."""
    base = png()
    exifs = [
        _exif(order, entries, count)
        for order in "<>"
        for entries, count in (
            ([(0x0112, 1)], None),
            ([(0x0112, 6)], None),
            ([(0x0112, 9)], None),
            ([(0x0110, 1), (0x8825, 26)], None),
            ([], None),
            ([(0x0112, 6)], 900),
            ([(0x0110, 6)], 900),
            ([], 3),
        )
    ]
    exifs += [exifs[0][:length] for length in range(0, len(exifs[0]), 3)] + [b"II*\0" + b"\xff" * 8, b"XX*\0" * 4]
    made = [base, JPEG, WEBP, WEBP_LOSSY]
    for exif in exifs:
        made.append(base[:33] + _chunk(b"eXIf", exif) + base[33:])
        made.append(JPEG[:2] + _segment(0xE1, b"Exif\0\0" + exif) + JPEG[2:])
        made.append(_riff(_piece(b"VP8X", _size_of(4, 4)) + _piece(b"EXIF", exif) + WEBP[12:]))
    made += [base[:33] + _chunk(kind, b"1234") + base[33:] for kind in (b"tEXt", b"acTL", b"IEND", b"IDAT")]
    for width, height in ((0, 4), (4, 0), (5000, 10_000), (5001, 10_000), (0xFFFFFFFF, 0xFFFFFFFF)):
        head = struct.pack(">II", width, height) + base[24:29]
        made.append(base[:8] + _chunk(b"IHDR", head) + base[33:])
        frame = JPEG.index(b"\xff\xc0")
        sides = struct.pack(">HH", height & 0xFFFF, width & 0xFFFF)
        made.append(JPEG[: frame + 5] + sides + JPEG[frame + 9 :])
    scan = JPEG.index(b"\xff\xda") + 12
    for kind in range(0x100):
        made.append(JPEG[:2] + _segment(kind, b"12345678") + JPEG[2:])
        made.append(JPEG[:-2] + _segment(kind, b"12345678") + JPEG[-2:])
        made.append(JPEG[:scan] + bytes((0xFF, kind)) + JPEG[scan:])
    for chunks in (
        _piece(b"VP8X", _size_of(4, 4)) + _piece(b"ANIM", b"123456") + WEBP[12:],
        _piece(b"VP8X", _size_of(4, 4)) + WEBP[12:],
        _piece(b"VP8X", _size_of(9000, 9000)) + WEBP[12:],
        _piece(b"VP8X", _size_of(4, 4)) + _piece(b"ANMF", b"1234567"),
        _piece(b"VP8X", _size_of(4, 4)) + _piece(b"ICCP", b"1234567"),
        _piece(b"VP8X", _size_of(4, 4)) + _piece(b"ICCP", b"1234567") + WEBP[12:],
        WEBP[12:] + b"abc",
        WEBP[12:20] + b"\x30" + WEBP[21:],
        WEBP_LOSSY[12:23] + b"\x9d\x01\x2b" + WEBP_LOSSY[26:],
    ):
        made += [_riff(chunks), _riff(chunks) + b"\0", _riff(chunks)[:-1]]
    return made


def _line(data: bytes, declared: str) -> bytes:
    url = f"data:{declared};base64," + base64.b64encode(data).decode()
    parts = [{"type": "image_url", "image_url": {"url": url}}]
    turns = [{"role": "user", "content": parts}, {"role": "assistant", "content": "It is an image."}]
    return json.dumps({"messages": turns}).encode() + b"\n"


def _unremarkable(data: bytes, declared: str) -> bool:
    try:
        header = read_header(data)
    except ImageError:
        return False
    return header.mime_type == declared and not header.notes


@pytest.mark.parametrize("compiled", READERS)
def test_images_that_are_taken_are_good(compiled: bool) -> None:
    draw = random.Random(9)
    images = _made()
    for _ in range(4000):
        data = bytearray(draw.choice(images))
        for _ in range(draw.choice((1, 1, 2, 4))):
            place = draw.randrange(len(data) + 1)
            kind = draw.randrange(4)
            if kind == 0:
                del data[place : place + draw.randint(1, 9)]
            elif kind == 1:
                data[place:place] = draw.choice((b"\xff", b"\xff\xd9", b"\0", b"\xff\x00", b"IEND", b"\xff\xda\0\x02"))
            elif place < len(data):
                data[place] = draw.choice((0, 0xFF, 0xD9, draw.randrange(256)))
        images.append(bytes(data))
    cases = [(data, declared) for data in images for declared in MIME_TYPES]
    reader = open_reader(compiled)
    found = reader.scan(b"".join(_line(data, declared) for data, declared in cases))
    assert found.count == len(cases)
    taken = set(found.lines) - {finding.line for finding in found.findings}
    good = {line for line, (data, declared) in enumerate(cases, 1) if _unremarkable(data, declared)}
    assert [cases[line - 1] for line in sorted(taken - good)] == []
    # The compiled reader leaves all WEBP with EXIF data, and all with frames, to the exact one.
    assert len(good) > 500
    assert len(good - taken) < 40
