"""Files as people have them: no command crashes, all refuse the same ones, and printed commands work as typed."""

from __future__ import annotations

import gzip
import io
import json
import shlex
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from runner.datasets.checks import check_files
from runner.datasets.rewriting.converting import convert_file
from tests.cli.invocation import CommandLine, process
from tests.datasets.examples import png
from tests.provisioning import Provisioned

MODEL = "qwen/qwen3@qwen3-32b"
PAIR = {"prompt": "What floats?", "completion": "Wood."}
CHAT = {"messages": [{"role": "user", "content": "What floats?"}, {"role": "assistant", "content": "Wood."}]}
SHAREGPT = {"conversations": [{"from": "human", "value": "What floats?"}, {"from": "gpt", "value": "Wood."}]}
CSV = "prompt,answer\nWhat floats?,Wood.\n"


def lines(*records: Any) -> str:
    return "".join(json.dumps(record) + "\n" for record in records)


def archive(**members: str) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as file:
        for name, content in members.items():
            file.writestr(name, content)
    return stream.getvalue()


FILES: dict[str, bytes | str] = {
    "with mark.csv": b"\xef\xbb\xbf" + CSV.encode(),
    "german.csv": "Frage;Antwort;Nr\nWas?;Das, ja;1\n",
    "german.jsonl": "Frage;Antwort;Nr\nWas?;Das, ja;1\n",
    "no suffix": CSV,
    "-dash.csv": CSV,
    "-dash.jsonl": lines(SHAREGPT),
    'it\'s a $HOME "x".csv': CSV,
    "Größe ü.csv": CSV,
    "new\nline.csv": CSV,
    ".hidden.csv": CSV,
    "return.csv": CSV.replace("\n", "\r"),
    "return.jsonl": lines(PAIR, CHAT).replace("\n", "\r"),
    "quotes.csv": '"prompt","answer"\r\n"q ""1""","a\r\nb"\r\n',
    "heading.csv": "prompt,answer\n",
    "one column.csv": "prompt\nq1\n",
    "wide.csv": ",".join(["prompt", "answer", *(f"c{n}" for n in range(9000))]) + "\n" + "v," * 9001 + "v\n",
    "long.csv": 'prompt,answer\nq,"' + "x, " * 300_000 + '"\n',
    "unclosed.csv": 'prompt,answer\nq,a\n"q2,a2\nq3,a3\n',
    "images.csv": "prompt,answer,image\nq,a,a.png\nq2,a2,\n",
    "systems.csv": "prompt,completion,system\nq,a,Be brief.\nq2,a2,\n",
    "alpaca.csv": 'instruction,input,output,history\nq,,a,\nq,i,a,[]\nq,i,a,"[[""x"",""y""]]"\n',
    "mixed.jsonl": lines(*[SHAREGPT] * 25, CHAT, PAIR),
    "foreign in between.jsonl": lines(SHAREGPT, CHAT),
    "commas.json": '[\n {"prompt":"q","completion":"a",},\n {"prompt":"q2","completion":"a2"},\n]\n',
    "comments.json": '// data\n[\n {"prompt":"q","completion":"a"}, // y\n {"prompt":"q2","completion":"a2"}\n]\n',
    "numbers.jsonl": lines({"question": "q", "answer": 1.5}, {"question": "q", "answer": True}),
    "columns.json": json.dumps({"prompt": ["q1", "q2"], "completion": ["a1", "a2"]}),
    "llava.jsonl": lines(*({"image": name, **SHAREGPT} for name in ("a.png", "", "../b.png", "loop", "out.png", "\0"))),
    "deep.json": "[" * 100_000 + "]" * 100_000,
    "deep text.jsonl": lines({"messages": "[" * 100_000}, {"messages": "-" * 100_000 + "1"}),
    "not utf-8.jsonl": lines(SHAREGPT).encode().replace(b"Wood", b"W\xff") + lines(SHAREGPT, {"id": 1}).encode(),
    "not utf-8 at all.jsonl": lines(SHAREGPT).encode().replace(b"Wood", b"W\xff"),
    "empty.jsonl": "",
    "null.json": "null",
    "empty list.json": "[]",
    "text.txt": "hello\nworld\n",
    "binary.bin": bytes(range(256)) * 100,
    "latin.csv": "prompt,answer\nxx\xdf,y\n".encode("latin-1"),
    "two members.jsonl.gz": gzip.compress(lines(PAIR).encode()) + gzip.compress(lines(CHAT).encode()),
    "cut.jsonl.gz": gzip.compress(lines(PAIR).encode() * 1000)[:-9],
    "garbage.jsonl.gz": gzip.compress(lines(PAIR).encode()) + b"garbage",
    "twice.gz": gzip.compress(gzip.compress(CSV.encode())),
    "table.zip": archive(**{"t.csv": CSV}),
    "table.zip.gz": gzip.compress(archive(**{"t.csv": CSV})),
    "no member.zip": archive(),
    "two.zip": archive(**{"a.csv": CSV, "b.csv": CSV}),
}

