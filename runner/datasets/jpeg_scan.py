"""Whether the picture data of a JPEG are what they say: as many blocks as the picture has, of codes that exist.

Decoders paper over broken data, so that a photo with overwritten bytes decodes into grey without a complaint. This
walks through the codes of baseline JPEGs without computing a pixel; progressive ones are left to the decoder.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

_SCAN_END = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]", re.DOTALL)
_RESTART = re.compile(rb"\xff[\xd0-\xd7]")
_SPARE_BYTES = 2
"""Some programs write as many too many."""


@dataclass(slots=True)
class _Frame:
    width: int = 0
    height: int = 0
    components: list[tuple[int, int, int]] = field(default_factory=list)
    """Id, blocks of an MCU across and down."""
    restart: int = 0
    """MCUs between restart markers; 0 for none."""
    tables: dict[int, list[int]] = field(default_factory=dict)
    """Class and number of a Huffman table to what the next 16 bits begin with: length and symbol."""


def scan_problem(data: bytes) -> str:
    """Return what is wrong with the picture data of a whole JPEG; empty if nothing is, or if it cannot be told here."""
    frame = _Frame()
    position = 2
    while position + 4 <= len(data):
        marker = data[position + 1]
        if marker == 0xFF:
            position += 1
            continue
        end = position + 2 + int.from_bytes(data[position + 2 : position + 4], "big")
        body = data[position + 4 : end]
        if marker in {0xC0, 0xC1} and body[:1] == b"\x08":
            frame.height, frame.width = int.from_bytes(body[1:3], "big"), int.from_bytes(body[3:5], "big")
            frame.components = [(body[at], body[at + 1] >> 4, body[at + 1] & 15) for at in range(6, len(body) - 2, 3)]
        elif marker == 0xC4:
            _read_tables(body, frame.tables)
        elif marker == 0xDD:
            frame.restart = int.from_bytes(body[:2], "big")
        elif marker == 0xDA:
            found = _SCAN_END.search(data, end)
            if not frame.components or found is None or body[0] != len(frame.components):
                return ""
            return _walk(frame, body, data[end : found.start()])
        position = end
    return ""


def _read_tables(body: bytes, tables: dict[int, list[int]]) -> None:
    position = 0
    while position + 17 <= len(body):
        counts = body[position + 1 : position + 17]
        symbols = body[position + 17 : position + 17 + sum(counts)]
        table: list[int] = []
        used = 0
        for length, count in enumerate(counts, 1):
            for symbol in symbols[used : used + count]:
                table += [length << 8 | symbol] * (1 << (16 - length))
            used += count
        # What no code begins with is 0, as are the bits behind a table that is too large.
        tables[body[position]] = (table + [0] * (65536 - len(table)))[:65536]
        position += 17 + sum(counts)


def _walk(frame: _Frame, head: bytes, data: bytes) -> str:
    chosen = {head[at]: head[at + 1] for at in range(1, 1 + 2 * head[0], 2)}
    single = len(frame.components) == 1
    across = max(width for _, width, _ in frame.components)
    down = max(height for _, _, height in frame.components)
    if single:
        across = down = 1
    blocks: list[tuple[list[int], list[int]]] = []
    for component, width, height in frame.components:
        choice = chosen.get(component, 0)
        tables = frame.tables.get(choice >> 4), frame.tables.get(0x10 | (choice & 15))
        if tables[0] is None or tables[1] is None:
            return "a Huffman table is missing"
        blocks += [(tables[0], tables[1])] * (1 if single else width * height)
    left = -(-frame.width // (8 * across)) * -(-frame.height // (8 * down))
    parts = _RESTART.split(data) if frame.restart else [data]
    for part in parts:
        count = min(left, frame.restart or left)
        problem = _segment(part.rstrip(b"\xff").replace(b"\xff\x00", b"\xff"), count, blocks)
        if problem:
            return problem
        left -= count
    return f"{left} blocks of the picture are missing" if left else ""


def _segment(data: bytes, count: int, blocks: list[tuple[list[int], list[int]]]) -> str:
    total = 8 * len(data)
    padded = data + b"\xff" * 8
    bit = 0
    for _ in range(count):
        for direct, alternating in blocks:
            at = bit >> 3
            entry = direct[int.from_bytes(padded[at : at + 3], "big") >> (8 - (bit & 7)) & 0xFFFF]
            if not entry:
                return f"a code at byte {at} of the picture data does not exist"
            bit += (entry >> 8) + (entry & 15)
            place = 1
            while place < 64:
                at = bit >> 3
                entry = alternating[int.from_bytes(padded[at : at + 3], "big") >> (8 - (bit & 7)) & 0xFFFF]
                if not entry:
                    return f"a code at byte {at} of the picture data does not exist"
                size = entry & 15
                run = entry >> 4 & 15
                bit += (entry >> 8) + size
                if size:
                    place += run + 1
                elif run == 15:
                    place += 16
                else:
                    break
            if place > 64:
                return f"a block at byte {bit >> 3} of the picture data has too many coefficients"
            if bit > total + 7:
                return "the picture data end before the picture"
    return "" if total - bit < 8 * (_SPARE_BYTES + 1) else f"{(total - bit) // 8} bytes of picture data are left over"
