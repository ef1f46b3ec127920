"""Wherever a command takes a file, one that cannot be read is named in plain words, never in a library's own."""

from __future__ import annotations

import io
import re
from pathlib import Path

import click
import pytest

from runner.cli.main import root
from runner.cli.reference import walk
from runner.cli.values import DataFile
from tests.cli.invocation import CommandLine
from tests.provisioning import Provisioned

MODEL = "meta/llama3_1@llama-3.1-8b-instruct"
LINES = {
    "runner init --data": "init made/folder --yes --data {file}",
    "runner emulator start --dedicated": "emulator start --timeout 1s --dedicated {file} {file}",
    "runner data check training": "data check {file}",
    "runner data check --validation": "data check {sound} --validation {file}",
    "runner data check --tokenizer": "data check {sound} --tokenizer {folder}",
    "runner data stats training": "data stats {file}",
    "runner data stats --validation": "data stats {sound} --validation {file}",
    "runner data stats --tokenizer": "data stats {sound} --tokenizer {folder}",
    "runner data preview path": "data preview {file}",
    "runner data preview --tokenizer": "data preview {sound} --tokenizer {folder}",
    "runner data report training": "data report {file} --html made/page.html",
    "runner data report --validation": "data report {sound} --validation {file} --html made/page.html",
    "runner data report --tokenizer": "data report {sound} --tokenizer {folder} --html made/page.html",
    "runner data fix path": "data fix {file} --output made/fixed.jsonl",
    "runner data split path": "data split {file} --training made/a.jsonl --validation made/b.jsonl",
    "runner data convert path": "data convert {file} --output made/converted.jsonl",
    "runner data upload training": "data upload {file}",
    "runner data upload --validation": "data upload {sound} --validation {file}",
    "runner data upload --tokenizer": "data upload {sound} --tokenizer {folder}",
    "runner estimate training": f"estimate {{file}} --model {MODEL}",
    "runner estimate --tokenizer": f"estimate {{sound}} --model {MODEL} --tokenizer {{folder}}",
    "runner jobs submit --train": f"jobs submit --dry-run --model {MODEL} --train {{file}}",
    "runner jobs submit --validation": f"jobs submit --dry-run --model {MODEL} --train {{sound}} --validation {{file}}",
    "runner jobs submit --tokenizer": f"jobs submit --dry-run --model {MODEL} --train {{sound}} --tokenizer {{folder}}",
    "runner plan -f": "plan -f {manifest}",
    "runner apply saved": "apply {file}",
    "runner apply -f": "apply -f {manifest}",
    "runner drift -f": "drift -f {manifest}",
    "runner bill --billed": "bill --billed {file}",
    "runner predict --instances": "predict --endpoint 1 --instances {file}",
    "runner predict --file": "predict --endpoint 1 --file {file}",
    "runner predict --image": "predict hi --endpoint 1 --image {file}",
    "runner batch source": "batch {file} --endpoint 1 -o made/answers.jsonl",
    "runner eval dataset": "eval {file} --endpoint 1 --base-endpoint 2",
    "runner chat --image": "chat hi --endpoint 1 --image {file}",
    "runner chat --resume": "chat hi --endpoint 1 --resume {file}",
    "runner chat --replay": "chat --endpoint 1 --replay {file}",
}
"""For each option and argument that names a file to read, a command line."""
ELSEWHERE = {
    "runner jobs why --train": "needs a job whose data is bad",
    "runner endpoints check --golden": "needs an endpoint",
    "runner endpoints deploy --check": "needs weights",
}
"""Files that are read as the datasets above, after something that this test does not have."""
FILES = {
    "latin": b'{"prompt": "caf\xe9", "completion": "a"}\n',
    "cut": b'{"prompt": "q", "completion": ',
    "words": b"hello\nworld\n",
    "number": b"7\n",
    "digits": b'{"prompt": "q", "completion": ' + b"9" * 5000 + b"}\n",
    "list": b"[[1, 2]]\n",
    "keys": b'{"messages": {"role": 1}, "version": 1, "contexts": [], "prompt": null}\n',
    "gzip": b"\x1f\x8b\x08\x00garbage and more of it",
    "zip": b"PK\x03\x04garbage and more of it",
    "zstd": b"\x28\xb5\x2f\xfdgarbage and more of it",
    "image": b"\x89PNG\r\n\x1a\ngarbage and more of it",
    "mark": b"\xff\xfe{\x00\xd8",
    "nothing": b"",
}
LIBRARIES = re.compile(
    r"codec can't|invalid start byte|unexpected end of data|Expecting |\(char \d|line 1 column|\[Errno|Error -\d"
    r"|utf-8-sig|NoneType|object has no attribute|KeyError|TypeError|ValueError|Traceback"
    r"|Extra data|Unterminated string|set_int_max_str_digits|_csv|internal error"
    r"|BadZipFile|zstd de|not subscriptable|indices must be",
)


def given() -> set[str]:
    """Return every option and argument of a command that names a file to read."""
    found = set()
    for path, command, _ in walk(root, None, "runner"):
        for parameter in command.params:
            if parameter in getattr(command, "shared_options", ()):
                continue
            metavar = str(parameter.metavar or "")
            if isinstance(parameter.type, click.Path | DataFile) or "FILE" in metavar:
                found.add(f"{path} {parameter.opts[0]}")
    folders = {"--directory", "--to", "directory", "folder"}
    written = {"--output", "-o", "--html", "--out", "--report", "--save", "--training"}
    return {name for name in found if name.split()[-1] not in folders | written} - {"runner data split --validation"}


def test_every_option_that_names_a_file_is_tried() -> None:
    assert given() == {*LINES, *ELSEWHERE}


@pytest.fixture
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Path]:
    (tmp_path / "made").mkdir()
    (tmp_path / "folder").mkdir()
    (tmp_path / "manifests").mkdir()
    sound = tmp_path / "sound.jsonl"
    sound.write_text('{"prompt": "q", "completion": "a"}\n' * 3)
    monkeypatch.chdir(tmp_path)
    return {"sound": sound, "folder": tmp_path / "folder", "manifest": tmp_path / "manifests" / "job.yaml"}


@pytest.mark.parametrize("name", LINES)
def test_a_file_that_cannot_be_read_is_named_in_plain_words(
    name: str, run: CommandLine, in_project: Provisioned, places: dict[str, Path]
) -> None:
    for kind, content in FILES.items():
        file = Path(f"{kind}.png" if name.endswith("--image") else f"{kind}.jsonl")
        for path in (file, places["folder"] / "tokenizer.json", places["manifest"]):
            path.write_bytes(content)
        for made in Path("made").iterdir():
            if made.is_file():
                made.unlink()
        outcome = run(*LINES[name].format(file=file, **places).split())
        said = outcome.out + outcome.err
        found = LIBRARIES.search(said)
        assert not found, f"{kind}: {said}"
        assert outcome.code != 70, f"{kind}: {said}"


@pytest.mark.parametrize("line", ["predict --endpoint 1", "predict --endpoint 1 --file -", "chat --endpoint 1"])
def test_standard_input_that_is_not_utf8_is_said_to_be_that(
    line: str, run: CommandLine, in_project: Provisioned, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(io, "StringIO", lambda _: io.TextIOWrapper(io.BytesIO(b"What is\na caf\xe9?"), "utf-8"))

    outcome = run(*line.split())

    assert outcome.code == 2, outcome.err
    assert "standard input is not UTF-8: line 2 contains the byte 0xe9" in outcome.err
