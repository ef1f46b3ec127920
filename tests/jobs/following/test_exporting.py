"""Measurements in trackers, written by their own packages and read back by them."""

from __future__ import annotations

import importlib
import importlib.util
import json
import struct
import sys
from pathlib import Path
from typing import Any

import google_crc32c
import pytest

from runner.errors import ConfigurationError, EngineMissingError
from runner.gcp.tuning_jobs import TuningJob, from_document
from runner.installation import install_hint
from runner.jobs.following.exporting import Target, export_to
from runner.jobs.following.results import Measurement, Results
from tests.cli.invocation import CommandLine
from tests.faulty import FaultyEmulator
from tests.provisioning import Provisioned
from tests.rest import created

LOSSES = [2.5, 2.0, 1.5]


def needs(package: str) -> pytest.MarkDecorator:
    return pytest.mark.skipif(importlib.util.find_spec(package) is None, reason=f"{package} is not installed")


def job_of(state: str = "JOB_STATE_SUCCEEDED") -> TuningJob:
    return from_document(
        {
            "name": "projects/1/locations/us-central1/tuningJobs/77",
            "state": state,
            "tunedModelDisplayName": "tone",
            "baseModel": "meta/llama3_1@llama-3.1-8b",
            "supervisedTuningSpec": {"tuningMode": "TUNING_MODE_FULL", "hyperParameters": {"epochCount": "3"}},
            "labels": {"team": "search", "runner-fingerprint": "x"},
            "createTime": "2026-01-02T03:04:05Z",
            "startTime": "2026-01-02T03:04:06Z",
            "endTime": "2026-01-02T04:00:00Z",
        }
    )


def results() -> Results:
    steps = [
        Measurement(kind="step", step=n, epoch=n / 3, loss=loss, learning_rate=1e-5, time=f"2026-01-02T03:05:0{n}Z")
        for n, loss in enumerate(LOSSES, 1)
    ]
    check = Measurement(kind="evaluation", step=3, epoch=1.0, loss=1.75, time="2026-01-02T03:05:04Z")
    return Results(measurements=[*steps, check], source="events")


def exported(target: Target, place: Path, **options: Any) -> Any:
    return export_to(target, job_of(), results(), place=str(place), experiment="tone", **options)


def records(path: Path) -> list[bytes]:
    """Return the records of a TFRecord file, both of whose checksums are right."""

    def masked(content: bytes) -> int:
        checksum = int(google_crc32c.value(content))
        return (((checksum >> 15) | (checksum << 17)) + 0xA282EAD8) & 0xFFFFFFFF

    found, content = [], path.read_bytes()
    while content:
        (length,) = struct.unpack("<Q", content[:8])
        body = content[12 : 12 + length]
        assert struct.unpack("<I", content[8:12])[0] == masked(content[:8])
        assert struct.unpack("<I", content[12 + length : 16 + length])[0] == masked(body)
        found.append(body)
        content = content[16 + length :]
    return found


@needs("tensorboardX")
def test_tensorboard(tmp_path: Path) -> None:
    event_of = importlib.import_module("tensorboardX.proto.event_pb2").Event.FromString

    done = exported("tensorboard", tmp_path)
    assert (done.place, done.run, done.measurements) == (str(tmp_path / "77"), "77", 4)
    (path,) = (tmp_path / "77").glob("events.out.tfevents.*")
    events = [event_of(record) for record in records(path)]
    assert events[0].file_version == "brain.Event:2"
    values = [
        (value.tag, event.step, value.simple_value, event.wall_time)
        for event in events
        for value in event.summary.value
    ]
    start = 1767323100.0  # 2026-01-02T03:05:00Z
    assert [item for item in values if item[0] == "loss/train"] == [
        ("loss/train", step, loss, start + step) for step, loss in enumerate(LOSSES, 1)
    ]
    assert ("loss/validation", 3, 1.75, start + 4) in values
    with pytest.raises(ConfigurationError, match="has event files"):
        exported("tensorboard", tmp_path)
    exported("tensorboard", tmp_path, force=True)
    assert len(list((tmp_path / "77").glob("events.out.tfevents.*"))) == 1


