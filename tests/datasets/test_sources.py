"""Files, compressed files and pipes: every command gives the same from each, and nothing broken passes unseen."""

from __future__ import annotations

import gzip
import json
import os
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import zstandard

from runner.datasets.checks import check_files
from runner.datasets.reading import compression
from runner.datasets.reading.compression import open_source
from runner.datasets.records.recognising import plain_examples
from runner.datasets.reports.preview import preview_line
from runner.datasets.rewriting.converting import convert_file
from runner.datasets.rewriting.fixing import fix_file
from runner.datasets.rewriting.splitting import split_file
from runner.datasets.rewriting.targets import open_target
from runner.datasets.tokens.counters import RatioCounter
from runner.errors import ConfigurationError, DatasetError
from tests.cli.invocation import process

ROWS = [{"prompt": f"What is {number}?", "completion": f"It is {number}."} for number in range(300)]
PLAIN = b"".join(json.dumps(row).encode() + b"\n" for row in ROWS) + b'{"prompt": "", "completion": "x"}\n'
GOOD = b"".join(json.dumps(row).encode() + b"\n" for row in ROWS)
COMPRESS: dict[str, Callable[[bytes], bytes]] = {
    ".gz": gzip.compress,
    ".zst": zstandard.ZstdCompressor(write_checksum=True).compress,
}


def decompressed(path: Path) -> bytes:
    with open_source(path) as stream:
        return stream.read()


@pytest.mark.parametrize("suffix", COMPRESS)
def test_every_function_reads_and_writes_compressed_files(suffix: str, tmp_path: Path) -> None:
    plain, packed = tmp_path / "t.jsonl", tmp_path / f"t.jsonl{suffix}"
    plain.write_bytes(PLAIN)
    packed.write_bytes(COMPRESS[suffix](PLAIN))
    report, expected = check_files(packed), check_files(plain)
    assert [(finding.code, finding.line) for finding in report.findings] == [
        ("empty-text", 301),
        ("file-extension", 0),
    ]
    assert report.training.tokens == expected.training.tokens
    counter = RatioCounter(0.25)
    assert preview_line(packed, 7, counter).to_json() == preview_line(plain, 7, counter).to_json()

    outputs = {}
    for source in (plain, packed):
        folder = tmp_path / f"from{source.suffix}"
        folder.mkdir()
        repair = fix_file(source, folder / f"fixed.jsonl{suffix}")
        assert repair.rows == 300
        convert_file(source, folder / f"chat.jsonl{suffix}", "chat")
        split_file(folder / f"fixed.jsonl{suffix}", folder / f"a.jsonl{suffix}", folder / f"b.jsonl{suffix}", share=0.2)
        outputs[source] = {path.name: decompressed(path) for path in sorted(folder.iterdir())}
    assert len(outputs[plain]) == 4
    assert outputs[plain] == outputs[packed]
    assert outputs[plain][f"fixed.jsonl{suffix}"] == GOOD


