"""Both readers find the same, whichever reads a file, and any split of a file gives the same."""

from __future__ import annotations

import itertools
import json
import os
import pickle
import random
import re
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from runner.datasets.checking.columns import KEPT, Column
from runner.datasets.checking.compiled import CompiledReader
from runner.datasets.checking.exact import ExactReader
from runner.datasets.checking.ranges import BlockReader, Settings, totals_of_range
from runner.datasets.checking.repeats import repeats
from runner.datasets.checking.totals import FINDINGS_KEPT, Totals
from runner.datasets.checking.workers import split, totals_of_file
from runner.datasets.reading import lines as lines_of_files
from runner.datasets.reading import native
from runner.datasets.reading.lines import RawLine
from runner.datasets.rules import texts
from runner.datasets.rules.contents import of_example, turns_of
from runner.datasets.rules.parsing import parse_raw
from tests.datasets.examples import (
    ASSISTANT,
    BROKEN,
    BROKEN_TEXT,
    GOOD,
    USER,
    WARNED,
    chat,
    data_url,
    image_turn,
    png,
)

needs_compiled = pytest.mark.skipif(
    not native.is_installed(), reason="needs the compiled scanner: `pip install ./native`"
)
READERS = [pytest.param(False, id="exact"), pytest.param(True, id="compiled", marks=needs_compiled)]
FAST = Settings(ratio=0.25, limit=2000, name="t.jsonl")
EXACT = Settings(ratio=0.25, limit=2000, name="t.jsonl", compiled=False)


def open_reader(compiled: bool) -> BlockReader:
    return CompiledReader(images=True, contents=True) if compiled else ExactReader(images=True)


def spelled(body: Any, style: int) -> str:
    """Write JSON in one of the ways that programs write it."""
    separators = [(", ", ": "), (",", ":"), (" , ", " : ")][style % 3]
    return json.dumps(body, separators=separators, ensure_ascii=style % 2 == 0)


def all_lines() -> list[bytes]:
    lines: list[bytes] = []
    bodies = [*GOOD.values(), *(body for body, _, _ in BROKEN.values()), *(body for body, _ in WARNED.values())]
    for style in range(6):
        for body in bodies:
            lines.append(spelled(body, style).encode("utf-8", "surrogatepass"))
    lines += [text.encode() for text, _ in BROKEN_TEXT.values() if len(text) < 10_000]
    lines += [
        b"",
        b"   ",
        b"\xff\xfe",
        b"\x00{}",
        b'{"prompt": "a\xff", "completion": "b"}',
        b'{"prompt": "a", "completion": "b"}\r',
        b'{"pr\\u006fmpt": "a", "completion": "b"}',
        b'{"prompt": "a", "pr\\u006fmpt": "c", "completion": "b"}',
        b'{"messages": [], "messages": [{"role":"user","content":"a"},{"role":"assistant","content":"b"}]}',
        b'{"messages":[{"content":"a","role":"user"},{"content":"b","role":"assistant"}]}',
        b'{"messages":[{"role":"user","content":"a"},{"role":"assistant","content":"b","content":"c"}]}',
        b'{"messages":[{"role":"user","content":"a"},{"role":"assistant","content":"b","role":"assistant"}]}',
        b'{"messages":[{"role":"user","content":"role"},{"role":"assistant","content":"content"}]}',
        b'{"messages":[{"role":"user","content":"say \\"role\\": x"},{"role":"assistant","content":"C:\\\\\\\\"}]}',
    ]
    lines += [
        # Two objects in a line, one in two lines, and a blank line that makes up for either.
        b'{"prompt":"a","completion":"b"}{"prompt":"a","completion":"b"}',
        b'{"prompt":"a","completion":"b"} {"prompt":"a","completion":"b"}\n',
        b'{"prompt":"a",\n"completion":"b"}',
        b'{"messages":[\n{"role":"user","content":"a"},\n{"role":"assistant","content":"b"}]}',
        # Keys that are there twice, with values and escapes that make up for their quotes.
        b'{"prompt":"a\\\\","prompt":"b","completion":"c\\\\"}',
        b'{"pr\\u006fmpt":"a","prompt":"b","completion":"c"}',
        b'{"messages":[],"messages":[{"role":"user","content":"a\\\\"},{"role":"assistant","content":"b\\\\"}]}',
        b'{"prompt":"say \\"a\\\\\\" and \\\\","completion":"\\\\\\\\"}',
        b'{"contents":[{"role":"user","parts":[{"text":"a\\\\"}]},{"role":"model","parts":[{"text":"b"}]}],'
        b'"systemInstruction":{"role":"x\\\\","parts":[{"text":"c"}]}}',
        b'{"messages":[{"role":"user","content":[{"type":"text","text":"<|im_"},{"type":"text","text":"end|>"}]},'
        b'{"role":"assistant","content":[{"type":"text","text":"a\\\\","text":"b"}]}]}',
    ]
    url = data_url(png())
    for wrong in ("=", "==", "====", "A", "=AAA", " ", "\n", "é", "%"):
        for place in (len(url), len(url) - 1, 40, 22):
            body = chat(image_turn(url[:place] + wrong + url[place:]), ASSISTANT)
            lines.append(json.dumps(body).encode())
    for text in TEXTS:
        lines.append(json.dumps({"prompt": text, "completion": "b"}, ensure_ascii=False).encode())
        lines.append(json.dumps({"prompt": text, "completion": "b"}).encode())
        lines.append(json.dumps(chat({"role": "user", "content": text}, ASSISTANT)).encode())
        lines.append(
            json.dumps({"prompt": text, "completion": "b"}).replace("<", "\\u003c").replace("@", "\\u0040").encode()
        )
    return lines