Command = Callable[[str], tuple[str, ...]]
COMMANDS: dict[str, Command] = {
    "check": lambda name: ("data", "check", name),
    "stats": lambda name: ("data", "stats", name),
    "sample": lambda name: ("data", "stats", "--sample", name),
    "preview": lambda name: ("data", "preview", name),
    "report": lambda name: ("data", "report", "--html", "made/page.html", name),
    "split": lambda name: ("data", "split", "--training", "made/a.jsonl", "--validation", "made/b.jsonl", name),
    "fix": lambda name: ("data", "fix", "--output", "made/fixed.jsonl", name),
    "convert": lambda name: ("data", "convert", "--output", "made/converted.jsonl", name),
    "estimate": lambda name: ("estimate", "--model", MODEL, name),
}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    inside = tmp_path / "folder"
    (inside / "made").mkdir(parents=True)
    (inside / "a.png").write_bytes(png(4, 3))
    (tmp_path / "b.png").write_bytes(png(4, 3))
    (inside / "out.png").symlink_to(tmp_path / "b.png")
    (inside / "loop").symlink_to("loop")
    monkeypatch.chdir(inside)
    return inside


@pytest.mark.parametrize("name", FILES)
def test_every_command_says_what_the_check_says(name: str, run: CommandLine, folder: Path) -> None:
    content = FILES[name]
    (folder / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    found = check_files(Path(name)).training
    path = f"./{name}" if name.startswith("-") else name
    for command, arguments in COMMANDS.items():
        outcome = run(*arguments(path))
        assert outcome.code in {0, 2, 3}, (command, outcome.err)
        if found.conversion is not None and command not in {"convert", "report"}:
            assert outcome.code == 3, command
            said = outcome.out + outcome.err
            assert found.conversion.finding().message in said, command
            assert outcome.err.rstrip().endswith(found.conversion.hint), command
        for made in ("fixed", "converted"):
            written = Path("made", f"{made}.jsonl")
            if written.exists():
                assert outcome.code == 0
                assert check_files(written).errors == []
                written.unlink()
        assert (
            outcome.code or command not in {"fix", "convert", "split"} or not found.error_count or "out" in outcome.out
        )


@pytest.mark.parametrize("name", FILES)
def test_the_printed_command_works_as_typed(name: str, run: CommandLine, folder: Path) -> None:
    content = FILES[name]
    (folder / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    found = check_files(Path(name)).training.conversion
    if found is None or not found.first_row:
        return
    before = set(folder.iterdir())
    words = shlex.split(found.command)
    assert words[:3] == ["runner", "data", "convert"]
    outcome = run(*words[1:])
    assert outcome.code == 0, outcome.err
    (made,) = set(folder.iterdir()) - before
    assert made.read_text().splitlines()[0] == found.first_row
    assert check_files(made).errors == []


@pytest.mark.parametrize("detail", [{"x": 1}, [], 7, True, "huge", {"detail": "low"}], ids=str)
def test_a_detail_of_any_type_is_a_finding(detail: object, run: CommandLine, tmp_path: Path) -> None:
    image = {"type": "image_url", "image_url": {"url": "gs://a-bucket/a.png", "detail": detail}}
    asked = {"role": "user", "content": [{"type": "text", "text": "What is it?"}, image]}
    path = tmp_path / "t.jsonl"
    path.write_text(json.dumps({"messages": [asked, {"role": "assistant", "content": "A cat."}]}) + "\n")
    outcome = run("--format", "json", "data", "check", str(path))
    assert outcome.code == 3, outcome.err
    assert "image-detail" in {item["code"] for item in outcome.error["findings"]}
    assert run("data", "convert", str(path), "--to", "chat", "--output", str(tmp_path / "out.jsonl")).code in (0, 3)


@pytest.mark.parametrize("name", ["t.jsonl", "t.csv", "t.tsv", "t.json"])
@pytest.mark.parametrize("rest", ["", "\n", "\r\n", "\r", "\n\n", "\ufeff\n"], ids=repr)
def test_a_byte_order_mark_and_nothing_else(name: str, rest: str, run: CommandLine, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_bytes(f"\ufeff{rest}".encode())
    for command in (
        ("check", str(path)),
        ("convert", str(path), "--to", "chat", "--output", str(tmp_path / "out.jsonl")),
    ):
        outcome = run("data", *command)
        assert outcome.code in (0, 2, 3), (command, outcome.err)


@pytest.mark.parametrize(
    "words",
    [
        ["predict", "--file"],
        ["predict", "--instances"],
        ["plan", "-f"],
        ["apply", "-f"],
        ["estimate", "--model", "qwen/qwen3@qwen3-32b"],
        ["data", "fix", "--output", "-"],
        ["data", "convert", "--output", "-"],
        ["jobs", "ls", "--environment"],
    ],
    ids=" ".join,
)
def test_a_file_that_is_not_there_is_named_once(words: list[str], run: CommandLine, tmp_path: Path) -> None:
    absent = str(tmp_path / "absent")
    outcome = run(*words, absent)
    assert outcome.code in {1, 2}
    assert outcome.out == ""
    assert outcome.err.count(absent) == 1, outcome.err
    assert "[Errno" not in outcome.err


def test_names_that_lead_to_no_file(run: CommandLine, folder: Path) -> None:
    (folder / "t.jsonl").write_text(lines(PAIR, CHAT))
    for command, arguments in COMMANDS.items():
        assert "missing: no such file" in run(*arguments("missing")).err, command
        outcome = run(*arguments("made"))
        assert (outcome.code, "made: a folder, not a file" in outcome.err) == (2, True), command
        assert run(*arguments("loop")).code == 2, command
    for option in ("fix", "convert"):
        outcome = run("data", option, "t.jsonl", "--output", "no/such/t.jsonl")
        assert (outcome.code, "cannot write no/such/t.jsonl" in outcome.err) == (2, True)
    assert run("data", "report", "t.jsonl", "--html", "no/such/page.html").code == 2


def test_pipes_with_names_are_read_as_files_are() -> None:
    outcome = process("data", "convert", "/dev/stdin", "--output", "-", stdin=CSV)
    assert json.loads(outcome.out) == {"prompt": "What floats?", "completion": "Wood."}
    assert process("data", "check", "/dev/stdin", stdin=lines(PAIR)).code == 0
    assert process("data", "fix", "/dev/stdin", "--output", "-", stdin=lines(PAIR)).out == lines(PAIR)


def test_standard_input_holds_one_dataset(run: CommandLine) -> None:
    outcome = run("data", "check", "-", "--validation", "-")
    assert outcome.code == 2
    assert "standard input can contain only one dataset" in outcome.err


def test_the_account_of_what_goes_to_standard_output_is_json_too() -> None:
    text = "prompt,answer,id\nq,a,7\nx,y\n"
    outcome = process("data", "convert", "-", "--output", "-", "--format", "json", stdin=text)
    assert json.loads(outcome.out) == {"prompt": "q", "completion": "a"}
    body = json.loads(outcome.err.splitlines()[-1])
    assert (body["read"], body["rows"], body["skipped"]) == (2, 1, 1)
    assert [lost["path"] for lost in body["notCarriedOver"]] == ["id"]


@pytest.mark.parametrize("form", ["csv", "json", "jsonl", "jsonl.gz"])
def test_large_files_show_how_far_they_are(form: str, run: CommandLine, folder: Path) -> None:
    records = [{"prompt": f"What is {number}?" + "x" * 2000, "completion": "That."} for number in range(5000)]
    table = "".join(f"{record['prompt']},That.\n" for record in records)
    content = {
        "csv": ("prompt,answer\n" + table).encode(),
        "json": json.dumps(records).encode(),
        "jsonl": lines(*records).encode(),
        "jsonl.gz": gzip.compress(lines(*records).encode()),
    }[form]
    path = folder / f"t.{form}"
    path.write_bytes(content)
    said: list[tuple[int, int | None]] = []

    def progress(done: int, total: int | None) -> None:
        said.append((done, total))

    convert_file(path, Path("made", "a.jsonl"), "chat", progress=progress)
    assert said
    assert said == sorted(said)
    assert {total for _, total in said} == {len(content)}
    assert 0 < said[-1][0] <= len(content)
    assert f"convert t.{form}: " in run("data", "convert", str(path), "--output", "made/b.jsonl").err


def test_what_comes_through_a_pipe_is_converted_and_sent(run: CommandLine, in_project: Provisioned) -> None:
    outcome = process("data", "upload", "-", "--convert", "--format", "json", stdin=CSV)
    assert outcome.code == 0, outcome.err
    assert outcome.document["training"]["uri"].startswith(f"gs://{in_project.datasets}/datasets/stdin-")
    outcome = process("jobs", "submit", "--train", "-", "--model", MODEL, "--dry-run", "--convert", stdin=CSV)
    assert outcome.code == 0, outcome.err


def test_images_lie_beside_the_compressed_file_that_names_them(
    run: CommandLine, in_project: Provisioned, folder: Path
) -> None:
    image = {"type": "image_url", "image_url": {"url": "a.png"}}
    chat = {"messages": [{"role": "user", "content": [image]}, {"role": "assistant", "content": "A boat."}]}
    Path("t.jsonl.gz").write_bytes(gzip.compress(lines(chat).encode()))
    outcome = run("data", "upload", "t.jsonl.gz", "--images", "--format", "json")
    assert outcome.code == 0, outcome.err


def test_no_image_outside_the_folder_is_read(run: CommandLine, folder: Path) -> None:
    (folder / "llava.jsonl").write_text(str(FILES["llava.jsonl"]))
    body = run("data", "convert", "llava.jsonl", "--output", "made/t.jsonl", "--format", "json").document
    assert [change["what"].rpartition(": ")[2] for change in body["changes"]] == [
        "the path leads out of the dataset's folder",
        "no such file",
        "the path leads out of the dataset's folder",
        "no such file",
    ]
    assert (body["read"], body["rows"], body["skipped"]) == (6, 2, 4)
