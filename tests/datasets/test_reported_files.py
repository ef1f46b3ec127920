"""Files that broke other people's tuning, each with what the commands say of it: one door, one set of words."""

from __future__ import annotations

import io
import json
import re
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.cli.conftest import run
from tests.cli.invocation import CommandLine

__all__ = ["run"]

PAIRS = [{"prompt": f"Ferry {number}?", "completion": f"Pier {number}."} for number in range(1, 6)]
CHATS = [
    {
        "messages": [
            {"role": "user", "content": pair["prompt"]},
            {"role": "assistant", "content": pair["completion"]},
        ]
    }
    for pair in PAIRS
]


def lines(records: list[Any], encoding: str = "utf-8") -> bytes:
    return "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records).encode(encoding)


def zipped(data: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("train.jsonl", data)
    return buffer.getvalue()


CHINESE = [{"prompt": "Say hello", "completion": "你好"}, {"prompt": "The day?", "completion": "今天是星期一"}]
PRETTY = "\n".join(json.dumps(chat, indent=2) for chat in CHATS).encode()

DECODED: dict[str, tuple[bytes, list[Any]]] = {
    "UTF-16 of PowerShell": (lines(PAIRS, "utf-16"), PAIRS),
    "UTF-16 without a mark": (lines(CHINESE, "utf-16-le"), CHINESE),
    "UTF-16, the other way round": (b"\xfe\xff" + lines(CHINESE, "utf-16-be"), CHINESE),
    "UTF-32": (lines(PAIRS, "utf-32"), PAIRS),
    "a zip archive": (zipped(lines(PAIRS)), PAIRS),
}


@pytest.mark.parametrize("name", DECODED)
def test_what_can_be_decoded_is_decoded_by_every_command(name: str, run: CommandLine, tmp_path: Path) -> None:
    data, expected = DECODED[name]
    path = tmp_path / "train.jsonl"
    path.write_bytes(data)
    checked = run("data", "check", str(path), "--format", "json")
    assert (checked.code, checked.document["errors"]) == (0, 0)
    assert "decoded" in {finding["code"] for finding in checked.document["findings"]}
    for command in ("fix", "convert"):
        output = tmp_path / f"{command}.jsonl"
        assert run("data", command, str(path), "--output", str(output)).code == 0
        assert [json.loads(line) for line in output.read_text("utf-8").splitlines()] == expected
    for line, record in enumerate(expected, 1):
        assert record["completion"] in run("data", "preview", str(path), "--line", str(line)).out
    parts = [str(tmp_path / "a.jsonl"), str(tmp_path / "b.jsonl")]
    split = run("data", "split", str(path), "--training", parts[0], "--validation", parts[1], "--share", "0.2")
    if split.code == 0:
        written = [json.loads(line) for part in parts for line in Path(part).read_text("utf-8").splitlines()]
        assert sorted(map(str, written)) == sorted(map(str, expected))


def csv_of(delimiter: str, *, first: str = "", encoding: str = "utf-8") -> bytes:
    rows = [first + delimiter.join(["prompt", "completion"])]
    rows += [delimiter.join([f'"{pair["prompt"]}"', f'"{pair["completion"]}"']) for pair in PAIRS]
    return "\r\n".join(rows).encode(encoding)


FOREIGN: dict[str, tuple[str, bytes, str]] = {
    "pretty-printed": ("t.jsonl", PRETTY, "pretty-printed JSON: objects span lines (first: lines 1-12)"),
    "a JSON array": ("t.json", json.dumps(CHATS).encode(), "a JSON array with conversations"),
    "an export of the viewer": (
        "t.json",
        json.dumps({"rows": [{"row_idx": 0, "row": PAIRS[0], "truncated_cells": []}]}).encode(),
        "rows exported from the Hugging Face dataset viewer",
    ),
    "ShareGPT": (
        "t.jsonl",
        lines([{"conversations": [{"from": "human", "value": "Ferry 1?"}, {"from": "gpt", "value": "Pier 1."}]}]),
        "JSON Lines with ShareGPT conversations",
    ),
    "Alpaca": (
        "t.jsonl",
        lines([{"instruction": "Ferry 1?", "input": "", "output": "Pier 1."}]),
        "JSON Lines with Alpaca records",
    ),
    "text-bison": (
        "t.jsonl",
        lines([{"input_text": "Ferry 1?", "output_text": "Pier 1."}]),
        "JSON Lines with text-bison records",
    ),
    "semicolons": ("t.csv", csv_of(";"), "CSV separated by ';'"),
    "a separator line": ("t.csv", csv_of(",", first="sep=,\r\n"), "CSV separated by ','"),
    "UTF-16 CSV": ("t.csv", csv_of("\t", encoding="utf-16"), "tab"),
    "messages written as a text": (
        "t.csv",
        b'id,messages\n1,"[{""role"": ""user"", ""content"": ""Ferry 1?""}, '
        b'{""role"": ""assistant"", ""content"": ""Pier 1.""}]"\n',
        "CSV separated by ',' with conversations",
    ),
}
COMMANDS: dict[str, Callable[[Path, Path], list[str]]] = {
    "fix": lambda path, folder: ["data", "fix", str(path), "--output", str(folder / "fixed.jsonl")],
    "split": lambda path, folder: [
        *("data", "split", str(path)),
        *("--training", str(folder / "a.jsonl"), "--validation", str(folder / "b.jsonl")),
    ],
    "preview": lambda path, _: ["data", "preview", str(path)],
    "estimate": lambda path, _: ["estimate", str(path), "--model", "meta/llama3_1@llama-3.1-8b-instruct"],
    "stats": lambda path, _: ["data", "stats", str(path)],
    "upload": lambda path, _: ["data", "upload", str(path)],
    "sample": lambda path, _: ["data", "stats", str(path), "--sample"],
}


@pytest.mark.parametrize("name", FOREIGN)
def test_another_format_is_named_with_its_first_row_and_the_command(
    name: str, run: CommandLine, tmp_path: Path
) -> None:
    file, data, description = FOREIGN[name]
    path = tmp_path / file
    path.write_bytes(data)
    checked = run("data", "check", str(path), "--format", "json")
    assert checked.code == 3
    [finding] = checked.document["findings"]
    assert finding["code"] == "other-format"
    assert description in finding["message"]
    conversion = checked.document["files"][0]["conversion"]
    assert "Ferry 1?" in json.dumps(conversion["firstRow"])

    for command, words in COMMANDS.items():
        refused = run(*words(path, tmp_path))
        assert refused.code == 3, command
        assert finding["message"] in refused.err.replace("\n", " "), command
    assert list(tmp_path.iterdir()) == [path]

    command = conversion["command"].split()
    converted = run(*command[1:], "--format", "json")
    assert converted.code == 0, converted.err
    output = Path(converted.document["output"])
    assert json.loads(output.read_text("utf-8").splitlines()[0]) == conversion["firstRow"]
    assert run("data", "check", str(output)).code == 0


CONVERTED: dict[str, tuple[str, bytes, int, str]] = {
    "a comma without quotes": (
        "t.csv",
        b"prompt,completion\nHow long?,Yes, about ten minutes\nWho steers?,The captain\n",
        1,
        "line 2 left out: 3 cells, the heading has 2",
    ),
    "an answer that is an object": (
        "t.json",
        json.dumps([{"instruction": "a", "input": "b", "output": {"c": 1}}, *PAIRS[:1]]).encode(),
        1,
        "output: an object, not a text",
    ),
    "cells cut short by the viewer": (
        "t.json",
        json.dumps(
            {
                "rows": [
                    {"row_idx": 0, "row": PAIRS[0], "truncated_cells": []},
                    {"row_idx": 1, "row": PAIRS[1], "truncated_cells": ["completion"]},
                ]
            }
        ).encode(),
        1,
        "the dataset viewer has cut cells short: completion",
    ),
    "two columns of one name": (
        "t.csv",
        b"prompt,completion,completion\na,b,c\n",
        0,
        "completion",
    ),
    "a quote that is not closed": (
        "t.csv",
        b'prompt,completion\na,b\n"c,d\ne,f\n',
        0,
        "t.csv cannot be read beyond line 3: the quote that opens in line 3 is not closed",
    ),
    "nothing usable": ("t.jsonl", lines([{"text": "only a text"}]), 0, "no answer in it"),
}


@pytest.mark.parametrize("name", CONVERTED)
def test_rows_that_cannot_be_converted_are_named(name: str, run: CommandLine, tmp_path: Path) -> None:
    file, data, rows, message = CONVERTED[name]
    path, output = tmp_path / file, tmp_path / "out.jsonl"
    path.write_bytes(data)
    converted = run("data", "convert", str(path), "--to", "chat", "--output", str(output))
    assert converted.code == (0 if rows else 3)
    assert message in converted.err
    assert output.exists() == bool(rows)
    if rows:
        assert len(output.read_text().splitlines()) == rows


FIXED: dict[str, tuple[Any, Any, str]] = {
    "a system text beside the messages": (
        {"system": "Be brief.", **CHATS[0]},
        {"messages": [{"role": "system", "content": "Be brief."}, *CHATS[0]["messages"]]},
        "misplaced-key",
    ),
    "NaN in a key that is removed anyway": ({**PAIRS[0], "score": float("nan")}, PAIRS[0], "not-a-number"),
    "messages written as a text": ({"messages": json.dumps(CHATS[0]["messages"])}, CHATS[0], "wrong-type"),
    "an assistant misspelt": (
        {"messages": [CHATS[0]["messages"][0], {"role": "asistant", "content": "Pier 1."}]},
        CHATS[0],
        "unknown-role",
    ),
    "a developer": (
        {"messages": [{"role": "developer", "content": "Be brief."}, *CHATS[0]["messages"]]},
        {"messages": [{"role": "system", "content": "Be brief."}, *CHATS[0]["messages"]]},
        "unknown-role",
    ),
    "a line end of old": (
        {"prompt": "nel\u0085here", "completion": "b"},
        {"prompt": "nel\nhere", "completion": "b"},
        "control-character",
    ),
    "images beside the messages": (
        {
            "messages": [
                {"role": "user", "content": "<image>What is it?"},
                {"role": "assistant", "content": "A boat."},
            ],
            "images": ["gs://bucket/a.png"],
        },
        {
            "messages": [
                {
                    "role": "user",
                    "content": [
                        {"type": "image_url", "image_url": {"url": "gs://bucket/a.png"}},
                        {"type": "text", "text": "What is it?"},
                    ],
                },
                {"role": "assistant", "content": "A boat."},
            ]
        },
        "misplaced-key",
    ),
    "an answer of weight 0 at the end": (
        {
            "messages": [
                *CHATS[0]["messages"],
                {"role": "user", "content": "Really?"},
                {"role": "assistant", "content": "No.", "weight": 0},
            ]
        },
        CHATS[0],
        "weight-zero",
    ),
}


@pytest.mark.parametrize("name", FIXED)
def test_a_near_miss_is_a_finding_that_fix_mends(name: str, run: CommandLine, tmp_path: Path) -> None:
    record, expected, code = FIXED[name]
    path, output = tmp_path / "t.jsonl", tmp_path / "out.jsonl"
    path.write_bytes(lines([record]))
    checked = run("data", "check", str(path), "--format", "json").document
    assert code in {finding["code"] for finding in checked["findings"]}
    fixed = run("data", "fix", str(path), "--output", str(output), "--format", "json")
    assert fixed.code == 0, fixed.err
    assert json.loads(output.read_text("utf-8")) == expected
    assert run("data", "check", str(output)).code == 0
    if not code.startswith(("misplaced", "wrong", "unknown")):
        assert re.search("removed|NaN|turns", json.dumps(fixed.document["changes"]))


def test_a_weight_of_zero_in_the_middle_leaves_the_row_out_with_its_place(run: CommandLine, tmp_path: Path) -> None:
    path = tmp_path / "t.jsonl"
    turns: list[dict[str, Any]] = [*CHATS[0]["messages"], *CHATS[1]["messages"]]
    turns[1] = {**turns[1], "weight": 0}
    path.write_bytes(lines([CHATS[2], {"messages": turns}]))
    checked = run("data", "check", str(path))
    assert "t.jsonl:2 messages[1].weight: 0 keeps an answer from being learned" in checked.out
    fixed = run("data", "fix", str(path), "--output", str(tmp_path / "out.jsonl"), "--format", "json").document
    assert (fixed["read"], fixed["rows"], fixed["skipped"]) == (2, 1, 1)
    assert "messages[1].weight" in fixed["changes"][0]["what"]


def test_keys_without_a_value_have_no_finding(run: CommandLine, tmp_path: Path) -> None:
    path = tmp_path / "t.jsonl"
    turns = [{**turn, "name": None, "tool_calls": None, "weight": None} for turn in CHATS[0]["messages"]]
    path.write_bytes(lines([{"messages": turns, "tools": None, "id": None}]))
    assert run("data", "check", str(path), "--format", "json").document["findings"] == []


def test_images_beside_a_file_are_put_into_the_line(run: CommandLine, tmp_path: Path) -> None:
    from tests.datasets.examples import png

    (tmp_path / "pictures").mkdir()
    (tmp_path / "pictures" / "1.png").write_bytes(png())
    record = {
        "messages": [{"role": "user", "content": "<image>Who is it?"}, {"role": "assistant", "content": "A keeper."}],
        "images": ["pictures/1.png"],
    }
    path = tmp_path / "t.jsonl"
    path.write_bytes(lines([record, {**record, "images": ["pictures/2.png"]}]))
    output = tmp_path / "out.jsonl"
    converted = run("data", "convert", str(path), "--output", str(output))
    assert converted.code == 0
    assert "line 2 left out: images[0]: pictures/2.png: no such file" in converted.err
    assert "data:image/png;base64," in output.read_text()
    assert run("data", "check", str(output), "--model", "meta/llama4@llama-4-scout-17b-16e-instruct").code == 0
