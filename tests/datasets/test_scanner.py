"""The compiled scanner follows the tables it is given, and remarks what their patterns say, no more and no less."""

from __future__ import annotations

import json
import re
from collections import Counter
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runner.datasets.checking.compiled import CompiledReader, reshaper
from runner.datasets.checking.exact import ExactReader
from runner.datasets.checking.ranges import BlockReader
from runner.datasets.reading import native
from runner.datasets.rules import formats, texts
from tests.datasets.examples import ASSISTANT, USER, chat, data_url, image_turn, png
from tests.datasets.test_fast_path import needs_compiled, remarks_on

pytestmark = needs_compiled

PIECES = [
    *texts.SPECIAL_TOKENS, *(anchor for pattern in texts.PATTERNS for anchor in pattern.anchors),
    "AKIAABCDEFGHIJKLMNOP", "ASIA0123456789ABCDEF", "sk-" + "a" * 32, "sk-" + "a" * 31, "hf_" + "B" * 30,
    "hf_" + "B" * 29,
    "ghp_" + "c" * 36, "gho_" + "c" * 35, "xoxb-1234567890", "xoxb-123456789", "AIza" + "d" * 35, "AIza" + "d" * 34,
    "-----BEGIN RSA PRIVATE KEY-----", "-----BEGIN PRIVATE KEY-----", "-----BEGIN A B C PRIVATE KEY-----", "-----",
    "-----BEGIN A B C D PRIVATE KEY-----", "PRIVATE KEY-----", "BEGIN ", "jane@example.com", "a@b.c", "@x.org", "a@",
    ".co", "x" * 64 + ".com", "é", "は", "ß", "٣", "\u0301", "_", "-", " ", "\n", "A", "9", ".", "😀", "<", "<|", "sk",
    "gh",
]  # fmt: skip
TEXT = st.lists(st.sampled_from(PIECES), min_size=1, max_size=9).map("".join)


