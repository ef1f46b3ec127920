"""The exact parser's fast decoder takes only what the strict one takes, and reads the same."""

from __future__ import annotations

import itertools
import json
import random
import re
from typing import Any

import pytest

from runner.datasets.reading.lines import RawLine
from runner.datasets.rules.json_objects import Findings, decode_block, decode_text
from runner.datasets.rules.parsing import parse_line, parse_raw
from runner.datasets.rules.texts import control_characters
from tests.datasets.examples import BROKEN_TEXT, GOOD
from tests.datasets.test_fast_path import all_lines, spelled

INVISIBLE = [*range(9), 11, 12, *range(14, 32), *range(0x7F, 0xA0), 0x200B, *range(0x202A, 0x202F), 0x2060]
INVISIBLE += [*range(0x2066, 0x206A), 0xFEFF, 0xFFFD]


def pairs(value: Any) -> Any:
    """Return a value with objects as lists of pairs, so that the order of keys is compared too."""
    if isinstance(value, dict):
        return [(key, pairs(child)) for key, child in value.items()]
    return [pairs(child) for child in value] if isinstance(value, list) else (type(value), value)


def agree(line: bytes) -> bool:
    """Hold the fast decoder to the strict one; tell whether it took the line."""
    for block in (line + b"\n" + line, line + b"\r\n" + line + b"\n", line):
        decoded = decode_block(block)
        if decoded is not None:
            findings = Findings("t.jsonl", 2)
            expected = [decode_text(each.decode(), findings) for each in block.removesuffix(b"\n").split(b"\n")]
            assert findings.items == [], block
            assert pairs(decoded[0]) == pairs(expected), block
    return decoded is not None


def test_good_lines_are_decoded_fast() -> None:
    """Otherwise the tests below would prove little."""
    for name, body in GOOD.items():
        for style in range(2):
            assert agree(spelled(body, style).encode()), name


def test_every_known_line_is_decoded_alike() -> None:
    for line in all_lines():
        agree(line)
    for text, _ in BROKEN_TEXT.values():
        agree(text.encode("utf-8", "surrogatepass"))
    for blank in (b"", b" ", b"\x0b", b"\x0c\t", b"\x1e", b"\xc2\x85 ", b"\xe2\x80\xa8"):
        agree(blank)
        parsed = parse_line(blank.decode(), 2)
        assert (parsed.example, parsed.findings) == (None, ())


@pytest.mark.parametrize("name", GOOD)
@pytest.mark.parametrize("style", [0, 1])
def test_a_line_may_break_off_anywhere(name: str, style: int) -> None:
    text = spelled(GOOD[name], style).encode()
    # Backslashes and quotes at the end of a text, characters of several bytes, escapes of four digits.
    awkward = text.replace(b"What is a car?", b'C:\\\\ \\"a\\\\\\" \xe2\x80\x9cb\xe2\x80\x9d \\u65e5\\u672c \\\\')
    for line in (text, awkward):
        for end in range(len(line)):
            assert not agree(line[:end])
        for rest in (b",", b", ", b" ", b"}", b"]", b"},", b"\t", b" x", line):
            agree(line + rest)


INSERTED = [
    b'"', b"\\", b",", b"{", b"}", b"[", b"]", b":", b"\x00", b"\xff", b"\n", b" ", b"NaN", b"1e999", b"9" * 4301,
    b"0.5", b"\\u0007", b"\\ud800", b"\\ud83d\\ude00", b"\\u200b", b"\xe2\x80\x8b", b"\xc2\x85", b"\\x", b"\x7f",
    b"\\b", b"\\\\", b'\\"', b"null", b'"a":1,', b'"role":"user",', b'"content":"\\\\",', b"[[[[[[[[[[1]]]]]]]]]]",
    b'{"a":' * 70 + b"1" + b"}" * 70, b"None", b"\xed\xa0\x80", b"\x1e", b"\\u001e", b'"a" :"b",', b'"a"\t :"",',
    b'"role"  : "user", ', b'\\":', b'\\\\\\":', b'"\\\\":null,', b"\r", b"[" * 70 + b"]" * 70,
]  # fmt: skip


@pytest.mark.parametrize("seed", range(3))
def test_mutations_are_decoded_alike(seed: int) -> None:
    draw, taken = random.Random(seed), 0
    lines = [line for line in all_lines() if len(line) < 3000]
    for _ in range(10_000):
        line = bytearray(draw.choice(lines))
        for _ in range(draw.choice((1, 1, 2, 3))):
            places = [place for place, byte in enumerate(line) if byte in b'"{}[],:'] if draw.random() < 0.5 else []
            place = draw.choice(places) if places else draw.randrange(len(line) + 1)
            kind = draw.randrange(4)
            if kind == 0:
                del line[place : place + draw.randrange(1, 5)]
            elif kind == 1 and place < len(line):
                line[place] = draw.randrange(256)
            else:
                line[place:place] = draw.choice(INSERTED)
        taken += agree(bytes(line))
    assert taken > 500


