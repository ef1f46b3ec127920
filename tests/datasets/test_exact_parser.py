"""The exact parser's short cuts find what a slow parser without any finds, in the same words and order."""

from __future__ import annotations

import itertools
import json
import random
import re
from collections import Counter
from typing import Any

import pytest

from runner.datasets import decoding, native
from runner.datasets.examples import ParsedLine
from runner.datasets.json_lines import Findings, RawLine, decode_object, has_surrogate
from runner.datasets.parsing import PLACEHOLDERS, Reader, detect_format, of_plain, parse_line, parse_raw
from runner.datasets.texts import may_hold_invisible
from runner.datasets.values import closest, kind_of
from tests.datasets.examples import BROKEN_TEXT, GOOD
from tests.datasets.test_fast_path import all_lines, needs_compiled, spelled

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
    """Compare the parsers on a line; return the codes of its findings."""
    expected = slow(line)
    assert outcome(parse_raw(RawLine(2, line), file="t.jsonl")) == expected, line
    if native.is_installed() and (plain := decoding.decode_in_python(line)) is not None:
        assert outcome(of_plain(plain, 2, Findings("t.jsonl", 2), True)) == expected, line
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
            compiled_agrees(line.encode())
            compiled_agrees(line[:-1].encode())
    assert taken > 300
    for escape in range(128):  # UTF-8 is seen to before
        for form in (b'{"a":"\\%c"}', b'{"a":"%c"}', b'{"a":"\\u00%c0"}', b'{"a":%c}', b'{"a":1%c}', b'{"\\%c":1}'):
            made = form % escape
            if decoding.is_json(made):
                json.loads(made.decode())
            compiled_agrees(made)


def compiled_agrees(line: bytes) -> None:
    """Hold the compiled package, where it takes a line, to Python's decoder."""
    package = native.module()
    if package is None:
        return
    if (found := package.decode_object(line)) is not None:
        expected = json.loads(line.decode())
        assert found[0] == expected, line
        assert repr(found[0]) == repr(expected), line
    if package.lacks_brace(line):
        with pytest.raises(json.JSONDecodeError) as raised:
            json.loads(line.decode())
        assert (raised.value.msg, raised.value.pos) == ("Expecting ',' delimiter", len(line.decode())), line


@needs_compiled
def test_the_compiled_package_decodes_as_python_does() -> None:
    """Numbers to their last bit, text of all planes, and nothing that is there twice, too deep or no JSON."""
    draw = random.Random(6)
    package = native.module()
    assert package is not None
    numbers = [
        "0",
        "-0",
        "-0.0",
        "1e5",
        "1E+5",
        "1.5e-7",
        "123456789012345678",
        "0.1",
        "1e308",
        "1e999",
        "5e-324",
        "2.5e-1",
    ]
    numbers += [f"{draw.uniform(-1e9, 1e9):.{draw.randint(1, 7)}f}" for _ in range(2000)]
    texts = ["", "\\u00e9", "\\ud83d\\ude00", "\u65e5\u672c", '\\n\\t\\r\\/\\\\\\"', "\U0001f600"]
    for number in numbers:
        line = f'{{"a":[{number},null,true,false,{{}},[]],"b":"{draw.choice(texts)}"}}'.encode()
        assert package.decode_object(line) is not None, line
        compiled_agrees(line)
    for line in (
        b'{"a":1,"a":1}',
        b'{"a":1,"\\u0061":1}',
        b'{"a":NaN}',
        b'{"a":"\\ud83d"}',
        b'{"a":' * 40 + b"1" + b"}" * 40,
        b"[1]",
        b'{"a":1234567890123456789}',
        b'{"a":01}',
        b'{"a":"\\u0007"}',
        b'{"a":"\x07"}',
        b'{"a":1}{}',
        b"{}",
        b'{"a":tru}',
    ):
        assert (package.decode_object(line) is None) == (line != b"{}"), line
    assert package.decode_object('{"a":"\u200b"}'.encode()) == ({"a": "\u200b"}, False)


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
