"""Jobs of manifests leave a run manifest beside their results, as submitted ones do."""

from __future__ import annotations

from runner.gcp import tuning_jobs, uploads
from runner.gcp.session import Session
from runner.jobs.repeating import reproduction
from tests.cli.invocation import CommandLine
from tests.gcp.flaky import Fault, FlakyProxy
from tests.jobs.manifests import applying_process
from tests.jobs.manifests.folder import Manifests, jobs_of


def test_reproduce_reads_jobs_of_apply_and_of_the_queue(
    idle: CommandLine, manifests: Manifests, untrained: Session
) -> None:
    folder = manifests.folder
    (folder / "check.jsonl").write_text('{"prompt": "What is 90?", "completion": "It is 90."}\n')
    remote = uploads.upload_file(
        untrained, folder / "check.jsonl", f"gs://{untrained.environment.datasets_bucket}/check.jsonl"
    ).info
    manifests.add("now", labels="{team: search}", spec="maxCost: 5")
    manifests.add("later", data=f"{{train: train.jsonl, validation: '{remote.uri}'}}", spec="maxCost: 5\npriority: -1")
    assert idle("apply", "-f", str(folder), "--quota", "1").code == 0
    assert idle("queue", "run", "--once", "--quota", "2").code == 0
    now, later = jobs_of(untrained)

    for job, name in ((now, "now"), (later, "later")):
        told = idle("reproduce", job.id, "--format", "json")
        assert told.code == 0, told.err
        assert told.document["reproducible"] is True
        written = told.document["manifest"]
        assert written["fingerprint"] == job.labels["runner-fingerprint"]
        assert written["manifest"]["name"] == name
        assert written["manifest"]["identity"] == job.labels["runner-identity"]
        assert written["manifest"]["file"].endswith(f"{name}.yaml")
        assert written["datasets"]["training"]["crc32c"]
        assert written["statistics"]["train"]["rows"] == 12
        assert written["estimate"]["expected"] > 0
        assert written["git"] is None, "the manifests are in no repository"
        assert written["spec"]["output_uri"] == job.output_uri
    assert later.validation_dataset_uri == remote.uri
    manifest = reproduction.read_manifest(untrained, later)
    assert manifest["datasets"]["validation"] == {
        "uri": remote.uri,
        "generation": remote.generation,
        "crc32c": remote.crc32c,
    }

    again = idle("reproduce", now.id, "--submit", "--yes", "--format", "json")
    assert again.code == 0, again.err
    assert again.document["created"] is True
    assert again.document["labels"]["team"] == "search"
    assert "runner-manifest" not in again.document["labels"]
    assert again.document["outputUri"] != now.output_uri


def test_a_folder_that_cannot_be_claimed_creates_no_job(
    untrained: Session, manifests: Manifests, untrained_through_proxy: Session, proxy: FlakyProxy
) -> None:
    manifests.add("tone")
    proxy.faults.append(Fault("POST", rf"/b/{untrained.environment.outputs_bucket}/o", 403, times=9))
    steps = applying_process.apply(untrained_through_proxy, manifests.folder)
    assert [step.what for step in steps] == ["refused"]
    assert "cannot be claimed" in steps[0].message
    assert tuning_jobs.list_jobs(untrained) == []
