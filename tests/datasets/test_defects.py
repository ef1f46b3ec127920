"""One table of defects: each is found with its code at its line in every format that it can be written in.

A file of each format holds good lines around the defect, so that the line number says something. Whatever else is found
there must be listed too: a defect that sets off three findings would hide the other defects of a file.
"""

from __future__ import annotations

import gzip
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from runner.catalog import find_model
from runner.datasets.checks import check_files
from runner.datasets.examples import Finding
from tests.datasets.defects import DEFECTS
from tests.datasets.written import FORMATS, Format, Picture, encoded, good

TEXT_ONLY = find_model("meta/llama3_1@llama-3.1-8b-instruct")
WITH_IMAGES = find_model("meta/llama4@llama-4-scout-17b-16e-instruct")


def found(findings: list[Finding]) -> list[tuple[str, int]]:
    return sorted((finding.code, finding.line) for finding in findings)


def lines_around(form: Format, line: Any, picture: Picture | None) -> bytes:
    before = [good(form, 1, picture), good(form, 2, picture)]
    after = [good(form, 4, picture), good(form, 5, picture)]
    return b"\n".join(map(encoded, [*before, line, *after])) + b"\n"


@pytest.mark.parametrize("name", DEFECTS)
def test_every_defect_is_found_at_its_line_in_every_format(name: str, tmp_path: Path) -> None:
    codes, make = DEFECTS[name]
    applied = 0
    for form in FORMATS:
        line = make(form)
        if line is None:
            continue
        applied += 1
        # With images among the examples, the text-only ones would be a finding of their own.
        pictured = re.search(rb'"(image_url|file_?[dD]ata|inline_?[dD]ata)"', encoded(line))
        example = Picture("gs://a-bucket/cat.jpg") if pictured and form.name != "prompt_completion" else None
        model = WITH_IMAGES if example else TEXT_ONLY
        if name == "image for a text-only model":
            model, example = TEXT_ONLY, None
        path = tmp_path / f"{form.name}.jsonl"
        path.write_bytes(lines_around(form, line, example))
        report = check_files(path, model=model, mode="PEFT_ADAPTER", near_duplicates=True, workers=1)
        assert found(report.findings) == sorted((code, 3) for code in codes.split(", ")), form.name
        assert all(finding.message for finding in report.findings)
        assert report.training.lines == 5
    assert applied


def test_the_table_is_long_enough_and_its_formats_differ() -> None:
    assert len(DEFECTS) >= 80
    everywhere = [name for name, (_, make) in DEFECTS.items() if all(make(form) is not None for form in FORMATS)]
    turning = [name for name, (_, make) in DEFECTS.items() if all(make(form) is not None for form in FORMATS[1:])]
    assert len(everywhere) >= 60
    assert len(turning) >= 120
    assert len({encoded(good(form, 1)) for form in FORMATS}) == len(FORMATS)


FILES: dict[str, tuple[str, int, Callable[[bytes, bytes], bytes]]] = {
    "gzip under the name of JSON Lines": ("decoded", 0, lambda lines, other: gzip.compress(lines)),
    "UTF-16": ("decoded", 0, lambda lines, other: lines.decode().encode("utf-16")),
    "zip": ("not-text", 1, lambda lines, other: b"PK\x03\x04" + lines),
    "Parquet": ("not-text", 0, lambda lines, other: b"PAR1" + lines),
    "PDF": ("not-text", 1, lambda lines, other: b"%PDF-1.7\n" + lines),
    "nothing": ("empty-file", 0, lambda lines, other: b""),
    "blank lines only": ("empty-file", 0, lambda lines, other: b"\n \r\n\n"),
    "byte order mark": ("byte-order-mark", 1, lambda lines, other: b"\xef\xbb\xbf" + lines),
    "two formats": ("mixed-formats", 0, lambda lines, other: lines + other),
    "JSON array over several lines": (
        "other-format",
        0,
        lambda lines, other: b"[\n" + lines.replace(b"\n", b",\n").rstrip(b",\n") + b"\n]\n",
    ),
}


@pytest.mark.parametrize("name", FILES)
def test_defects_of_whole_files(name: str, tmp_path: Path) -> None:
    code, line, make = FILES[name]
    for form, other in zip(FORMATS, [FORMATS[1], *FORMATS[:1] * 4], strict=True):
        rows = b"".join(encoded(good(form, number)) + b"\n" for number in range(1, 5))
        path = tmp_path / f"{form.name}.jsonl"
        path.write_bytes(make(rows, encoded(good(other, 9)) + b"\n"))
        report = check_files(path)
        assert (code, line) in found(report.findings), form.name
        assert {finding.code for finding in report.findings} == {code}


def test_defects_of_two_files(tmp_path: Path) -> None:
    for form, other in zip(FORMATS, [FORMATS[1], *FORMATS[:1] * 4], strict=True):
        training, validation = tmp_path / "t.jsonl", tmp_path / "v.jsonl"
        training.write_bytes(b"".join(encoded(good(form, number)) + b"\n" for number in range(100)))
        validation.write_bytes(b"".join(encoded(good(form, number)) + b"\n" for number in (100, 7, 101)))
        assert found(check_files(training, validation).findings) == [("leakage", 2)]
        validation.write_bytes(b"".join(encoded(good(form, 100 + number)) + b"\n" for number in range(40)))
        assert found(check_files(training, validation).findings) == [("validation-too-large", 0)]
        validation.write_bytes(encoded(good(other, 200)) + b"\n")
        assert found(check_files(training, validation).findings) == [("mixed-formats", 0)]


MUST_REJECT = (
    "lone surrogate", "key twice, within", "key twice, outside", "NaN", "minus Infinity", "nested 100 000 levels",
    "invalid UTF-8", "raw NUL", "two objects on a line", "garbage behind the object", "array", "string",
)  # fmt: skip
"""With gzip, the thirteen kinds of files that other checkers let pass or fall over."""


def test_what_must_be_rejected_is_an_error_with_a_line(tmp_path: Path) -> None:
    assert len(MUST_REJECT) + 1 == 13
    for name in MUST_REJECT:
        path = tmp_path / "t.jsonl"
        path.write_bytes(lines_around(FORMATS[1], DEFECTS[name][1](FORMATS[1]), None))
        assert [finding.line for finding in check_files(path).errors] == [3], name
    # What is compressed is read through the decompressor, whatever its name.
    path.write_bytes(gzip.compress(path.read_bytes()))
    assert [finding.line for finding in check_files(path).errors] == [3]