@pytest.mark.parametrize("suffix", COMPRESS)
def test_several_members_are_read_to_the_end(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"t.jsonl{suffix}"
    path.write_bytes(b"".join(COMPRESS[suffix](GOOD[at : at + 997]) for at in range(0, len(GOOD), 997)))
    assert decompressed(path) == GOOD


def broken(data: bytes) -> dict[str, bytes]:
    middle = len(data) // 2
    return {
        "cut at the end": data[:-1],
        "cut in the middle": data[:middle],
        "cut in the head": data[:7],
        "flipped": data[:middle] + bytes([data[middle] ^ 0x55]) + data[middle + 1 :],
        "garbage behind": data + b"garbage that is no member",
    }


def codes(error: DatasetError) -> list[str]:
    return [finding["code"] for finding in error.findings]


@pytest.mark.parametrize("suffix", COMPRESS)
def test_what_is_broken_is_said_to_be(suffix: str, tmp_path: Path) -> None:
    data = COMPRESS[suffix](random.Random(1).randbytes(300_000).hex().encode())
    for name, content in broken(data).items():
        path = tmp_path / f"t.jsonl{suffix}"
        path.write_bytes(content)
        assert "not-text" in check_files(path).training.counts, name
        target = tmp_path / "out.jsonl"
        with pytest.raises(DatasetError) as refused:
            fix_file(path, target)
        assert codes(refused.value) == ["not-text"]
        assert sorted(item.name for item in tmp_path.iterdir()) == [path.name], "nothing half-written is left"


@pytest.mark.parametrize("suffix", COMPRESS)
def test_bombs_are_given_up(suffix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compression, "_FREE_BYTES", 1 << 20)
    path = tmp_path / f"t.jsonl{suffix}"
    path.write_bytes(COMPRESS[suffix](b" " * 30_000_000))
    assert path.stat().st_size < 40_000
    assert "compressed-bomb" in check_files(path).training.counts
    runs: list[Callable[[], Any]] = [
        lambda: fix_file(path, tmp_path / "f.jsonl"),
        lambda: split_file(path, tmp_path / "a.jsonl", tmp_path / "b.jsonl"),
        lambda: convert_file(path, tmp_path / "c.jsonl", "chat"),
        lambda: convert_file(path, tmp_path / "c.jsonl", "chat", layout="json"),
        lambda: preview_line(path, 2, RatioCounter(0.25)),
    ]
    for run in runs:
        with pytest.raises(DatasetError) as refused:
            run()
        assert codes(refused.value) == ["compressed-bomb"]
    assert list(tmp_path.iterdir()) == [path]


def test_targets_appear_whole_or_not_at_all_and_replace_nothing(tmp_path: Path) -> None:
    path = tmp_path / "t.jsonl"
    with pytest.raises(TypeError), open_target(path) as stream:
        stream.writelines([b"half", None])  # type: ignore[list-item]
    assert list(tmp_path.iterdir()) == []
    with open_target(path) as stream:
        stream.write(b"whole")
        assert not path.exists()
    assert path.read_bytes() == b"whole"
    assert path.stat().st_mode & 0o777 == 0o666 & ~_umask()
    with pytest.raises(ConfigurationError, match="already"), open_target(path):
        pass
    link = tmp_path / "link.jsonl"
    link.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ConfigurationError, match="already"), open_target(link):
        pass
    late = tmp_path / "late.jsonl"
    with pytest.raises(ConfigurationError, match="already"), open_target(late) as stream:
        late.write_bytes(b"another program was quicker")
    assert late.read_bytes() == b"another program was quicker"
    assert sorted(item.name for item in tmp_path.iterdir()) == ["late.jsonl", "link.jsonl", "t.jsonl"]


def _umask() -> int:
    current = os.umask(0o077)
    os.umask(current)
    return current


def test_the_same_content_gives_the_same_file(tmp_path: Path) -> None:
    for suffix in COMPRESS:
        for name in ("a", "b"):
            with open_target(tmp_path / f"{name}.jsonl{suffix}") as stream:
                stream.write(GOOD)
        assert (tmp_path / f"a.jsonl{suffix}").read_bytes() == (tmp_path / f"b.jsonl{suffix}").read_bytes()


def test_a_copy_has_the_name_of_its_source(tmp_path: Path) -> None:
    path = tmp_path / "t.jsonl.gz"
    path.write_bytes(gzip.compress(GOOD))
    with plain_examples(path) as copy:
        assert (copy.name, copy.read_bytes()) == ("t.jsonl", GOOD)
    assert not copy.exists()


def test_pipes(tmp_path: Path) -> None:
    """One process reads from a pipe what another wrote, compressed or not."""
    text = GOOD.decode()
    made = process("data", "convert", "-", "--to", "chat", "--output", "-", stdin=text)
    assert made.code == 0, made.err
    assert [json.loads(line)["messages"][0]["content"] for line in made.out.splitlines()] == [
        row["prompt"] for row in ROWS
    ]
    assert "300 rows" in made.err
    checked = process("data", "check", "-", "--model", "qwen/qwen3@qwen3-32b", "--format", "json", stdin=made.out)
    assert checked.document["files"][0]["kept"] == 300
    csv = "question,answer\nWhat?,That.\n"
    table = process("data", "convert", "-", "--from", "csv", "--to", "prompt_completion", "--output", "-", stdin=csv)
    assert json.loads(table.out) == {"prompt": "What?", "completion": "That."}