@needs("mlflow")
def test_mlflow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    mlflow = importlib.import_module("mlflow")
    done = exported("mlflow", tmp_path / "runs")
    client = mlflow.MlflowClient(done.place)
    run = client.get_run(done.run)
    assert (run.info.status, run.info.run_name) == ("FINISHED", "tone")
    assert (run.info.start_time, run.info.end_time) == (1767323046000, 1767326400000)
    assert run.data.params["base_model"] == "meta/llama3_1@llama-3.1-8b"
    assert run.data.tags["team"] == "search"
    history = client.get_metric_history(done.run, "loss/train")
    assert [(item.step, item.value, item.timestamp) for item in history] == [
        (step, loss, 1767323100000 + step * 1000) for step, loss in enumerate(LOSSES, 1)
    ]
    assert run.data.metrics["loss/validation"] == 1.75
    with pytest.raises(ConfigurationError, match="has a run of job 77"):
        exported("mlflow", tmp_path / "runs")
    again = exported("mlflow", tmp_path / "runs", force=True)
    assert again.run != done.run
    assert client.get_run(done.run).info.lifecycle_stage == "deleted"


def log_records(path: Path) -> list[bytes]:
    """Return the records of a file of W&B: LevelDB's log format after seven bytes of its own."""
    content, found, part, place = path.read_bytes(), [], b"", 7
    assert content[:4] == b":W&B"
    while place + 7 <= len(content):
        if 32768 - place % 32768 < 7:
            place += 32768 - place % 32768
            continue
        length, kind = struct.unpack("<HB", content[place + 4 : place + 7])
        part += content[place + 7 : place + 7 + length]
        if kind in (1, 4):  # whole, or the last of several
            found.append(part)
            part = b""
        place += 7 + length
    return found


@needs("wandb")
def test_wandb(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_MODE", "offline")
    protocol = importlib.import_module("wandb.proto.wandb_internal_pb2")

    done = exported("wandb", tmp_path)
    importlib.import_module("wandb").teardown()  # its process writes the rest, as when this one ends
    assert done.run == "77"
    (path,) = Path(done.place).glob("run-77.wandb")
    history, config = [], {}
    for content in log_records(path):
        record = protocol.Record.FromString(content)
        if record.WhichOneof("record_type") == "history":
            items = {item.key or "/".join(item.nested_key): json.loads(item.value_json) for item in record.history.item}
            history.append((items["_step"], items.get("loss/train"), items.get("loss/validation")))
        elif record.WhichOneof("record_type") == "run":
            config.update({item.key: json.loads(item.value_json) for item in record.run.config.update})
    assert history == [(1, 2.5, None), (2, 2.0, None), (3, 1.5, 1.75)]
    assert config["mode"] == "FULL"
    with pytest.raises(ConfigurationError, match="is a run of job 77"):
        exported("wandb", tmp_path)


@pytest.mark.parametrize(
    ("target", "package"), [("tensorboard", "tensorboardX"), ("mlflow", "mlflow"), ("wandb", "wandb")]
)
def test_a_tracker_that_is_not_installed(
    target: Target, package: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(EngineMissingError) as caught:
        exported(target, tmp_path)
    assert caught.value.hint == install_hint(target)


def test_a_job_that_has_measured_nothing(run: CommandLine, faulty: FaultyEmulator, in_project: Provisioned) -> None:
    job = str(created(faulty, in_project, fate="stall")["name"]).rsplit("/", 1)[-1]
    outcome = run("jobs", "export", job, "--to", "tensorboard", "--format", "json")
    assert (outcome.code, outcome.error["code"]) == (4, "not_found")
    assert f"`runner jobs watch {job}`" in outcome.error["hint"]