@given(st.lists(TEXT, min_size=2, max_size=6).filter(lambda turns: not len(turns) % 2), st.booleans(), st.booleans())
@settings(max_examples=1500, deadline=None)
def test_both_readers_remark_what_the_patterns_say(turns: list[str], system: bool, escaped: bool) -> None:
    roles = [*(["system"] if system else []), *(["user", "assistant"] * (len(turns) // 2))]
    said = [*(["Be brief. @ sk-"] if system else []), *turns]
    body = {"messages": [{"role": role, "content": text} for role, text in zip(roles, said, strict=True)]}
    line = json.dumps(body, ensure_ascii=escaped).encode()
    wanted = [(2, role, number) for role, text in zip(roles, said, strict=True) for number in remarks_on(text)]
    readers: list[BlockReader] = [CompiledReader(images=True, contents=False), ExactReader(images=True)]
    for reader in readers:
        found = reader.scan(b"\n" + line)
        if found.lines:  # a text of blanks alone is no example
            assert found.remarks() == wanted
            assert Counter(found.remarked) == Counter(number for _, _, number in wanted)


PROSE = "The quick brown fox jumps over the lazy dog near the old river bank. "
LONG_PIECES = [
    PROSE, 3 * PROSE, "line\n", "\t", 40 * "é", "😀", "힣퀀", 60 * " ", "nan", "data:image/png;base64,",
    "iVBORw0KGgo" + 90 * "A",
    "/9j/" + 200 * "A", "gs://bucket/", "\\n", "\\", "\u200b", "\x7f", '"', "user", "a@b.com",
]  # fmt: skip
LONG_TEXT = st.lists(st.sampled_from(LONG_PIECES), min_size=1, max_size=6).map("".join)


def _long_lines(draw: Any) -> Any:
    def text() -> Any:
        return draw(LONG_TEXT)

    address = {"type": draw(st.just("image_url") | LONG_TEXT), "image_url": {"url": text(), "detail": text()}}
    turns = [{"role": draw(st.just("user") | LONG_TEXT), "content": text()}, {"role": "assistant", "content": text()}]
    turns[0] = draw(
        st.sampled_from([turns[0], {"role": "user", "content": [{"type": "text", "text": text()}, address]}])
    )
    file = {"file_data": {"mime_type": text(), "file_uri": text()}}
    parts = [{"role": "user", "parts": [{"text": text()}, file]}, {"role": "model", "parts": [{"text": text()}]}]
    bodies = [{"prompt": text(), draw(st.sampled_from(["completion", "x"])): text()}, {"messages": turns}]
    body: dict[str, Any] = draw(st.sampled_from([*bodies, {"contents": parts}, {"messages": text()}]))
    return {**body, text(): text()} if draw(st.booleans()) else body


@given(
    st.data(), st.booleans(), st.sampled_from(["", "", "\x00", '"', "\\", ",", "}", "{}", "é", "NaN", '"a":1,"a":2,'])
)
@settings(max_examples=300, deadline=None)
def test_what_is_wrong_with_a_line_is_the_same_where_it_is_cut_short(
    data: st.DataObject, escaped: bool, more: str
) -> None:
    text = json.dumps(_long_lines(data.draw), ensure_ascii=escaped)
    place = data.draw(st.integers(0, len(text)))
    line = (text[:place] + more + text[place + data.draw(st.integers(0, 2)) :]).encode()
    exact = ExactReader(images=True, name="t.jsonl")
    doubtful = CompiledReader(images=True, contents=False).scan(line).doubtful
    whole = [(place, data, None, False) for place, data, _, _ in doubtful]
    short, expected = exact.read(doubtful, 1), exact.read(whole, 1)
    assert short.findings == expected.findings
    assert (short.rows, short.lines, short.wholes) == (expected.rows, expected.lines, expected.wholes)


def test_every_pattern_has_its_anchors() -> None:
    for text in PIECES:
        for pattern in texts.PATTERNS:
            for match in re.finditer(pattern.pattern, text, re.ASCII):
                assert any(
                    text.startswith(anchor, match.start() + offset) for anchor, offset in pattern.anchors.items()
                ), text


@pytest.mark.parametrize("escaped", [False, True])
def test_the_scanner_takes_every_character_but_the_controls(escaped: bool) -> None:
    codes = [code for code in range(0x30000) if not 0xD800 <= code < 0xE000]
    lines = [json.dumps({"prompt": f"a{chr(code)}b", "completion": "c"}, ensure_ascii=escaped) for code in codes]
    found = CompiledReader(images=True, contents=False).scan("\n".join(lines).encode())
    controls = {code for first, last in texts.CONTROLS for code in range(first, last + 1)}
    taken = {codes[line - 1] for line in found.lines}
    assert taken & controls == set()
    # JSON's short escapes of controls, and what is none in a text but seldom there, are left to the exact parser.
    assert set(codes) - controls - taken == set()


def _reads(table: dict[str, Any], body: Any) -> bool:
    package = native.module()
    assert package is not None
    line = json.dumps(body).encode()
    found, _ = package.Scanner(table, images=True).read(line, len(line), 0, False)
    return bool(found.lines)


def _table() -> dict[str, Any]:
    return {**vars(formats), **vars(texts)}


_PAIR = {"prompt": "Hi", "completion": "Hello"}
_OBJECT = {"type": "image_url", "image_url": {"url": "gs://bucket/a"}}
_LOOK = {"type": "image_url", "image_url": {"url": "gs://bucket/a.png", "detail": "lossless"}}
_FILE = {"file_data": {"mime_type": "image/avif", "file_uri": "gs://bucket/a"}}
CHANGES: dict[str, tuple[Any, dict[str, Any]]] = {
    "a role": (
        chat(USER, {"role": "bot", "content": "Hello"}),
        {"ROLES": {**formats.ROLES, "chat": {**formats.ROLES["chat"], "bot": "assistant"}}},
    ),
    "a role of the other format": (
        {"contents": [{"role": "human", "parts": [{"text": "a"}]}, {"role": "model", "parts": [{"text": "b"}]}]},
        {"ROLES": {**formats.ROLES, "generate_content": {"human": "user", "model": "assistant"}}},
    ),
    "an optional key": ({**_PAIR, "id": "1"}, {"PAIR": formats.PAIR._replace(optional=("id",))}),
    "a spelling": (
        {"Prompt": "Hi", "completion": "Hello"},
        {"PAIR": formats.PAIR._replace(spellings={"Prompt": "prompt"})},
    ),
    "a detail": (chat({"role": "user", "content": [_LOOK]}, ASSISTANT), {"DETAILS": ("lossless",)}),
    "a type of images": (
        {"contents": [{"role": "user", "parts": [_FILE]}, {"role": "model", "parts": [{"text": "b"}]}]},
        {"MIME_TYPES": (*formats.MIME_TYPES, "image/avif")},
    ),
    "a bucket's characters": (
        chat({"role": "user", "content": [{"type": "image_url", "image_url": {"url": "gs://Bucket/a"}}]}, ASSISTANT),
        {"OBJECT_ADDRESS": formats.OBJECT_ADDRESS.replace("a-z", "A-Za-z")},
    ),
    "the placeholders": ({"prompt": "None", "completion": "a"}, {"PLACEHOLDERS": formats.PLACEHOLDERS - {"none"}}),
    "the controls": (
        {"prompt": "a\u200bb", "completion": "a"},
        {"CONTROLS": tuple(ends for ends in texts.CONTROLS if ends != (0x200B, 0x200B))},
    ),
    "the order": (chat(USER, USER, ASSISTANT), {"REPEATED": ("user", "user", "assistant")}),
    "the number of images": (chat({"role": "user", "content": 6 * [_OBJECT]}, ASSISTANT), {"MANY_IMAGES": 6}),
}


@pytest.mark.parametrize("name", CHANGES)
def test_a_change_of_the_table_is_followed(name: str) -> None:
    body, change = CHANGES[name]
    assert not _reads(_table(), body)
    assert _reads({**_table(), **change}, body)


def test_a_token_and_a_pattern_of_the_table_are_remarked() -> None:
    package = native.module()
    assert package is not None
    table = {
        **_table(),
        "SPECIAL_TOKENS": ["[INST]"],
        "PATTERNS": [texts.Pattern("secret", "a key", r"\bkey-\d{3}\b", {"ey-": 1})],
    }
    line = json.dumps(
        {"prompt": "[INST] key-12 <bos>", "completion": "monkey-123 日key-123日"}, ensure_ascii=False
    ).encode()
    assert package.Scanner(table, images=True).read(line, len(line), 0, False)[0].remarks == [
        (1, "user", 0),
        (1, "assistant", 1),
    ]
    with pytest.raises(ValueError, match="make no search"):
        package.Scanner({**table, "SPECIAL_TOKENS": ["<a>", "<a>b"]}, images=True)


_PARTS = [{"text": "Hi"}]
_ANSWER = {"role": "model", "parts": _PARTS}
_PICTURE = image_turn(data_url(png()))


def _more(body: dict[str, Any], *path: Any, **more: Any) -> dict[str, Any]:
    """Return a body with more keys in one of its objects."""
    changed: dict[str, Any] = json.loads(json.dumps(body))
    place: Any = changed
    for key in path:
        place = place[key]
    place.update(more)
    return changed


_SAID = {"systemInstruction": {"parts": _PARTS}, "contents": [{"role": "user", "parts": _PARTS}, _ANSWER]}
LOSSES = {
    "how closely to look": _more(chat(_PICTURE, ASSISTANT), "messages", 0, "content", -1, "image_url", detail="high"),
    "a name": chat({**USER, "name": "Jane"}, ASSISTANT),
    "a role of the instruction's own": _more(_SAID, "systemInstruction", role="model"),
    "a declared type": {
        "contents": [
            {"role": "user", "parts": [{"file_data": {"mime_type": "image/png", "file_uri": "gs://bucket/a"}}]},
            _ANSWER,
        ]
    },
}


@pytest.mark.parametrize("form", ["prompt_completion", "chat", "generate_content"])
@pytest.mark.parametrize("name", LOSSES)
def test_what_a_conversion_might_lose_is_left_to_the_exact_parser(form: Any, name: str) -> None:
    line = json.dumps(LOSSES[name]).encode()
    made, count, rows, left = reshaper(form)(line)
    assert (made, count, rows, left) == (b"", 1, 0, [(0, 0, len(line), 0)])