@pytest.mark.parametrize("space", ["", " ", "\t", "\r", "  ", " \t", "\r  "])
@pytest.mark.parametrize("key", ["a", "", "\\\\", '\\"', '\\\\\\"', "a:", " :", '\\":', "é"])
@pytest.mark.parametrize("text", ["b", '\\":', '\\" :', "\\\\", " : ", '\\\\\\":', '\\"  '])
def test_a_key_that_is_there_twice_is_always_seen(space: str, key: str, text: str) -> None:
    """Whatever stands around its colon, and whatever a text holds that looks like one."""
    pair = f'"{key}"{space}:{space}"{text}"'
    agree(f"{{{pair}}}".encode())
    for line in (f"{{{pair},{pair}}}", f'{{"x":[{{{pair}, {pair}}}],"y":"{text}"}}', f'{{{pair},"b":"c",{pair}}}'):
        assert decode_block(line.encode()) is None, line
        assert [finding.code for finding in parse_line(line, 2).findings] == ["duplicate-key"], line


def test_all_short_sequences_are_decoded_alike() -> None:
    """Of what numbers, escapes and structure are made of."""
    pieces = ["-", "+", ".", "e", "0", "1", ",", " ", "[", "]", "{", "}", '"', "a", ":", "\\", "u", "\x01", "\t", "é"]
    taken = 0
    for length in range(1, 5):
        for combination in itertools.product(pieces, repeat=length):
            middle = "".join(combination)
            if length == 4 and middle[0] not in '"-1[{':
                continue
            taken += agree(('{"a":' + middle + "}").encode())
    assert taken > 100
    for escape in range(128):
        for form in (b'{"a":"\\%c"}', b'{"a":"%c"}', b'{"a":"\\u00%c0"}', b'{"a":%c}', b'{"a":1%c}', b'{"\\%c":""}'):
            agree(form % escape)


def test_every_order_of_turns() -> None:
    names = {"s": "system", "u": "user", "a": "assistant"}
    for length in range(1, 6):
        for order in map("".join, itertools.product(names, repeat=length)):
            line = json.dumps({"messages": [{"role": names[role], "content": "x"} for role in order]})
            right = re.fullmatch("s?(ua)+", order) is not None
            assert (parse_line(line, 1).example is not None) == right, order


def test_characters_that_do_not_belong_into_a_text() -> None:
    for code in range(0x11000):
        if not 0xD800 <= code < 0xE000:
            expected = f"U+{code:04X}" if code in INVISIBLE else None
            assert control_characters(f"a{chr(code)}b") == expected
            assert control_characters(f"é{chr(code)}") == expected


@pytest.mark.parametrize("form", ["escaped", "itself", "\\\\u{:04x}", "\\\\u{:04X}"])
def test_a_line_with_a_control_is_not_plain(form: str) -> None:
    """However the control is written; most lines with other characters are."""
    plain, calm = b'{"a":"b"}', 0
    for code in (*range(0xD800), *range(0xE000, 0x10000)):
        written = json.dumps(chr(code), ensure_ascii=form == "escaped")
        if "{" in form:
            written = f'"{form.format(code)}"'
        decoded = decode_block(b"\n".join((plain, f'{{"a":{written}}}'.encode(), plain)))
        if code in INVISIBLE:
            assert decoded is None or not decoded[1][1], written
        if decoded is not None:
            assert decoded[1] == [True, decoded[1][1], True], written
            calm += decoded[1][1]
    assert calm > 50_000


def test_a_detail_of_any_type_is_a_finding() -> None:
    details: list[Any] = [[], {}, 3, True, "big", ["low"]]
    for detail in details:
        image = {"type": "image_url", "image_url": {"url": "gs://a-bucket/a.png", "detail": detail}}
        turns = [{"role": "user", "content": [image]}, {"role": "assistant", "content": "b"}]
        parsed = parse_raw(RawLine(2, json.dumps({"messages": turns}).encode()))
        assert parsed is not None
        assert [finding.code for finding in parsed.findings] == ["image-detail"], detail


def test_a_turn_of_nobody_may_have_an_image() -> None:
    """What follows from another finding is not said."""
    image = {"type": "image_url", "image_url": {"url": "gs://a-bucket/a.png"}}
    turns = [{"rol": "user", "content": [image]}, {"role": "assistant", "content": "b"}]
    parsed = parse_line(json.dumps({"messages": turns}), 2)
    assert {finding.code for finding in parsed.findings} == {"missing-key", "unknown-key"}
