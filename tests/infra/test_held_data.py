"""A change that would take away a bucket with data is refused before anything is made, with the two ways on."""

from __future__ import annotations

import json
from typing import Any

import pytest

from infra import held_data
from infra.evaluation import evaluate
from infra.recorded import parse
from infra.settings.stack import Settings
from runner.errors import ConfigurationError
from tests.infra.embedded_stack import Stack
from tests.infra.engine_order import state

OWN = "open-model-tuning:"
BASE = {"gcp:project": "demo-project", "gcp:region": "us-central1"}


def left(**own: Any) -> dict[str, Any]:
    """Return the state that an update with these settings leaves."""
    evaluation = evaluate({**BASE, **given(own)})
    return state(evaluation.resources, evaluation.outputs)


def given(own: dict[str, Any]) -> dict[str, str]:
    return {f"{OWN}{key}": value if isinstance(value, str) else json.dumps(value) for key, value in own.items()}


def change(before: dict[str, Any], objects: dict[str, list[str]] | None = None, **own: Any) -> None:
    settings = Settings.load({**BASE, **given(own)})
    held_data.refuse_losses(settings, parse(before), lambda bucket: (objects or {}).get(bucket, []))


OLD = {"datasets": {"mode": "import", "name": "old-datasets"}}


def test_an_imported_bucket_outlives_its_entry() -> None:
    before = left(buckets=OLD, forceDestroy=True)
    with pytest.raises(ConfigurationError, match="gs://old-datasets, which was imported") as caught:
        change(before, forceDestroy=True)
    hint = str(caught.value.hint)
    assert "pulumi config set --path 'open-model-tuning:buckets.datasets.name' old-datasets" in hint
    assert "pulumi state delete 'urn:pulumi:" in hint
    with pytest.raises(ConfigurationError, match="which was imported"):
        change(before, buckets={"datasets": {"mode": "attach", "name": "old-datasets"}})
    # Without the mode it stays, and stays protected, also from forceDestroy.
    change(before, buckets={"datasets": {"name": "old-datasets"}}, forceDestroy=True)
    named = {**BASE, **given({"buckets": {"datasets": {"name": "old-datasets"}}, "forceDestroy": True})}
    evaluation = evaluate(named, state=before)
    (bucket,) = [item for item in evaluation.of_type("bucket:Bucket") if item.name == "datasets"]
    assert (bucket.protect, bucket.inputs["forceDestroy"], bucket.import_id) == (True, False, "")
    assert evaluation.outputs["managedBuckets"]["old-datasets"]["imported"] is True


def test_a_state_of_an_older_program_has_no_notes() -> None:
    before = left(buckets=OLD)
    for entry in before.values():
        entry["outputs"].pop("managedBuckets", None)
    with pytest.raises(ConfigurationError, match="which was imported"):
        change(before)
    change(left())


def test_protection_and_the_bucket_do_not_go_in_one_change() -> None:
    before = left(protect=True, extraRegions=["us-west1"])
    with pytest.raises(ConfigurationError, match="us-west1-datasets, which is protected") as caught:
        change(before)
    assert len(caught.value.problems) == 3
    assert "`pulumi config set open-model-tuning:protect false` and `up` before this change" in str(caught.value.hint)
    change(left(extraRegions=["us-west1"]))


@pytest.mark.parametrize("force", [False, True])
def test_a_bucket_that_holds_objects_is_not_replaced(force: bool) -> None:
    before = left(forceDestroy=force)
    held = {"demo-project-outputs": ["model/weights"], "demo-project-contract": ["environment.json", "functions/a.zip"]}
    with pytest.raises(ConfigurationError, match="demo-project-outputs, which holds objects, such as model/weights"):
        change(before, held, forceDestroy=force, namePrefix="other")
    change(before, {"demo-project-contract": held["demo-project-contract"]}, namePrefix="other")
    held["demo-project-contract"].append("runner/state/us-central1/job.json")
    with pytest.raises(ConfigurationError, match="demo-project-contract, which holds objects, such as runner/state"):
        change(before, {"demo-project-contract": held["demo-project-contract"]}, namePrefix="other")


def test_a_region_goes_with_its_data_only_where_that_was_said() -> None:
    held = {"demo-project-us-west1-outputs": ["model/weights"]}
    with pytest.raises(ConfigurationError, match="us-west1-outputs, which holds objects"):
        change(left(extraRegions=["us-west1"]), held, forceDestroy=True)
    change(left(extraRegions=["us-west1"], forceDestroy=True), held, forceDestroy=True)


def test_without_the_engine_nothing_is_made_before_the_refusal(stack: Stack) -> None:
    name = f"{stack.project}-old"
    stack.request("POST", f"/storage/v1/b?project={stack.project}", {"name": name, "location": "us-central1"})
    stack.apply(buckets=json.dumps({"datasets": {"mode": "import", "name": name}}))
    with pytest.raises(ConfigurationError, match="which was imported"):
        stack.apply(notificationEmails='["ml@example.com"]')
    assert stack.status(f"/storage/v1/b/{name}") == 200
    assert stack.status(f"/storage/v1/b/{stack.project}-datasets") == 404
    channels = stack.request("GET", f"/monitoring/v3/projects/{stack.project}/notificationChannels")
    assert channels.get("notificationChannels", []) == []
    stack.apply(buckets=json.dumps({"datasets": {"name": name}}))
    assert "Bucket datasets" in stack.destroy().protected
