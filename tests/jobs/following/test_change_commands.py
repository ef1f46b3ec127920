"""`jobs cancel`, `logs`, `metrics`, `diff`, `clone`, and `reproduce`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.cli.invocation import CommandLine
from tests.faulty import FaultyEmulator
from tests.provisioning import Provisioned
from tests.rest import ended, job_of, until

pytestmark = pytest.mark.usefixtures("quick")


def test_cancel_says_what_is_billed(run: CommandLine, faulty: FaultyEmulator, in_project: Provisioned) -> None:
    job = job_of(faulty, in_project, "stall")
    refused = run("jobs", "cancel", job)
    assert refused.code == 2
    assert "confirm with --yes" in refused.err
    outcome = run("jobs", "cancel", job, "--yes", "--wait", "--format", "json")
    assert outcome.code == 0, outcome.err
    assert outcome.document["state"] == "JOB_STATE_CANCELLED"
    assert outcome.document["billed"] is None
    again = run("jobs", "cancel", job)
    assert again.code == 0
    assert "nothing is billed as far as this tool knows" in again.out
    assert "it had already ended: cancelled" in again.err
    assert run("jobs", "why", job, "-q").out == "cancelled\n"


def test_logs_are_the_events(run: CommandLine, faulty: FaultyEmulator, in_project: Provisioned) -> None:
    job = ended(faulty, in_project, "fail=platform")
    lines = run("jobs", "logs", job).out.splitlines()
    assert lines[0].endswith("state pending")
    assert lines[-1].endswith("state failed Internal error encountered.")
    events = run("jobs", "logs", job, "--format", "json").documents
    assert [event["number"] for event in events] == list(range(1, len(events) + 1))


def test_metrics_of_a_job_without_any(
    run: CommandLine, faulty: FaultyEmulator, in_project: Provisioned, tmp_path: Path
) -> None:
    job = ended(faulty, in_project, "fail=platform")
    assert run("jobs", "metrics", job).code == 4
    there = tmp_path / "losses.csv"
    there.write_text("mine")
    outcome = run("jobs", "metrics", job, "--to", str(there))
    assert outcome.code == 2
    assert "overwrite it with --force" in outcome.err
    assert there.read_text() == "mine"


def test_diff_shows_what_differs(run: CommandLine, faulty: FaultyEmulator, in_project: Provisioned) -> None:
    first, second = ended(faulty, in_project, "fail=data", "one"), ended(faulty, in_project, "fail=platform", "two")
    body = run("jobs", "diff", first, second, "--format", "json").document
    found = {item["name"]: (item["first"], item["second"]) for item in body["values"]}
    assert found["display_name"] == ("one", "two")
    assert "Internal error encountered." in found["error"]
    assert "base_model" not in found
    assert "base_model" in run("jobs", "diff", first, second, "--all").out
    assert "the jobs do not differ" in run("jobs", "diff", first, first).err


def test_compare_ranks_jobs_and_shows_what_they_differ_in(
    run: CommandLine, faulty: FaultyEmulator, in_project: Provisioned
) -> None:
    first, second = ended(faulty, in_project, "fail=data", "one"), ended(faulty, in_project, "fail=platform", "two")
    body = run("jobs", "compare", first, second, first, "--format", "json").document
    assert [(item["rank"], item["id"]) for item in body] == [(1, first), (2, second)]
    assert body[0]["parameters"]["epochs"] == body[1]["parameters"]["epochs"]
    assert run("jobs", "compare", first, second, "-q").out.split() == [first, second]
    assert "name the jobs to compare" in run("jobs", "compare").err
    missing = run("jobs", "compare", "--sweep", "none")
    assert (missing.code, "no job belongs to a sweep 'none'" in missing.err) == (2, True)


def test_clone_changes_prices_and_submits(
    run: CommandLine, faulty: FaultyEmulator, in_project: Provisioned, dataset: Path
) -> None:
    content = dataset.read_bytes()
    job = ended(faulty, in_project, "fail=platform", content=content)
    faulty.arm("job:quota-wait=100000")
    refused = run("jobs", "clone", job, "--set", "epochs=2")
    assert refused.code == 7
    assert "list price about $" in refused.err
    planned = run(
        "jobs", "clone", job, "--set", "epochs=2", "--set", "labels.team=search", "--dry-run", "--format", "json"
    )
    assert planned.code == 0, planned.err
    assert planned.document["job"]["epochs"] == 2
    assert planned.document["job"]["labels"] == {"team": "search"}
    assert "outputUri" not in planned.document["job"]
    made = run("jobs", "clone", job, "--set", "epochs=2", "--yes", "--format", "json")
    assert made.code == 0, made.err
    assert made.document["created"] is True
    assert made.document["epochs"] == 2
    again = run("jobs", "clone", made.document["id"], "--yes", "--format", "json")
    assert again.document["created"] is False
    assert again.document["id"] == made.document["id"]


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        (["epochs"], "--set takes NAME=VALUE, such as epochs=5, not 'epochs'"),
        (["epoch=3"], "'epoch' is not a value of a job"),
        (["epochs=many"], "'many' is no whole number"),
        (["base_model="], "base_model cannot be empty"),
    ],
)
def test_a_mistyped_setting(
    settings: list[str], says: str, run: CommandLine, faulty: FaultyEmulator, in_project: Provisioned
) -> None:
    job = ended(faulty, in_project, "fail=platform")
    outcome = run("jobs", "clone", job, *[word for text in settings for word in ("--set", text)])
    assert outcome.code == 2
    assert says in outcome.err


def test_reproduce_says_what_has_changed_and_runs_it_again(
    run: CommandLine, faulty: FaultyEmulator, in_project: Provisioned, dataset: Path
) -> None:
    faulty.arm("job:fail=platform")
    model = "meta/llama3_1@llama-3.1-8b-instruct"
    made = run("jobs", "submit", "--model", model, "--train", str(dataset), "--yes", "--format", "json")
    assert made.code == 0, made.err
    job = made.document["id"]
    told = run("reproduce", job, "--format", "json")
    assert told.code == 0, told.err
    manifest = told.document["manifest"]
    assert manifest["fingerprint"] == made.document["labels"]["runner-fingerprint"]
    assert manifest["datasets"]["training"]["crc32c"]
    assert manifest["price"]["date"]
    assert manifest["estimate"]["known"] is True
    assert manifest["versions"]["open-model-tuning"]
    assert told.document["reproducible"] is True
    until(faulty, f"{in_project.parent}/tuningJobs/{job}", "JOB_STATE_FAILED")
    again = run("reproduce", job, "--submit", "--yes", "--format", "json")
    assert again.code == 0, again.err
    assert again.document["created"] is True
    assert again.document["id"] != job
    uri = manifest["spec"]["training_dataset"].removeprefix("gs://").split("/", 1)
    upload = f"/upload/storage/v1/b/{uri[0]}/o"
    faulty.http.post(upload, params={"uploadType": "media", "name": uri[1]}, content=b"{}\n").raise_for_status()
    changed = run("reproduce", job, "--submit", "--yes")
    assert changed.code == 2
    assert "cannot be reproduced: training data: CRC32C was" in changed.err


def test_reproduce_without_a_manifest(run: CommandLine, faulty: FaultyEmulator, in_project: Provisioned) -> None:
    job = ended(faulty, in_project, "fail=platform")
    outcome = run("reproduce", job)
    assert outcome.code == 4
    assert f"`runner jobs clone {job}`" in outcome.err


def test_pruning_leaves_jobs_of_others_alone(run: CommandLine, faulty: FaultyEmulator, in_project: Provisioned) -> None:
    job = ended(faulty, in_project, "fail=platform")
    outcome = run("checkpoints", "prune", job, "--delete", "--yes")
    assert outcome.code == 2
    assert "was not submitted by this tool" in outcome.err


def test_a_job_is_cloned_to_another_location(run: CommandLine, faulty: FaultyEmulator, in_project: Provisioned) -> None:
    job = ended(faulty, in_project, "fail=data")
    shown = run("jobs", "clone", job, "--to", "europe-west4", "--dry-run", "--json")
    targets = [json.loads(line)["target"]["location"] for line in shown.err.splitlines() if '"target"' in line]
    assert targets == [in_project.location, "europe-west4"], "the original is looked for where it is"
    assert {item["code"] for item in shown.document["obstacles"]} == {"bucket_region"}
    elsewhere = run("jobs", "clone", job, "--location", "europe-west4", "--dry-run", "--json")
    assert elsewhere.error["code"] == "not_found"