TEXTS = [
    "a\x07b", "\x7f", "\x85", "\u0080x", "\u202aabc", "\u2066", "\ufffd", "\\u0041", "\\\\b", "\b", "\f", "\x1f \x1c",
    "\u00a0", "nan" + " " * 40, " " * 30, "\n\nNone\n\n", "undefined", "<|im_end|>", "x <bos> y", "<|im_startle|>",
    "jane@example.com", "@property", "a@b", "x" * 70 + "@example.org", "@@example.com", "é@example.com", "a.b@c.d.eu,",
    "AKIAABCDEFGHIJKLMNOP", "xAKIAABCDEFGHIJKLMNOP", "sk-" + "a" * 40, "task-" + "a" * 40, "hf_" + "b" * 30,
    "ghp_" + "c" * 36, "xoxb-1234567890", "-----BEGIN RSA PRIVATE KEY-----", "AIza" + "d" * 35, "1000 0000 00200",
    "日本語のテキスト" * 20, "caf\u00e9 " * 20, "x" * 9000, '"role" "content" "messages"', "role", "content", "prompt",
    "text", "\U0001f600" * 5, "tab\tnew\nline\r", "ends with backslash \\", '\\"', "\\u202a", "\u2028", "\ufeff",
]  # fmt: skip


def same(left: Totals, right: Totals) -> None:
    assert left.findings == right.findings
    assert left.counts == right.counts
    assert (left.lines, left.rows, left.error_count) == (right.lines, right.rows, right.error_count)
    assert list(left.formats.items()) == list(right.formats.items())
    assert left.tallies == right.tallies
    assert left.prompts == right.prompts
    assert left.wholes == right.wholes


def both(path: Path, data: bytes) -> Totals:
    path.write_bytes(data)
    exact = totals_of_range(path, 0, len(data), EXACT)
    if native.is_installed():
        same(totals_of_range(path, 0, len(data), FAST), exact)
    return exact


def test_every_line_alone(tmp_path: Path) -> None:
    for line in all_lines():
        both(tmp_path / "t.jsonl", line)


@pytest.mark.parametrize("seed", range(4))
def test_all_lines_together_in_any_order_and_split(tmp_path: Path, seed: int) -> None:
    lines = all_lines()
    random.Random(seed).shuffle(lines)
    data = b"\n".join(lines) + (b"\n" if seed % 2 else b"")
    path = tmp_path / "t.jsonl"
    whole = both(path, data)
    assert len(whole.counts) > 35
    for count in (2, 7, 100):
        merged = Totals()
        edges = sorted(random.Random(seed).sample(range(1, len(data)), count - 1))
        for start, end in zip([0, *edges], [*edges, len(data)], strict=True):
            merged.add(totals_of_range(path, start, end, FAST))
        same(merged, whole)


