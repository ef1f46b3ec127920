"""The exact parser's short cuts find what a slow parser without any finds, in the same words and order."""

from __future__ import annotations

import itertools
import json
import random
import re
from collections import Counter
from typing import Any

import pytest

from runner.datasets import decoding
from runner.datasets.examples import ParsedLine
from runner.datasets.json_lines import Findings, RawLine, decode_object, has_surrogate
from runner.datasets.parsing import PLACEHOLDERS, Reader, detect_format, parse_line, parse_raw
from runner.datasets.texts import may_hold_invisible
from runner.datasets.values import closest, kind_of
from tests.datasets.examples import BROKEN_TEXT, GOOD
from tests.datasets.test_fast_path import all_lines, spelled

INVISIBLE = [*range(9), 11, 12, *range(14, 32), *range(0x7F, 0xA0), 0x200B, *range(0x202A, 0x202F), 0x2060]
INVISIBLE += [*range(0x2066, 0x206A), 0xFEFF, 0xFFFD]


class SlowReader(Reader):
    """Takes no turn for granted and looks at every text and key by itself."""

    def is_sound(self, value: Any) -> bool:
        return False

    def text_of(self, value: Any, path: str, *, blank_allowed: bool = False) -> str:
        if not isinstance(value, str):
            self.findings.error("wrong-type", path, f"{kind_of(value)} where a string belongs")
            return ""
        if not value.strip() and not blank_allowed:
            what = "only white space" if value else "empty"
            self.findings.error("empty-text", path, f"the text is {what}", "remove the example or fill it")
        if value.strip().lower() in PLACEHOLDERS:
            what, why = f"the text is {value.strip()!r}", "a missing value of the source was written out"
            self.findings.error("placeholder-text", path, what, why)
        if any("\ud800" <= character <= "\udfff" for character in value):
            self.findings.error("lone-surrogate", path, "the text holds half a surrogate pair (\\ud800…\\udfff)")
        elif found := [character for character in value if ord(character) in INVISIBLE]:
            self.findings.warning("control-character", path, f"the text holds U+{ord(found[0]):04X}", "remove it")
        return value

    def keys(
        self, body: dict[str, Any], path: str, *, required: tuple[str, ...], optional: tuple[str, ...] = ()
    ) -> None:
        unknown = [key for key in body if key not in required + optional]
        for key in required:
            if key not in body:
                near = closest(key, tuple(name.lower() for name in unknown), 0.7)
                fix = f"{near!r} is there: did you mean {key!r}?" if near else ""
                self.findings.error("missing-key", path, f"the key {key!r} is missing", fix)
        for key in unknown:
            place = f"{path}.{key[:60]}".removeprefix(".")
            self.findings.warning("unknown-key", place, "the service does not know this key and ignores it")
            if has_surrogate(key):
                self.findings.error("lone-surrogate", place, "the key holds half a surrogate pair")


def slow(line: bytes, *, images: bool = True) -> tuple[list[dict[str, Any]], list[str] | None]:
    """Return findings and texts of a line that is not the first, read by Python's decoder and the reader above."""
    findings = Findings("t.jsonl", 2)
    body = decode_object(RawLine(2, line), findings)
    texts = None
    if body is not None:
        kind = detect_format(body)
        if kind is None:
            return outcome(parse_line(line.decode(), 2, file="t.jsonl"))
        turns = SlowReader(findings, images, clean=False).read(kind, body)
        if not findings.failed:
            texts = [
                content if isinstance(content, str) else "".join(getattr(part, "text", "") for part in content)
                for _, content in turns
            ]
    return [finding.to_json() for finding in findings.items], texts


def outcome(parsed: ParsedLine | None) -> tuple[list[dict[str, Any]], list[str] | None]:
    if parsed is None:
        return [], None
    texts = [message.text for message in parsed.example.messages] if parsed.example else None
    return [finding.to_json() for finding in parsed.findings], texts


def agree(line: bytes) -> list[str]:
    """Compare both parsers on a line; return the codes of its findings."""
    expected = slow(line)
    assert outcome(parse_raw(RawLine(2, line), file="t.jsonl")) == expected, line
    return [finding["code"] for finding in expected[0]]


