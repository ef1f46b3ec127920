"""Nothing is found in what is right, and one mutation of it gives exactly its code."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runner.catalog import find_model
from runner.datasets.checking.compiled import CompiledReader
from runner.datasets.checks import check_files
from runner.datasets.reading import native
from runner.datasets.reading.lines import RawLine
from runner.datasets.rules import images
from runner.datasets.rules.parsing import parse_raw
from tests.datasets.defects import A
from tests.datasets.examples import png
from tests.datasets.written import (
    FORMATS,
    JPEG,
    WEBP,
    WEBP_LOSSY,
    Format,
    Picture,
    Turn,
    content_key,
    encoded,
    first_part,
    good,
    picture,
    put,
)

WITH_IMAGES = find_model("meta/llama4@llama-4-scout-17b-16e-instruct")


def harmless(form: Format) -> dict[str, bytes]:
    line = encoded(good(form, 3))
    rows = [encoded(good(form, 1)), encoded(good(form, 2)), line]
    first = form.body([("user", "What is 3?"), ("answer", "Où est l'été ? 🎉 你好 \u2028 \u200d x\u0301")])
    cases = {
        "blank lines": b"\n\n".join(rows) + b"\n \n",
        "CRLF": b"\r\n".join(rows) + b"\r\n",
        "no last line end": b"\n".join(rows),
        "other scripts, raw": json.dumps(first, ensure_ascii=False).encode() + b"\n",
        "other scripts, escaped": json.dumps(first).encode() + b"\n",
        "no spaces": json.dumps(good(form, 3), separators=(",", ":")).encode(),
        "spaces everywhere": json.dumps(good(form, 3), separators=(" , ", " : ")).encode() + b"  ",
        "keys in reverse order": json.dumps(dict(reversed(list(good(form, 3).items())))).encode(),
        "slashes escaped": line.replace(b"What", rb"\/What"),
        "words that look like keys": line.replace(b"What", rb"\"role\": \"prompt\""),
        "at signs that are no address": line.replace(b"What", b"@property a@b"),
        "the word nan within a text": line.replace(b"What", b"nan none null"),
        "angle brackets": line.replace(b"What", b"<div> <|x|> a < b"),
        "ten questions": b"\n".join(encoded(good(form, number)) for number in range(10)),
    }
    if form.turns_key:
        turns: list[Turn] = [("user", "a"), ("answer", "b"), ("user", "c"), ("answer", "d")]
        cases["several turns"] = encoded(form.body(turns, system="Be brief."))
        for name, data, kind in (
            ("JPEG", JPEG, "image/jpeg"),
            ("PNG", png(), "image/png"),
            ("WEBP", WEBP, "image/webp"),
            ("lossy WEBP", WEBP_LOSSY, "image/webp"),
        ):
            cases[name] = encoded(picture(data=data, declared=kind)(form))
        cases["object with an odd name"] = encoded(picture("gs://a-bucket/../é #?%2f.jpg")(form))
        cases["five images"] = encoded(form.body([("user", [Picture("gs://a-bucket/a.jpg")] * 5), A]))
    return cases


@pytest.mark.parametrize("form", FORMATS, ids=lambda form: form.name)
def test_nothing_is_found_in_what_is_right(form: Format, tmp_path: Path) -> None:
    for name, data in harmless(form).items():
        path = tmp_path / "t.jsonl"
        path.write_bytes(data)
        report = check_files(path, model=WITH_IMAGES, near_duplicates=True)
        assert report.findings == [], name
        assert report.training.kept == report.training.lines > 0


def test_the_pictures_of_the_table_are_what_they_are_said_to_be() -> None:
    assert [images.read_header(data).mime_type for data in (JPEG, png(), WEBP, WEBP_LOSSY)] == [
        "image/jpeg",
        "image/png",
        "image/webp",
        "image/webp",
    ]


_CLEAN = st.text(
    st.characters(exclude_categories=("Cs", "Cc", "Zs", "Zl", "Zp"), exclude_characters="<@\u200b\u2060\ufeff\ufffd"),
    min_size=1,
    max_size=20,
).map(lambda text: f"x {text} y")
_CONVERSATIONS = st.tuples(
    st.none() | _CLEAN,
    st.integers(1, 4).flatmap(lambda n: st.lists(_CLEAN, min_size=2 * n, max_size=2 * n, unique=True)),
)


def spoken(form: Format, system: str | None, texts: list[str]) -> Any:
    return form.body([(("user", "answer")[index % 2], text) for index, text in enumerate(texts)], system)


@given(_CONVERSATIONS, st.booleans())
@settings(max_examples=40, deadline=None)
def test_whatever_the_grammar_of_a_format_makes_is_right(conversation: Any, ascii_only: bool) -> None:
    system, texts = conversation
    for form in FORMATS:
        body = spoken(form, system, texts)
        if body is None:
            continue
        line = json.dumps(body, ensure_ascii=ascii_only).encode()
        parsed = parse_raw(RawLine(1, line))
        assert parsed is not None
        assert parsed.findings == ()
        assert parsed.example is not None
        assert [message.text for message in parsed.example.messages] == ([system] if system is not None else []) + texts
        if native.is_installed():
            found = CompiledReader(images=True, contents=False).scan(line)
            assert (found.lines, found.doubtful) == ([1], []), "the compiled scanner says so too"


def _turns_of(form: Format, body: dict[str, Any]) -> list[Any]:
    return body[form.turns_key] if form.turns_key else []


MUTATIONS: dict[str, tuple[str, Callable[[Format, dict[str, Any], int], Any]]] = {
    "a turn loses its role": ("missing-key", lambda form, body, at: _turns_of(form, body)[at].pop("role")),
    "a role is another tool's": ("unknown-role", lambda form, body, at: put(_turns_of(form, body)[at], role="human")),
    "a role is a list": ("wrong-type", lambda form, body, at: put(_turns_of(form, body)[at], role=[])),
    "a turn is a number": ("wrong-type", lambda form, body, at: _turns_of(form, body).__setitem__(at, 7)),
    "a turn is there twice": (
        "role-order",
        lambda form, body, at: _turns_of(form, body).insert(at, _turns_of(form, body)[at]),
    ),
    "a turn has a key too many": ("unknown-key", lambda form, body, at: put(_turns_of(form, body)[at], weight=1)),
    "the object has a key too many": ("unknown-key", lambda form, body, at: put(body, id=1)),
    "a turn loses its content": (
        "missing-key",
        lambda form, body, at: _turns_of(form, body)[at].pop(content_key(_turns_of(form, body)[at])),
    ),
    "a text becomes white space": (
        "empty-text",
        lambda form, body, at: (
            put(body, completion=" \t")
            if not form.turns_key
            else put(first_part(_turns_of(form, body)[at]), text="\u3000")
        ),
    ),
    "a text becomes null": (
        "wrong-type",
        lambda form, body, at: (
            put(body, prompt=None) if not form.turns_key else put(first_part(_turns_of(form, body)[at]), text=None)
        ),
    ),
    "the last answer is missing": ("last-turn, no-answer", lambda form, body, at: _turns_of(form, body).pop()),
}


@given(_CONVERSATIONS, st.sampled_from(list(MUTATIONS)), st.data())
@settings(max_examples=100, deadline=None)
def test_one_mutation_of_what_is_right_gives_exactly_its_code(
    conversation: Any, name: str, data: st.DataObject
) -> None:
    system, texts = conversation
    codes, mutate = MUTATIONS[name]
    for form in FORMATS:
        body = spoken(form, system, texts)
        if body is None or (not form.turns_key and "turn" in name + codes.replace("last-turn", "turn")):
            continue
        if not form.turns_key and "role" in name:
            continue
        turns = _turns_of(form, body)
        at = data.draw(st.integers(0, len(turns) - 1)) if turns else 0
        if turns and turns[at]["role"] == "system":
            at += 1
        mutate(form, body, at)
        parsed = parse_raw(RawLine(1, json.dumps(body).encode()))
        assert parsed is not None
        assert [finding.code in codes.split(", ") for finding in parsed.findings] == [True], (form.name, body)