@pytest.mark.parametrize("size", [1, 99, 5000])
def test_both_readers_find_the_same_in_blocks_of_any_size(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    data = b"\n".join(all_lines())
    monkeypatch.setattr(lines_of_files, "MAX_LINE_BYTES", 8000)
    whole = both(tmp_path / "t.jsonl", data)
    assert whole.counts["line-too-long"]
    monkeypatch.setattr(lines_of_files, "BLOCK_BYTES", size)
    same(both(tmp_path / "t.jsonl", data), whole)


@pytest.mark.parametrize("compiled", READERS)
def test_threads_or_processes_share_a_file(tmp_path: Path, compiled: bool) -> None:
    settings = FAST if compiled else EXACT
    path = tmp_path / "t.jsonl"
    data = b"\n".join(all_lines() * 3)
    path.write_bytes(data)
    done: list[int] = []
    shared = totals_of_file(path, settings, workers=2, progress=done.append)
    same(shared, totals_of_range(path, 0, len(data), settings))
    assert sum(done) == len(data)


def test_an_interrupted_check_waits_for_no_process(tmp_path: Path) -> None:
    path = tmp_path / "t.jsonl"
    path.write_bytes(b"\n".join(all_lines() * 3))

    def interrupt(_: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt) as interrupted:
        totals_of_file(path, EXACT, workers=2, progress=interrupt)
    children = subprocess.run(["ps", "-o", "args=", "--ppid", str(os.getpid())], capture_output=True, text=True)
    assert "runner.datasets.checking.workers" not in children.stdout, interrupted  # which keeps what the frames hold


@needs_compiled
def test_good_lines_are_not_left_to_the_exact_parser() -> None:
    """Otherwise all of the above would compare the exact parser with itself."""
    reader = open_reader(True)
    for name, body in GOOD.items():
        found = reader.scan(spelled(body, 0).encode() + b"\n" + spelled(body, 1).encode())
        assert (found.lines, found.doubtful, found.count) == ([1, 2], [], 2), name


@pytest.mark.parametrize("compiled", READERS)
def test_contents_and_numbers_are_those_of_the_exact_parser(compiled: bool) -> None:
    lines = [spelled(body, style).encode() for body in GOOD.values() for style in range(6)]
    reader = open_reader(compiled)
    for line in lines:
        found = reader.scan(line)
        parsed = parse_raw(RawLine(1, line))
        assert parsed is not None
        assert parsed.example is not None
        turns = turns_of(parsed.example)
        assert [list(said) for said in found.conversations()] == [turns]
        assert found.turns == [len(turns)]
        assert found.written == [sum(len(message.text) for message in parsed.example.messages)]
        assert found.answers() == [len(turns[-1])]
        assert (found.images or [0]) == [len(parsed.example.images)]
        assert found.formats == {parsed.example.format: 1}
        assert (found.prompts[0], found.wholes[0]) == of_example(parsed.example)


def remarks_on(text: str) -> list[int]:
    """Return what there is to remark, from the patterns alone."""
    places = {number: text.find(token) for number, token in enumerate(texts.SPECIAL_TOKENS) if token in text}
    found = [min(places, key=lambda number: places[number])] if places else []
    for number, pattern in enumerate(texts.PATTERNS, len(texts.SPECIAL_TOKENS)):
        found += [number] if re.search(pattern.pattern, text, re.ASCII) else []
    return found


@pytest.mark.parametrize("compiled", READERS)
def test_every_token_secret_and_address_is_remarked(compiled: bool) -> None:
    anchors = [anchor for pattern in texts.PATTERNS for anchor in pattern.anchors]
    secrets = ["AKIAABCDEFGHIJKLMNOP", "sk-" + "a" * 40, "-----BEGIN RSA PRIVATE KEY-----", "xoxb-1234567890"]
    spoken = [*TEXTS, *(first + second for first in anchors for second in anchors)]
    spoken += [
        before + secret + behind for before in (" ", "é", "x-", "sk", "は") for secret in secrets for behind in "aé "
    ]
    # Several lines in a block, so that an anchor of one must not be taken for another's.
    block = b"\n".join([json.dumps({"prompt": "Why?", "completion": text}).encode() for text in spoken])
    found = open_reader(compiled).scan(block)
    expected = [(line, "assistant", number) for line in found.lines for number in remarks_on(spoken[line - 1])]
    assert found.remarks() == expected
    assert 20 < len(expected) < len(found.lines) / 2


@pytest.mark.parametrize("compiled", READERS)
@pytest.mark.parametrize("anchor", [anchor for pattern in texts.PATTERNS for anchor in pattern.anchors])
def test_many_anchors_take_no_more_than_their_number(compiled: bool, anchor: str) -> None:
    line = json.dumps({"prompt": anchor * (150_000 // len(anchor)), "completion": "b"}).encode()
    start = time.process_time()
    assert open_reader(compiled).scan(line).lines == [1]
    assert time.process_time() - start < 3


@pytest.mark.parametrize("settings", [EXACT, pytest.param(FAST, marks=needs_compiled)])
def test_remarks_are_capped_and_counted(tmp_path: Path, settings: Settings) -> None:
    path = tmp_path / "t.jsonl"
    lines = [json.dumps({"prompt": "Mail jane@example.com <bos>", "completion": f"{line}"}) for line in range(9000)]
    path.write_text("\n".join(lines))
    totals = totals_of_range(path, 0, path.stat().st_size, settings)
    assert totals.counts == {"special-token": 9000, "personal-data": 9000}
    assert [finding.line for finding in totals.findings] == [line // 2 + 1 for line in range(2 * FINDINGS_KEPT)]


def test_findings_are_capped_and_counted(tmp_path: Path) -> None:
    path = tmp_path / "t.jsonl"
    path.write_bytes(b'{"prompt": "", "completion": "b"}\n' * (FINDINGS_KEPT + 500))
    totals = both(path, path.read_bytes())
    assert len(totals.findings) == FINDINGS_KEPT
    assert totals.counts["empty-text"] == FINDINGS_KEPT + 500


def test_a_long_column_goes_to_a_file_and_repeats_are_found_in_it() -> None:
    count = KEPT + KEPT // 4
    numbers = [(line * 0x9E3779B97F4A7C15) % 2**64 for line in range(1, count + 1)]
    numbers[-2:] = [numbers[7], numbers[3]]
    column = Column()
    for start in range(0, count, KEPT // 8):
        column.extend(numbers[start : start + KEPT // 8])
    assert len(column) == count
    assert list(column) == numbers
    assert repeats(column) == [(count - 1, 8), (count, 4)]
    assert repeats(Column([numbers[9], 1]), column) == [(1, 10)]
    assert pickle.loads(pickle.dumps(column)) == column  # noqa: S301


@pytest.mark.parametrize(("size", "workers"), [(0, 1), (1, 4), (1000, 3), (10**9, 4), (10**12, 16)])
def test_ranges_cover_the_file(size: int, workers: int) -> None:
    ranges = split(size, workers)
    assert ranges[0][0] == 0
    assert ranges[-1][1] == size
    assert all(left[1] == right[0] for left, right in itertools.pairwise(ranges))


_TEXT = st.text(max_size=20) | st.sampled_from(TEXTS)
_PART = st.one_of(
    st.builds(lambda text: {"type": "text", "text": text}, _TEXT),
    st.sampled_from(["gs://a-bucket/a.png", data_url(png()), "gs://x", "a.png"]).map(
        lambda url: {"type": "image_url", "image_url": {"url": url}}
    ),
)
_CHAT = st.lists(
    st.fixed_dictionaries(
        {
            "role": st.sampled_from(["user", "assistant", "system", "user", "assistant"]),
            "content": _TEXT | st.lists(_PART, max_size=3),
        },
        optional={"name": st.just("x")},
    ),
    max_size=4,
).map(lambda turns: {"messages": turns})
_GPART = st.one_of(
    _TEXT.map(lambda text: {"text": text}),
    st.sampled_from(["file_data", "fileData"]).map(
        lambda key: {key: {"mime_type": "image/png", "fileUri": "gs://a-bucket/b"}}
    ),
)
_GENERATE = st.builds(
    lambda turns, system: {"contents": turns, **system},
    st.lists(
        st.fixed_dictionaries(
            {"role": st.sampled_from(["user", "model", "assistant"]), "parts": st.lists(_GPART, max_size=3)}
        ),
        max_size=4,
    ),
    st.sampled_from(
        [{}, {"systemInstruction": {"parts": [{"text": "Be brief."}]}}, {"system_instruction": {"parts": []}}]
    ),
)
_PAIR = st.fixed_dictionaries({"prompt": _TEXT, "completion": _TEXT})
_BODY = _CHAT | _GENERATE | _PAIR | st.sampled_from([chat(USER, ASSISTANT), *GOOD.values()])


@st.composite
def _lines(draw: st.DrawFn) -> bytes:
    line = bytearray(spelled(draw(_BODY), draw(st.integers(0, 5))).encode("utf-8", "surrogatepass"))
    for _ in range(draw(st.sampled_from([0, 0, 0, 1, 2]))):
        position = draw(st.integers(0, max(0, len(line) - 1)))
        kind = draw(st.integers(0, 3))
        if kind == 0:
            del line[position : position + draw(st.integers(1, 4))]
        elif kind == 1:
            line[position:position] = draw(
                st.sampled_from([b'"', b"\\", b",", b"{", b"}", b"\x00", b"\xff", b'"role":"user",', b"\n"])
            )
        elif kind == 2 and line:
            line[position] = draw(st.integers(0, 255))
        else:
            line[position:position] = line[max(0, position - 25) : position]
    return bytes(line)


@given(st.lists(_lines(), min_size=1, max_size=6))
@settings(
    max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
def test_any_lines(tmp_path: Path, lines: list[bytes]) -> None:
    both(tmp_path / "t.jsonl", b"\n".join(lines))
