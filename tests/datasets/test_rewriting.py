"""Fix, split, convert, sample, export: what is written passes the check, and nothing is ever overwritten."""

from __future__ import annotations

import gzip
import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from runner.datasets.checking.compiled import reshaper
from runner.datasets.checks import check_files
from runner.datasets.records.writing import to_line
from runner.datasets.reports import exports
from runner.datasets.reports.histograms import histogram, offers
from runner.datasets.reports.html import render
from runner.datasets.rewriting.converting import Columns, convert_file
from runner.datasets.rewriting.fixing import fix_file
from runner.datasets.rewriting.splitting import split_file
from runner.datasets.rules.parsing import parse_line, read_file
from runner.datasets.tokens.counters import RatioCounter
from runner.datasets.tokens.sampling import sample_tokens
from runner.errors import ConfigurationError, DatasetError
from tests.datasets.examples import ASSISTANT, BROKEN, BROKEN_TEXT, GOOD, SYSTEM, USER, WARNED, chat
from tests.datasets.test_fast_path import all_lines, needs_compiled


def write(path: Path, rows: list[Any]) -> Path:
    path.write_text("".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows))
    return path


MENDED: dict[str, tuple[str, Any, str]] = {
    "roles": (
        '{"messages": [{"role": "human", "content": "a"}, {"role": "GPT", "content": "b"}]}',
        chat({"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}),
        "role 'GPT' became 'assistant'",
    ),
    "key": ('{"promt": "a", "completion": "b"}', {"prompt": "a", "completion": "b"}, "key 'promt' renamed 'prompt'"),
    "extra key": (
        '{"prompt": "a", "completion": "b", "id": 3}',
        {"prompt": "a", "completion": "b"},
        "not carried over: id",
    ),
    "control": (r'{"prompt": "a\u0007", "completion": "b"}', {"prompt": "a", "completion": "b"}, "control characters"),
    "surrogate": (
        r'{"prompt": "a\ud800", "completion": "b"}',
        {"prompt": "a", "completion": "b"},
        "control characters",
    ),
    "tail": (
        json.dumps(chat(USER, ASSISTANT, USER)),
        chat(USER, ASSISTANT),
        "turns after the last answer removed",
    ),
}


@pytest.mark.parametrize("name", MENDED)
def test_fix_mends(name: str, tmp_path: Path) -> None:
    line, expected, what = MENDED[name]
    repair = fix_file(write(tmp_path / "t.jsonl", [line]), tmp_path / "out.jsonl")
    assert [json.loads(row) for row in (tmp_path / "out.jsonl").read_text().splitlines()] == [expected]
    assert what in repair.changes[0].what
    assert repair.changes[0].action == "changed"


def test_fixed_files_have_no_errors_and_good_lines_are_not_touched(tmp_path: Path) -> None:
    rows = [*GOOD.values(), *(body for body, _, _ in BROKEN.values()), *(body for body, _ in WARNED.values())]
    rows += [text for text, _ in BROKEN_TEXT.values()]
    path = write(tmp_path / "t.jsonl", rows)
    before = path.read_bytes()
    repair = fix_file(path, tmp_path / "out.jsonl")
    assert path.read_bytes() == before
    report = check_files(tmp_path / "out.jsonl")
    assert report.errors == []
    assert "duplicate-example" not in report.training.counts
    good = [json.dumps(body) for body in GOOD.values()]
    written = (tmp_path / "out.jsonl").read_bytes().splitlines()
    assert written[0].decode() == good[0]
    assert repair.rows == len(written) == report.training.examples
    assert repair.read == repair.rows + repair.dropped
    assert repair.rows == repair.unchanged + repair.counts["changed"] + repair.counts["split"]
    with pytest.raises(ConfigurationError, match="already"):
        fix_file(path, tmp_path / "out.jsonl")


def test_two_objects_on_a_line_become_two_lines(tmp_path: Path) -> None:
    path = write(tmp_path / "t.jsonl", ['{"prompt": "a", "completion": "b"} {"prompt": "c", "completion": "d"}'])
    repair = fix_file(path, tmp_path / "out.jsonl")
    assert repair.rows == 2
    assert repair.counts == {"split": 2}


def test_split_leaks_nothing_and_the_service_takes_it(tmp_path: Path) -> None:
    draw = random.Random(1)
    rows = [
        {"prompt": f"question {draw.randrange(150)}", "completion": f"answer {draw.randrange(3)}"} for _ in range(600)
    ]
    path = write(tmp_path / "all.jsonl", rows)
    made = split_file(path, tmp_path / "train.jsonl", tmp_path / "validation.jsonl", share=0.2, seed=4)
    assert made.training.rows + made.validation.rows == 600
    assert made.validation.size <= 0.2 * path.stat().st_size
    assert made.chosen.wanted == 120
    assert 116 <= made.validation.rows <= 120
    prompts = [
        {json.loads(line)["prompt"] for line in file.read_text().splitlines()}
        for file in (made.training.path, made.validation.path)
    ]
    assert not prompts[0] & prompts[1]
    report = check_files(made.training.path, made.validation.path)
    assert report.errors == []
    assert "leakage" not in report.validation.counts  # type: ignore[union-attr]
    again = split_file(path, tmp_path / "t2.jsonl", tmp_path / "v2.jsonl", share=0.2, seed=4)
    assert again.training.path.read_bytes() == made.training.path.read_bytes()
    other = split_file(path, tmp_path / "t3.jsonl", tmp_path / "v3.jsonl", share=0.2, seed=5)
    assert other.validation.path.read_bytes() != made.validation.path.read_bytes()


def test_what_cannot_be_split_is_refused(tmp_path: Path) -> None:
    good = write(tmp_path / "a.jsonl", [{"prompt": "a", "completion": "b"}])
    with pytest.raises(ConfigurationError, match="share"):
        split_file(good, tmp_path / "t", tmp_path / "v", share=0.5)
    with pytest.raises(ConfigurationError, match="two different prompts"):
        split_file(good, tmp_path / "t", tmp_path / "v")
    with pytest.raises(ConfigurationError, match="already"):
        split_file(good, good, tmp_path / "v")
    with pytest.raises(DatasetError):
        split_file(write(tmp_path / "b.jsonl", ["{"]), tmp_path / "t", tmp_path / "v")
    assert not (tmp_path / "t").exists()


@pytest.mark.parametrize("form", ["chat", "generate_content"])
def test_formats_convert_into_each_other(form: Any, tmp_path: Path) -> None:
    path = write(tmp_path / "t.jsonl", list(GOOD.values()))
    made = convert_file(path, tmp_path / "out.jsonl", form)
    left_out = [change.what for change in made.problems]
    assert (made.rows, made.dropped) == (len(GOOD) - len(left_out), len(left_out))
    assert all("type of an image" in why for why in left_out)
    kept = [line for row, line in enumerate(read_file(path), 1) if row not in {change.line for change in made.problems}]
    for before, after in zip(kept, read_file(made.output), strict=True):
        assert before.example is not None
        assert after.example is not None
        assert after.findings == ()
        assert after.example.format == form
        texts = [[message.role, message.text] for message in before.example.messages]
        assert texts == [[message.role, message.text] for message in after.example.messages]
        assert [image.uri for image in before.example.images] == [image.uri for image in after.example.images]


def test_what_a_format_cannot_say_is_named(tmp_path: Path) -> None:
    path = write(tmp_path / "t.jsonl", [chat(USER, ASSISTANT), chat(SYSTEM, USER, ASSISTANT), "{"])
    made = convert_file(path, tmp_path / "out.jsonl", "prompt_completion")
    assert made.rows == 1
    assert [change.line for change in made.problems] == [2, 3]


TABLES: dict[str, tuple[str, str]] = {
    "faq.csv": ("csv", 'question,answer\n"What, a car?","A vehicle.\nWith wheels."\nTwo?,Yes\n'),
    "faq.tsv": ("tsv", "prompt\tcompletion\nWhat?\tThat.\nTwo?\tYes\n"),
    "alpaca.json": (
        "json",
        '[{"instruction": "Sum", "input": "1 2", "output": "3"}, {"instruction": "Go", "input": "", "output": "ok"}]',
    ),
    "sharegpt.json": (
        "json",
        '[{"conversations": [{"from": "human", "value": "a"}, {"from": "gpt", "value": "b"}]},'
        ' {"system": "s", "conversations": [{"from": "human", "value": "c"}, {"from": "gpt", "value": "d"}]}]',
    ),
    "alpaca.jsonl": ("jsonl", '{"instruction": "Sum", "output": "3"}\n{"question": "x", "answer": "y"}\n'),
}


@pytest.mark.parametrize("name", TABLES)
def test_tables_and_records(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(TABLES[name][1])
    made = convert_file(tmp_path / name, tmp_path / "out.jsonl", "chat")
    assert (made.read, made.rows, made.dropped, made.lost) == (2, 2, 0, {})
    report = check_files(made.output)
    assert report.errors == []
    assert report.training.format == "chat"


def test_columns_by_name_and_the_commonest_mistake(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("body,reply,note\na,b,c\n")
    with pytest.raises(DatasetError, match=r"nothing is written: .* no prompt and no answer in it"):
        convert_file(path, tmp_path / "out.jsonl", "chat")
    assert not (tmp_path / "out.jsonl").exists()
    with pytest.raises(ConfigurationError, match="no column 'bdy'"):
        convert_file(path, tmp_path / "out.jsonl", "chat", columns=Columns(prompt="bdy"))
    made = convert_file(
        path, tmp_path / "out.jsonl", "chat", columns=Columns(prompt="body", answer="reply", system="note")
    )
    assert json.loads(made.output.read_text())["messages"][0] == {"role": "system", "content": "c"}


def test_a_sample_is_near_the_truth(tmp_path: Path) -> None:
    draw = random.Random(2)
    rows = [{"prompt": "a" * int(draw.lognormvariate(5, 1)) + "x", "completion": "b"} for _ in range(3000)]
    path = write(tmp_path / "t.jsonl", rows)
    truth = check_files(path).training.tokens.total
    inside = 0
    for seed in range(40):
        sample = sample_tokens(path, RatioCounter(0.25), draws=300, seed=seed)
        inside += abs(sample.tokens - truth) <= sample.margin
        assert abs(sample.tokens - truth) < 0.1 * truth
    assert inside >= 33  # 95 % of 40 is 38; fewer than 33 has a chance of one in a thousand


def broken(tmp_path: Path) -> Path:
    return write(
        tmp_path / "t.jsonl",
        [{"prompt": "a<script>", "completion": ""}, "\x1b[31m{", {"prompt": "a", "completion": "x@example.com"}],
    )


def test_exports_hold_every_finding(tmp_path: Path) -> None:
    report = check_files(broken(tmp_path))
    codes = {finding.code for finding in report.findings}
    assert len(codes) == 3
    suite = ElementTree.fromstring(exports.junit(report))  # noqa: S314
    assert {case.attrib["name"] for case in suite.iter("testcase")} == codes
    assert len(list(suite.iter("failure"))) == 2
    log = exports.sarif(report, "1")
    assert {result["ruleId"] for result in log["runs"][0]["results"]} == codes
    lines = [result["locations"][0]["physicalLocation"]["region"]["startLine"] for result in log["runs"][0]["results"]]
    assert lines == [1, 2, 3]
    commands = exports.github(report)
    assert commands[0].startswith(f"::error file={tmp_path / 't.jsonl'},line=1,title=empty-text::")
    assert commands[2].startswith("::warning ")


def test_the_page_loads_nothing_and_escapes(tmp_path: Path) -> None:
    path = tmp_path / "<b>.jsonl"
    path.write_bytes(broken(tmp_path).read_bytes())
    page = render(check_files(path))
    assert "<b>.jsonl" not in page
    assert "&lt;b&gt;.jsonl" in page
    assert "<script" not in page
    assert "http://" not in page.replace("http://www.w3.org", "")
    assert "default-src 'none'" in page
    assert "\x1b" not in page


def test_statistics(tmp_path: Path) -> None:
    report = check_files(
        write(tmp_path / "t.jsonl", [{"prompt": "a" * 400 * n, "completion": "b"} for n in range(1, 9)])
    )
    bars = histogram(report, report.training)
    assert sum(bar.count for bar in bars) == 8
    assert bars[-1].above < report.training.tokens.to_json()["max"] <= bars[-1].up_to
    found = {(offer.model, offer.mode): offer for offer in offers(report, epochs=2)}
    offer = found["meta/llama3_1@llama-3.1-8b", "FULL"]
    assert offer.kept == 8
    assert offer.usd == pytest.approx(offer.tokens * 2 * 0.67 / 1e6)


def test_compressed_files_and_bombs(tmp_path: Path) -> None:
    rows = [{"prompt": f"q{index}", "completion": "b"} for index in range(500)]
    plain = check_files(write(tmp_path / "t.jsonl", rows)).training
    path = tmp_path / "t.jsonl.gz"
    path.write_bytes(gzip.compress((tmp_path / "t.jsonl").read_bytes()))
    report = check_files(path)
    assert [finding.code for finding in report.findings] == ["file-extension"]
    assert report.training.tokens == plain.tokens
    path.write_bytes(path.read_bytes()[:200])
    assert [finding.code for finding in check_files(path).errors] == ["not-text"]
    path.write_bytes(gzip.compress(b" " * 90_000_000, 9))
    assert [finding.code for finding in check_files(path).errors] == ["compressed-bomb"]
    zst = pytest.importorskip("zstandard")
    other = tmp_path / "t.jsonl.zst"
    other.write_bytes(zst.compress((tmp_path / "t.jsonl").read_bytes()))
    assert check_files(other).training.tokens == plain.tokens


def test_near_duplicates(tmp_path: Path) -> None:
    rows = [
        {"prompt": "What is a car?", "completion": "A vehicle."},
        {"prompt": "what is  a car", "completion": "a vehicle!"},
    ]
    path = write(tmp_path / "t.jsonl", rows)
    assert check_files(path).findings == []
    assert [(f.code, f.line) for f in check_files(path, near_duplicates=True).findings] == [("near-duplicate", 2)]


def _messages(line: bytes) -> Any:
    """Return what a line says, however it is written; None for what is no example."""
    parsed = parse_line(line.decode("utf-8", "strict"), 2)
    return parsed.example.messages if parsed.example is not None else None


def _compiled(form: Any) -> Callable[[bytes], bytes | None]:
    written = reshaper(form)

    def reshape(line: bytes) -> bytes | None:
        made, count, rows, others = written(line)
        assert count == (line.count(b"\n") + (not line.endswith(b"\n")) if line else 0)
        if not rows:
            assert made == b""
            return None
        assert made.count(b"\n") == rows <= count - len(others)
        return made if rows == count == 1 else None

    return reshape


@needs_compiled
@pytest.mark.parametrize("form", ["prompt_completion", "chat", "generate_content"])
def test_lines_are_reshaped_only_if_that_is_right(form: Any) -> None:
    """What the exact parser would refuse is never reshaped, and what is reshaped says the same."""
    reshape = _compiled(form)
    draw = random.Random(form)
    lines = all_lines()
    pieces = [
        b'"',
        b"\\",
        b'"role":"user",',
        b"\\ud800",
        b"\\u0020",
        b"\xff",
        b"\x00",
        b",",
        b"}",
        b" ",
        b'"a":1,',
        b"\n",
    ]
    reshaped = 0
    for number in range(6000):
        line = bytearray(draw.choice(lines))
        for _ in range(draw.choice((0, 0, 1, 2)) if number > 2 * len(lines) else 0):
            position = draw.randrange(len(line) + 1)
            if draw.random() < 0.5:
                line[position:position] = draw.choice(pieces)
            else:
                del line[position : position + draw.randint(1, 12)]
        written = reshape(bytes(line))
        if written is None:
            continue
        reshaped += 1
        assert written.endswith(b"}\n")
        example = parse_line(bytes(line).decode(), 2).example
        assert example is not None, bytes(line)
        again = _messages(written)
        expected = _messages(to_line(example, form))
        assert again == expected, bytes(line)
    assert reshaped > 300


@needs_compiled
@pytest.mark.parametrize("form", ["chat", "generate_content"])
def test_good_lines_are_reshaped(form: Any) -> None:
    """Otherwise the test above would prove little."""
    for name, body in GOOD.items():
        for line in (json.dumps(body), json.dumps(body, separators=(",", ":"))):
            # What the other format has no place for, the exact parser reports.
            left = any(word in name for word in ("object", "file", "before"))
            assert _compiled(form)(line.encode()) is not None or left, name


@needs_compiled
@pytest.mark.parametrize("form", ["prompt_completion", "chat", "generate_content"])
def test_a_file_is_converted_the_same_by_either_writer(form: Any, tmp_path: Path) -> None:
    lines = all_lines()
    random.Random(3).shuffle(lines)
    source = tmp_path / "t.jsonl"
    source.write_bytes(b"\n".join(lines))
    made = [convert_file(source, tmp_path / f"{compiled}.jsonl", form, compiled=compiled) for compiled in (True, False)]
    assert made[0].problems == made[1].problems
    assert (made[0].read, made[0].rows, made[0].lost) == (made[1].read, made[1].rows, made[1].lost)
    left, right = (conversion.output.read_bytes().splitlines() for conversion in made)
    assert [json.loads(line) for line in left] == [json.loads(line) for line in right]


def test_parquet_as_other_tools_write_it(tmp_path: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow", reason="needs pyarrow")
    from pyarrow import parquet

    conversations = [[USER, ASSISTANT], [SYSTEM, USER, ASSISTANT]]
    parts = [{"role": "user", "content": [{"type": "text", "text": "Hi", "image_url": None}]}, dict(ASSISTANT)]
    tables: dict[str, Any] = {
        "chats": {"messages": conversations},
        "records": {"instruction": ["Sum", "Go"], "input": ["1 2", ""], "output": ["3", "ok"]},
        "parts": {"messages": [[parts[0], {"role": "assistant", "content": [{"type": "text", "text": "a"}]}]]},
    }
    for name, columns in tables.items():
        path = tmp_path / f"{name}.parquet"
        parquet.write_table(pyarrow.table(columns), path)
        made = convert_file(path, tmp_path / f"{name}.jsonl", "chat")
        assert (made.rows, made.dropped) == (len(next(iter(columns.values()))), 0), made.problems
        assert check_files(made.output).errors == []
    (tmp_path / "broken.parquet").write_bytes(b"PAR1 and nothing")
    with pytest.raises((ConfigurationError, DatasetError), match="valid Parquet"):
        convert_file(tmp_path / "broken.parquet", tmp_path / "out.jsonl", "chat")