def test_every_known_line_is_read_as_slowly() -> None:
    found: Counter[str] = Counter()
    for line in all_lines():
        found.update(agree(line))
    for text, _ in BROKEN_TEXT.values():
        found.update(agree(text.encode("utf-8", "surrogatepass")))
    for blank in (b"", b" ", b"\x0b", b"\x0c\t", b"\x1e", b"\xc2\x85 ", b"\xe2\x80\xa8"):
        found.update(agree(blank))
        parsed = parse_line(blank.decode(), 2)
        assert (parsed.example, parsed.findings) == (None, ())
    assert len(found) > 30


@pytest.mark.parametrize("name", GOOD)
@pytest.mark.parametrize("style", [0, 1])
def test_a_line_may_break_off_anywhere(name: str, style: int) -> None:
    text = spelled(GOOD[name], style).encode()
    # Backslashes and quotes at the end of a text, characters of several bytes, escapes of four digits.
    awkward = text.replace(b"What is a car?", b'C:\\\\ \\"a\\\\\\" \xe2\x80\x9cb\xe2\x80\x9d \\u65e5\\u672c \\\\')
    for line in (text, awkward):
        for end in range(len(line)):
            agree(line[:end])
        for rest in (b",", b", ", b" ", b"}", b"]", b"},", b"\t", b" x", line):
            agree(line + rest)


INSERTED = [
    b'"', b"\\", b",", b"{", b"}", b"[", b"]", b":", b"\x00", b"\xff", b"\n", b" ", b"NaN", b"1e999", b"9" * 4301,
    b"0.5", b"\\u0007", b"\\ud800", b"\\ud83d\\ude00", b"\\u200b", b"\xe2\x80\x8b", b"\xc2\x85", b"\\x", b"\x7f",
    b"\\b", b"\\\\", b'\\"', b"null", b'"a":1,', b'"role":"user",', b'"content":"\\\\",', b"[[[[[[[[[[1]]]]]]]]]]",
    b'{"a":' * 70 + b"1" + b"}" * 70, b"None", b"\xed\xa0\x80", b"\x1e", b"\\u001e",
]  # fmt: skip


@pytest.mark.parametrize("seed", range(3))
def test_mutations_are_read_as_slowly(seed: int) -> None:
    draw, found = random.Random(seed), Counter[str]()
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
        found.update(agree(bytes(line)))
    assert len(found) > 25


def test_what_the_fast_decoder_takes_is_json_for_pythons() -> None:
    """All short sequences of what numbers, escapes and structure are made of; otherwise an error could go unseen."""
    pieces = ["-", "+", ".", "e", "0", "1", ",", " ", "[", "]", "{", "}", '"', "a", ":", "\\", "u", "\x01", "\t", "é"]
    taken = 0
    for length in range(1, 5):
        for combination in itertools.product(pieces, repeat=length):
            middle = "".join(combination)
            if length == 4 and middle[0] not in '"-1[{':
                continue
            line = '{"a":' + middle + "}"
            if decoding.is_json(line.encode()):
                taken += 1
                json.loads(line)
    assert taken > 300
    for escape in range(128):  # UTF-8 is seen to before
        for form in (b'{"a":"\\%c"}', b'{"a":"%c"}', b'{"a":"\\u00%c0"}', b'{"a":%c}', b'{"a":1%c}', b'{"\\%c":1}'):
            made = form % escape
            if decoding.is_json(made):
                json.loads(made.decode())


def test_every_order_of_turns() -> None:
    names = {"s": "system", "u": "user", "a": "assistant"}
    for length in range(1, 6):
        for order in map("".join, itertools.product(names, repeat=length)):
            line = json.dumps({"messages": [{"role": names[role], "content": "x"} for role in order]})
            right = re.fullmatch("s?(ua)+", order) is not None
            assert (parse_line(line, 1).example is not None) == right, order


def test_characters_that_do_not_belong_into_a_text() -> None:
    for code in range(0x80, 0x11000):
        if not 0xD800 <= code < 0xE000 and may_hold_invisible(f"a{chr(code)}b".encode()) != (code in INVISIBLE):
            pytest.fail(f"U+{code:04X}")


def test_long_numbers_where_a_line_breaks_off() -> None:
    for before in (0, 1, 4299, 4300):
        for digits in (4299, 4300, 4301, 9000):
            for first in ("", "-", "1."):
                number = first + "1" * digits
                line = '{"messages": [{"role": "' + "x" * before + '", "content": ' + number + "}]"
                agree(line.encode())
                agree(line.encode() + b"}")
