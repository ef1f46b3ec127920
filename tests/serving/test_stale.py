"""Stored things that nobody wants: found by who made them and who names them, deleted in the version that was seen."""

from __future__ import annotations

import dataclasses
import gzip
import json
import time
from pathlib import Path

import pytest
from PIL import Image

from runner.datasets.checks import check_files
from runner.datasets.images.uploads import uploaded
from runner.datasets.upload import upload
from runner.emulator import faults
from runner.emulator.server import EmulatorServer
from runner.gcp import endpoints, operations, storage, tuning_jobs, uploads
from runner.gcp.session import Session
from runner.jobs.specification import TuningJobSpec
from runner.jobs.submitting import submission
from runner.serving import stale_images
from runner.serving.stale import clean, find_stale
from tests.cli.invocation import process
from tests.projects import MODEL, Tuned
from tests.serving.test_leases import _variables

DAY = 86400.0


def _dataset(path: Path, answer: str) -> Path:
    lines = [json.dumps({"prompt": f"What is {i}?", "completion": f"{answer} {i}."}) for i in range(12)]
    path.write_text("\n".join(lines) + "\n")
    return path


def _stored(session: Session, bucket: str) -> set[str]:
    return {item.uri for item in storage.list_objects(session, f"gs://{bucket}/")}


