"""State files of this machine with a changed byte: noticed, whichever byte it is, and never taken for nothing."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from runner import local_files
from runner.errors import ConfigurationError
from runner.jobs.submitting.ledger import Ledger, Trail
from runner.serving import journal
from runner.serving.journal import DeploymentRecord


def changed(content: bytes) -> list[bytes]:
    """Return content with each of its bytes changed in turn, in two ways."""
    return [
        content[:place] + bytes([content[place] ^ bit]) + content[place + 1 :]
        for place in range(len(content))
        for bit in (1, 32)
    ]


def test_a_damaged_ledger_stops_a_submission(state_directory: Path) -> None:
    with Ledger.open("f") as ledger:
        ledger.intend("f1", "p", "other")
        ledger.record("f1", "p", "created", "job")
        ledger.intend("f2", "p", owner="me")
    path = state_directory / "submissions.jsonl"
    for content in changed(path.read_bytes()):
        path.write_bytes(content)
        with Ledger.open("f") as ledger:
            try:
                found = ledger.trail("f2", "p"), ledger.trail("f1", "p")
            except ConfigurationError as error:
                assert "submissions.jsonl:" in error.message  # noqa: PT017 - either way is right
                continue
        assert found == (Trail(sent=frozenset({"me"}), open=True), Trail()), content


def test_a_journal_is_read_as_it_was_written(state_directory: Path) -> None:
    record = DeploymentRecord(
        id="d",
        parent="p",
        endpoint="e",
        own_endpoint=False,
        model="m",
        deployed_model="1",
        traffic_before={"2": 100},
        percent=10,
        replaces=["2"],
        replaced_models=["n"],
        labels={"a": "b"},
        time=1764450000.5,
    )
    entry = journal.begin(record)
    entry.mark("accepted", "operations/1")
    entry.release()
    assert journal.damaged() == []
    with journal.abandoned("p") as entries:
        assert [entry.record for entry in entries] == [record]


@pytest.mark.parametrize(
    "wrong",
    [
        {"percent": "1"},
        {"time": "today"},
        {"own_endpoint": 1},
        {"labels": {"a": 1}},
        {"replaces": "2"},
        {"traffic_before": {"2": "100"}},
        {"phase": "elsewhere"},
        {"more": ""},
        {"model": None},
    ],
    ids=lambda wrong: next(iter(wrong)),
)
def test_a_journal_of_other_kinds_is_damaged(state_directory: Path, wrong: dict[str, object]) -> None:
    sound = {"id": "d", "parent": "p", "endpoint": "e", "own_endpoint": True, "model": "m"}
    path = state_directory / "deployments" / "d.jsonl"
    path.parent.mkdir(parents=True)
    for fields, damaged in ((sound, []), ({**sound, **wrong}, [path])):
        path.write_bytes(local_files.record_line(fields))
        assert [found for found, _ in journal.damaged()] == damaged


def test_a_damaged_journal_is_kept_and_named(state_directory: Path, caplog: pytest.LogCaptureFixture) -> None:
    record = DeploymentRecord(id="d", parent="p", endpoint="e", own_endpoint=True, model="m", labels={"a": "b"})
    entry = journal.begin(record)
    entry.mark("sent")
    entry.mark("accepted", "operations/1")
    entry.release()
    path = state_directory / "deployments" / "d.jsonl"
    for content in changed(path.read_bytes()):
        path.write_bytes(content)
        caplog.clear()
        with caplog.at_level(logging.WARNING), journal.abandoned("p") as entries:
            found = [entry.record for entry in entries]
        assert path.read_bytes() == content
        if found:
            assert found == [record], content
        else:
            assert "d.jsonl:" in caplog.text, content


def test_state_of_earlier_versions_has_no_checksums() -> None:
    content = b'{"kind":"intent"}\n{"kind":"cre\n{"kind":"created"}\n'
    assert local_files.read_records(Path("x"), content) == [{"kind": "intent"}, {"kind": "created"}]
