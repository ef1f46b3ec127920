"""Each defect gives its code at its place; each documented example passes."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runner.datasets.examples import ImagePart
from runner.datasets.reading.lines import raw_lines
from runner.datasets.rules.parsing import parse_line, read_file
from tests.datasets.examples import ASSISTANT, BROKEN, BROKEN_TEXT, GOOD, WARNED, chat, image_turn


@pytest.mark.parametrize("name", GOOD)
def test_documented_shapes_pass(name: str) -> None:
    parsed = parse_line(json.dumps(GOOD[name]), 1)
    assert parsed.findings == ()
    assert parsed.example is not None
    assert parsed.example.messages[-1].role == "assistant"


@pytest.mark.parametrize("name", BROKEN_TEXT)
def test_broken_json(name: str) -> None:
    text, code = BROKEN_TEXT[name]
    parsed = parse_line(text, 7, file="t.jsonl")
    assert parsed.example is None
    assert [finding.code for finding in parsed.findings] == [code]
    assert parsed.findings[0].line == 7


@pytest.mark.parametrize("name", BROKEN)
def test_each_defect_has_its_code_and_place(name: str) -> None:
    body, code, path = BROKEN[name]
    parsed = parse_line(json.dumps(body), 3, file="t.jsonl")
    assert parsed.example is None
    errors = [finding for finding in parsed.findings if finding.severity == "error"]
    assert (code, path) in [(finding.code, finding.path) for finding in errors], errors
    assert {finding.line for finding in errors} == {3}
    assert all(finding.message for finding in errors)


@pytest.mark.parametrize("name", WARNED)
def test_what_is_allowed_but_odd_is_a_warning(name: str) -> None:
    body, code = WARNED[name]
    parsed = parse_line(json.dumps(body), 1)
    assert parsed.example is not None
    assert [(finding.code, finding.severity) for finding in parsed.findings] == [(code, "warning")]


def test_a_text_only_model_refuses_images() -> None:
    parsed = parse_line(json.dumps(chat(image_turn("gs://a-bucket/a.png"), ASSISTANT)), 1, images=False)
    assert [finding.code for finding in parsed.findings] == ["image-unsupported"]


def test_all_mistakes_of_a_line_are_reported_at_once() -> None:
    body = chat({"role": "human", "content": 3}, {"role": "assistant"}, "x")
    codes = [finding.code for finding in parse_line(json.dumps(body), 1).findings]
    assert codes == ["unknown-role", "wrong-type", "missing-key", "wrong-type"]


def test_snake_and_camel_case_mean_the_same() -> None:
    snake = parse_line(json.dumps(GOOD["file_data"]), 1).example
    assert snake is not None
    assert snake.images == (ImagePart("gs://a-bucket/a.jpg", mime_type="image/jpeg"),)


def test_files(tmp_path: Path) -> None:
    good = json.dumps(GOOD["chat"]).encode()
    path = tmp_path / "t.jsonl"
    path.write_bytes(b"\xef\xbb\xbf" + good + b"\r\n\n" + good + b"\n\xff\xfe\n\x00{}\n" + good)
    found = [(parsed.line, parsed.example is not None, [f.code for f in parsed.findings]) for parsed in read_file(path)]
    assert found == [
        (1, True, ["byte-order-mark"]),
        (3, True, []),
        (4, False, ["not-utf8"]),
        (5, False, ["nul-byte"]),
        (6, True, []),
    ]


def test_a_line_is_bounded_before_it_is_decoded() -> None:
    lines = list(raw_lines(io.BytesIO(b"a" * 100 + b"\nbb\n" + b"c" * 11), limit=10))
    assert [(line.number, len(line.data), line.too_long) for line in lines] == [
        (1, 10, True),
        (2, 2, False),
        (3, 10, True),
    ]


@given(st.text() | st.binary().map(lambda data: data.decode("latin-1")))
@settings(max_examples=500, deadline=None)
def test_any_text_gives_an_example_or_an_error(text: str) -> None:
    parsed = parse_line(text, 1)
    errors = [finding for finding in parsed.findings if finding.severity == "error"]
    assert parsed.example is not None or errors or not text.strip()
    assert not (parsed.example and errors)


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["role", "content", "parts", "text", "type", "image_url", "url", "file_data", "mime_type"]),
            inner,
            max_size=3,
        )
    ),
    max_leaves=12,
)


@given(st.sampled_from(["messages", "contents", "prompt", "completion", "systemInstruction"]), _JSON, st.data())
@settings(max_examples=500, deadline=None)
def test_any_shape_is_survived(key: str, value: Any, data: st.DataObject) -> None:
    body = dict(data.draw(st.sampled_from(list(GOOD.values()))))
    body[key] = value
    parsed = parse_line(json.dumps(body), 1)
    assert (parsed.example is None) == any(finding.severity == "error" for finding in parsed.findings)
