"""What holds no dataset is refused at the door, by its name."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import random
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from runner.errors import DatasetError
from tests.datasets.reading.rows import opened
from tests.datasets.reading.test_opening import LINE, zipped

REFUSED: dict[str, tuple[Callable[[], bytes], str]] = {
    "bzip2": (lambda: bz2.compress(LINE.encode()), "compressed by bzip2, not a dataset"),
    "xz": (lambda: lzma.compress(LINE.encode()), "compressed by xz"),
    "PDF": (lambda: b"%PDF-1.7\n", "PDF"),
    "PNG": (lambda: b"\x89PNG\r\n\x1a\n", "a PNG image"),
    "SQLite": (lambda: b"SQLite format 3\0", "an SQLite database"),
    "a login page": (lambda: b"\n<!DOCTYPE html><html>", "an HTML page"),
    "XML": (lambda: b"<?xml version='1.0'?><a/>", "XML"),
    "Git LFS": (lambda: b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "a pointer of Git LFS"),
    "Rich Text": (lambda: b"{\\rtf1 prompt,completion}", "Rich Text"),
    "YAML": (lambda: b"---\n- prompt: a\n  completion: b\n", "YAML"),
    "Markdown": (lambda: b"| prompt | completion |\n|---|:--:|\n| a | b |\n", "a table in Markdown"),
    "tar in gzip": (lambda: gzip.compress(archived()), "a tar archive"),
    "gzip in zip": (lambda: zipped(gzip.compress(LINE.encode())), "holds gzip inside zip"),
    "zip in gzip": (lambda: gzip.compress(zipped(LINE.encode())), "holds zip inside gzip"),
    "zip with two": (lambda: zipped(b"", "a.jsonl", "b/c.jsonl"), "holds 2 files, not one: a.jsonl, b/c.jsonl"),
    "zip with none": (lambda: zipped(b"", "a/"), "holds 0 files, not one"),
    "empty zip": (lambda: b"PK\x05\x06" + bytes(18), "an empty zip archive"),
    "broken zip": (lambda: zipped(LINE.encode())[:-9], "the zip archive is broken"),
    "broken gzip": (lambda: gzip.compress(random.Random(1).randbytes(999))[:-9], "compressed data are broken"),
    "broken Parquet": (lambda: b"PAR1" + bytes(99), "not a valid Parquet file"),
    "broken workbook": (lambda: b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(999), "cannot be read as a workbook"),
}


def archived() -> bytes:
    target = io.BytesIO()
    with tarfile.open(fileobj=target, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("a.jsonl"))
    return target.getvalue()


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_no_dataset_is_refused_by_name(name: str, tmp_path: Path) -> None:
    make, message = REFUSED[name]
    path = tmp_path / "t.jsonl"
    path.write_bytes(make())
    with pytest.raises(DatasetError, match=message) as caught:
        opened(path)
    assert [finding["code"] for finding in caught.value.findings] == ["not-text"]


def test_an_encrypted_archive_is_refused(tmp_path: Path) -> None:
    data = bytearray(zipped(LINE.encode()))
    data[6] |= 1
    data[data.index(b"PK\x01\x02") + 8] |= 1
    path = tmp_path / "t.zip"
    path.write_bytes(data)
    with pytest.raises(DatasetError, match="is encrypted"):
        opened(path)