def test_uploaded_datasets_that_no_job_of_late_was_trained_on(
    session: Session, emulator: EmulatorServer, tmp_path: Path, state: Path
) -> None:
    bucket = session.environment.datasets_bucket
    base = f"gs://{bucket}/datasets"
    waiting, gone = f"{base}/waiting-0123456789ab.jsonl", f"{base}/gone-0123456789ab.jsonl"
    as_commands_do = upload(session, check_files(_dataset(tmp_path / "sent.jsonl", "It is"))).training.uri
    large = tmp_path / "large.jsonl"
    large.write_text(_dataset(tmp_path / "d.jsonl", "It is").read_text() * (uploads.SMALL_BYTES // 600))
    assert large.stat().st_size > uploads.SMALL_BYTES, "it goes in pieces"
    in_pieces = uploads.upload_file(session, large, f"{base}/large-0123456789ab.jsonl").info.uri
    for uri in (waiting, gone, f"{base}/images/0123456789ab.png", f"gs://{bucket}/elsewhere/x-0123456789ab.jsonl"):
        uploads.upload_file(session, _dataset(tmp_path / "d.jsonl", uri), uri)
    theirs = uploads.upload_bytes(session, b"{}\n", f"{base}/theirs-0123456789ab.jsonl").uri
    fault = emulator.emulator.faults.add(faults.parse("job:capacity-wait=600,match=waits"))
    spec = TuningJobSpec(base_model=MODEL, training_dataset=waiting, epochs=1, display_name="waits")
    job = submission.submit(session, spec)
    later = time.time() + 31 * DAY
    assert find_stale(session) == [], "all of it is new"
    assert {leak.resource for leak in find_stale(session, now=later)} == {gone, as_commands_do, in_pieces}
    assert clean(session, [leak for leak in find_stale(session, now=later) if leak.resource != gone])[1] == []
    [leak] = find_stale(session, now=later)
    assert (leak.kind, leak.resource, leak.resources) == ("stale staging object", gone, (gone,))
    assert leak.usd_per_day is not None
    gib_days = storage.list_objects(session, gone)[0].size / 2**30 / 730 * 24
    assert leak.usd_per_day == pytest.approx(0.020 * gib_days)

    # Written anew since it was looked at: another object, which stays.
    uploads.upload_file(session, _dataset(tmp_path / "d.jsonl", "newer"), gone, replace=True)
    assert clean(session, [leak]) == ([], [])
    [leak] = find_stale(session, now=later)
    # Wanted again since, in another location.
    there = f"{session.environment.outputs_bucket}-there"
    body = {"name": there, "location": "europe-west4"}
    policy = session.http.get(f"/storage/v1/b/{session.environment.outputs_bucket}/iam").json()
    session.http.post(f"/storage/v1/b?project={session.environment.project}", json=body).raise_for_status()
    grants = {"bindings": policy["bindings"]}
    session.http.request("PUT", f"/storage/v1/b/{there}/iam", json=grants).raise_for_status()
    with Session(dataclasses.replace(session.environment, location="europe-west4", outputs_bucket=there)) as elsewhere:
        spec = TuningJobSpec(base_model=MODEL, training_dataset=gone, epochs=1, display_name="waits")
        other = submission.submit(elsewhere, spec)
        assert clean(session, [leak]) == ([], [])
        assert find_stale(session, now=later) == []
        tuning_jobs.cancel(elsewhere, other.name)
    again = submission.submit(session, spec)
    assert clean(session, [leak]) == ([], [])
    middle = time.time()
    for item in (job, again):
        tuning_jobs.cancel(session, item.name)
    emulator.emulator.faults.clear(fault.id)
    deadline = time.monotonic() + 60
    while not all(item.ended for item in tuning_jobs.list_jobs(session)):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    assert find_stale(session, older_than=time.time() - middle) == [], "a job of late was trained on it"
    found = find_stale(session, now=later)
    assert {item.resource for item in found} == {waiting, gone}
    before = _stored(session, bucket)
    assert clean(session, found) == ([item.resource for item in found], [])
    assert _stored(session, bucket) == before - {waiting, gone}
    assert theirs in _stored(session, bucket)


@pytest.mark.parametrize("piece", [1 << 20, 7])
def test_images_that_no_dataset_names(
    session: Session, tmp_path: Path, state: Path, monkeypatch: pytest.MonkeyPatch, piece: int
) -> None:
    monkeypatch.setattr(stale_images, "_CHUNK", piece)
    bucket = session.environment.datasets_bucket
    pictures = {}
    lines = {}
    for number, name in enumerate(("unnamed", "escaped", "zipped", "later")):
        picture = tmp_path / f"{name}.png"
        Image.new("RGB", (8, 8), (number, 0, 0)).save(picture)
        part = {"fileData": {"mimeType": "image/png", "fileUri": picture.name}}
        turns = [
            {"role": "user", "parts": [{"text": "What is it?"}, part]},
            {"role": "model", "parts": [{"text": name}]},
        ]
        dataset = tmp_path / f"{name}.jsonl"
        dataset.write_text(json.dumps({"contents": turns}) + "\n")
        with uploaded(session, [dataset], [dataset], None) as [copy]:
            assert copy is not None
            lines[name] = copy.read_text()
        pictures[name] = json.loads(lines[name])["contents"][0]["parts"][1]["fileData"]["fileUri"]
    theirs = uploads.upload_bytes(session, b"not of this tool", f"gs://{bucket}/datasets/images/{'0' * 32}.png").uri
    store = uploads.upload_bytes
    store(session, lines["escaped"].replace("/", "\\u002f").replace("png", "\\u0070ng").encode(), f"gs://{bucket}/x/e")
    store(session, gzip.compress(lines["zipped"].encode()), f"gs://{bucket}/old.jsonl.gz")
    old = tmp_path / "old.jsonl"
    old.write_text("".join(lines.values()))
    stale_dataset = uploads.upload_file(session, old, f"gs://{bucket}/datasets/old-0123456789ab.jsonl").info.uri
    later = time.time() + 31 * DAY

    assert find_stale(session) == []
    found = find_stale(session, now=later)
    assert {leak.resource for leak in found} == {stale_dataset, pictures["unnamed"], pictures["later"]}
    assert {leak.kind for leak in found if leak.resource != stale_dataset} == {"stale image"}
    notes: list[str] = []
    monkeypatch.setattr(stale_images, "READ_BYTES", 10)
    assert [leak.resource for leak in find_stale(session, now=later, note=notes.append)] == [stale_dataset]
    assert len(notes) == 1
    assert "--read-all-datasets" in notes[0]
    assert find_stale(session, now=later, read_all=True) == found

    # Named since it was looked at.
    store(session, lines["later"].encode(), f"gs://{bucket}/datasets/new.jsonl")
    before = _stored(session, bucket)
    assert clean(session, found) == ([stale_dataset, pictures["unnamed"]], [])
    assert _stored(session, bucket) == before - {stale_dataset, pictures["unnamed"]}
    assert theirs in before


@pytest.mark.training
def test_checkpoints_that_nothing_uses(tuned: Tuned, tuned_session: Session, state: Path) -> None:
    bucket = tuned.environment.outputs_bucket
    folder = tuned.job.final_checkpoint_uri.removesuffix("final")
    later = time.time() + 31 * DAY
    # Jobs of other tests may have run here before: what they left goes first.
    others = [leak for leak in find_stale(tuned_session, now=later) if not leak.resource.startswith(folder)]
    assert clean(tuned_session, others)[1] == []
    assert find_stale(tuned_session) == []
    assert {leak.resource for leak in find_stale(tuned_session, now=later)} == {
        f"{folder}checkpoint-1/",
        f"{folder}checkpoint-2/",
    }
    live = endpoints.upload_model(
        tuned_session, display_name="live", gcs_uri=f"{folder}checkpoint-1", container={}, model_id="live"
    )
    operations.wait(tuned_session, live, timeout=30)
    uploads.upload_bytes(tuned_session, b"keep me", f"{folder}checkpoint-2/notes.txt")
    [leak] = find_stale(tuned_session, now=later)
    assert (leak.kind, leak.resource) == ("stale checkpoint", f"{folder}checkpoint-2/")
    assert f"{folder}checkpoint-2/model.safetensors" in leak.resources
    assert f"{folder}checkpoint-2/notes.txt" not in leak.resources, "it came after the job had ended"

    before = _stored(tuned_session, bucket)
    listed = process(
        *("leaks", "--stale", "0s", "--clean", "--yes", "--format", "json"), timeout=120, **_variables(tuned, state)
    )
    assert listed.code == 0, listed.err
    assert [item["kind"] for item in listed.document["found"]] == ["stale checkpoint"]
    assert set(listed.document["removed"]) == set(leak.resources)
    assert _stored(tuned_session, bucket) == before - set(leak.resources)
    assert f"{folder}final/model.safetensors" in _stored(tuned_session, bucket)
    operations.wait(
        tuned_session,
        endpoints.delete_model(tuned_session, f"{tuned.environment.parent}/models/live"),
        timeout=30,
    )
