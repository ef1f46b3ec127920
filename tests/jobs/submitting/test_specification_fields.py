"""Which change of which field is another job, for each field there is: what is found again is not paid for twice."""

from __future__ import annotations

import copy
import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

from runner.environment import Environment
from runner.errors import GoogleApiError
from runner.gcp import tuning_jobs, uploads
from runner.gcp.session import Session
from runner.jobs.labels import FINGERPRINT_LABEL, digest
from runner.jobs.manifests import identity
from runner.jobs.manifests.applying import apply_plan
from runner.jobs.manifests.planning import Plan, make_plan
from runner.jobs.manifests.schema import TuningJobManifest
from runner.jobs.repeating import reproduction
from runner.jobs.repeating.cloning import specification_of
from runner.jobs.specification import TuningJobSpec
from runner.jobs.submitting.prepared import fingerprint_inputs, prepare
from runner.jobs.submitting.submission import submit_once
from tests.gcp.flaky import Fault, FlakyProxy
from tests.jobs.manifests.folder import MODEL
from tests.jobs.submitting.changes import MANIFEST, SPECIFICATION, Change, filled, paths_of

FIELDS = [field.name for field in dataclasses.fields(TuningJobSpec)]


def camel(name: str) -> str:
    first, *rest = name.split("_")
    return first + "".join(map(str.capitalize, rest))


@pytest.fixture
def prepared_project(untrained: Session) -> Session:
    """A session on a project whose jobs wait for ever, with everything in it that the values of the tables name."""
    environment = untrained.environment
    for name, content in (
        (f"{environment.datasets_bucket}/train.jsonl", _examples("What")),
        (f"{environment.datasets_bucket}/other.jsonl", _examples("Who")),
        (f"{environment.outputs_bucket}/weights/model.safetensors", b"weights"),
    ):
        uploads.upload_bytes(untrained, content, f"gs://{name}")
    for path, body in (
        (f"/v1/projects/{environment.project}/services/cloudkms.googleapis.com:enable", {}),
        (f"/v1/projects/{environment.project}/serviceAccounts", {"accountId": "tuning-account"}),
        (f"/v1/projects/{environment.project}/locations/us-central1/keyRings?keyRingId=ring", {}),
        (
            f"/v1/projects/{environment.project}/locations/us-central1/keyRings/ring/cryptoKeys?cryptoKeyId=one",
            {"purpose": "ENCRYPT_DECRYPT"},
        ),
    ):
        untrained.http.post(path, json=body).raise_for_status()
    return untrained


def _examples(word: str) -> bytes:
    lines = [json.dumps({"prompt": f"{word} is {i}?", "completion": f"It is {i}."}) for i in range(12)]
    return ("\n".join(lines) + "\n").encode()


def names_of(environment: Environment) -> dict[str, str]:
    return {
        "datasets": environment.datasets_bucket,
        "outputs": environment.outputs_bucket,
        "project": environment.project,
    }


def both(change: Change, environment: Environment) -> tuple[TuningJobSpec, TuningJobSpec]:
    """Return two specifications that differ in one field."""
    names = names_of(environment)
    plain = TuningJobSpec(
        base_model=MODEL,
        training_dataset=f"gs://{environment.datasets_bucket}/train.jsonl",
        epochs=1,
        learning_rate=1e-4,
    )
    one, other = (dataclasses.replace(plain, **{change.field: filled(x, names)}) for x in (change.first, change.second))
    return one, other


def at(document: Any, path: str) -> Any:
    for key in path.split("."):
        document = (document or {}).get(key)
    return document


def test_every_field_has_a_row() -> None:
    assert [change.field for change in SPECIFICATION] == FIELDS
    assert sorted(change.field for change in MANIFEST) == sorted(
        path for path in paths_of(TuningJobManifest) if path not in ("apiVersion", "kind")
    )
    assert all(change.why for change in (*SPECIFICATION, *MANIFEST))


def test_a_change_of_a_field_is_another_fingerprint_where_the_table_says_so(prepared_project: Session) -> None:
    environment = prepared_project.environment
    for change in SPECIFICATION:
        one, other = (prepare(prepared_project, spec) for spec in both(change, environment))
        assert (one.fingerprint != other.fingerprint) == change.another_job, change


def test_without_its_input_a_field_would_be_the_same_job(prepared_project: Session) -> None:
    """Each input is in the fingerprint, and no other input stands in for it."""
    parent = prepared_project.environment.parent
    for change in (change for change in SPECIFICATION if change.another_job):
        one, other = (
            fingerprint_inputs(parent, prepared.spec, prepared.datasets)
            for prepared in (prepare(prepared_project, spec) for spec in both(change, prepared_project.environment))
        )
        # The folder that is made up for the weights is named after the fingerprint itself.
        if change.field != "output_uri":
            one["outputUri"] = other["outputUri"] = ""
        differing = {key for key in one if one[key] != other[key]}
        assert ("datasets" if change.field.endswith("dataset") else camel(change.field)) in differing, change
        assert differing <= {camel(change.field), "datasets", "adapterSize"}, change
        for key in differing:
            del one[key], other[key]
        assert digest(one) == digest(other), change


@pytest.mark.parametrize("key", ["parent", "salt", "schema", "datasets", *map(camel, FIELDS)])
def test_taking_an_input_out_changes_the_fingerprint(key: str) -> None:
    spec = TuningJobSpec(base_model=MODEL, training_dataset="gs://data/train.jsonl").resolved()
    inputs = fingerprint_inputs("projects/p/locations/l", spec, {"training": {"generation": 1}, "validation": None})
    apart = {"trainingDataset", "validationDataset"} | {
        camel(change.field) for change in SPECIFICATION if not change.another_job
    }
    assert (key in inputs) == (key not in apart)
    assert key in apart or digest({name: inputs[name] for name in inputs if name != key}) != digest(inputs)


def test_place_and_content_of_the_data_are_another_job(prepared_project: Session) -> None:
    environment = prepared_project.environment
    spec, _ = both(SPECIFICATION[0], environment)
    first = prepare(prepared_project, spec).fingerprint
    with Session(dataclasses.replace(environment, location="europe-west4")) as elsewhere:
        assert prepare(elsewhere, spec).fingerprint != first
    uploads.upload_bytes(prepared_project, _examples("Whose"), spec.training_dataset, replace=True)
    assert prepare(prepared_project, spec).fingerprint != first


def test_each_field_is_in_the_request_and_changes_nothing_else(prepared_project: Session, proxy: FlakyProxy) -> None:
    environment = dataclasses.replace(prepared_project.environment, vertex_url=proxy.url)
    with Session(environment) as session:
        for change in SPECIFICATION:
            one, other = (_request(session, proxy, spec, change.field) for spec in both(change, environment))
            assert at(one, change.sent) != at(other, change.sent), change
            derived = ["supervisedTuningSpec.hyperParameters.adapterSize"] if change.field == "mode" else []
            for document in (one, other):
                for path in (change.sent, f"labels.{FINGERPRINT_LABEL}", *derived):
                    _remove(document, path)
            assert one == other, change


def _request(session: Session, proxy: FlakyProxy, spec: TuningJobSpec, varied: str) -> dict[str, Any]:
    """Return what is sent for a specification. The names that are made of the fingerprint are given instead."""
    given: dict[str, Any] = {"output_uri": "gs://bucket/x", "display_name": "name"}
    if spec.output_uri is not None or varied == "display_name":
        del given[varied]
    prepared = prepare(session, dataclasses.replace(spec, **given))
    proxy.faults.append(Fault("POST", "/tuningJobs$", 403))
    with pytest.raises(GoogleApiError):
        tuning_jobs.create(session, prepared.fields)
    document: dict[str, Any] = json.loads(proxy.bodies[-1][1])
    return document


def _remove(document: dict[str, Any], path: str) -> None:
    """Remove what is at a path, and what is empty without it."""
    key, _, rest = path.partition(".")
    if rest and isinstance(document.get(key), dict):
        _remove(document[key], rest)
        if not document[key]:
            del document[key]
    elif not rest:
        document.pop(key, None)


@pytest.mark.parametrize("change", SPECIFICATION, ids=str)
def test_submitting_finds_the_job_or_makes_another(change: Change, prepared_project: Session) -> None:
    session = prepared_project
    one, other = both(change, session.environment)
    first, second = submit_once(session, one), submit_once(session, other)
    assert (first.created, second.created) == (True, change.another_job)
    assert (first.job.name != second.job.name) == change.another_job
    # The job's document and its run manifest give the specification back, and a clone is the same job.
    job, asked = (second.job, other) if change.another_job else (first.job, one)
    clone = specification_of(session, job)
    kept = reproduction.spec_of(reproduction.read_manifest(session, job))
    wanted = getattr(asked.resolved(), change.field)
    assert [getattr(spec, change.field) for spec in (clone, kept)] == [wanted, wanted]
    again = submit_once(session, clone)
    assert (again.created, again.job.name) == (False, job.name)


def test_fingerprints_and_identities_stay_what_they_were() -> None:
    """Another spelling of an input would pay once more for every job that exists."""
    environment = Environment(project="p", location="us-central1", outputs_bucket="o")
    train = {"uri": "gs://d/train.jsonl", "generation": 7, "crc32c": "AAAAAA=="}
    validation = {"uri": "gs://d/v.jsonl", "generation": 8, "crc32c": "BBBBBB=="}
    plain = TuningJobSpec(base_model=MODEL, training_dataset="gs://d/train.jsonl").resolved()
    full = TuningJobSpec(
        base_model=MODEL,
        training_dataset="gs://d/train.jsonl",
        validation_dataset="gs://d/v.jsonl",
        mode="FULL",
        output_uri="gs://o/x/",
        epochs=5,
        learning_rate=3e-5,
        batch_size=4,
        custom_base_model="gs://o/w/",
        export_last_checkpoint_only=True,
        service_account="a@b.iam.gserviceaccount.com",
        kms_key="projects/p/locations/us-central1/keyRings/r/cryptoKeys/k",
    ).resolved()
    parent = environment.parent
    assert [
        digest(fingerprint_inputs(parent, plain, {"training": train, "validation": None})),
        digest(fingerprint_inputs(parent, full, {"training": train, "validation": validation}, "salt")),
    ] == [
        "fogewbsq5dnyagkn7k7opmpsdtdcv6rfwx7hvae2tavy7cogfhzq",
        "ea2yzr5yfs6kljrotnwjuygiqy3kpj4zkk3zthqykrl6lqz7z3ua",
    ]
    of_plain = identity.inputs_of(plain, train="sha256:aa", validation=None, after=None, revision=1)
    of_full = identity.inputs_of(full, train="sha256:aa", validation="sha256:bb", after=f"first@{'a' * 52}", revision=2)
    assert [identity.identity_of(environment, "tone", inputs) for inputs in (of_plain, of_full)] == [
        "2duu64qri2duz3pwl45l4354gbam3w4ovulaah4uxc2lezhp7u6a",
        "jbl6bwycsaiq22mlk322yfhojg4bbz4o7chourcjuwzi4pn4ilnq",
    ]


@dataclasses.dataclass(frozen=True, slots=True)
class Applied:
    """The plan of a folder that has one manifest for each row, once its jobs exist, and of the folder of changes."""

    before: Plan
    after: Plan


@pytest.fixture
def plans(prepared_project: Session, tmp_path: Path) -> Applied:
    """All rows of the table at once: a folder with their first values, which is applied, and one with the second."""
    environment = prepared_project.environment
    folders = []
    for number in (0, 1):
        folder = tmp_path / f"folder{number}"
        folder.mkdir()
        (folder / "train.jsonl").write_bytes(_examples("What"))
        (folder / "other.jsonl").write_bytes(_examples("Who"))
        (folder / "validation.jsonl").write_bytes(_examples("Whose").splitlines(keepends=True)[0])
        for index, change in enumerate(MANIFEST):
            document = _manifest(f"row-{index}", change, number, names_of(environment))
            (folder / f"{index:02}.yaml").write_text(json.dumps(document))
        (folder / "cause.yaml").write_text(json.dumps(_manifest("cause", MANIFEST[1], 0, {})))
        folders.append(folder)
    before = make_plan(prepared_project, folders[:1], quota=999, preflight=False)
    apply_plan(prepared_project, before)
    return Applied(before, make_plan(prepared_project, folders[1:], quota=999, preflight=False))


def _manifest(name: str, change: Change, number: int, names: dict[str, str]) -> dict[str, Any]:
    document: dict[str, Any] = {
        "apiVersion": "open-model-tuning/v1",
        "kind": "TuningJob",
        "metadata": {"name": name},
        "spec": {"baseModel": MODEL, "mode": "PEFT_ADAPTER", "data": {"train": "train.jsonl"}},
    }
    document["spec"] |= copy.deepcopy(change.besides)
    *above, last = change.field.split(".")
    inner = document
    for key in above:
        inner = inner.setdefault(key, {})
    value = change.second if number else change.first
    inner[last] = f"{name}-{value}" if change.field == "metadata.name" else filled(value, names)
    return document


def test_a_change_of_a_manifest_is_another_job_where_the_table_says_so(plans: Applied) -> None:
    actions: dict[str, set[str]] = {}
    for job in plans.after.jobs:
        actions.setdefault(Path(job.source.file).stem, set()).add(job.action)
    for index, change in enumerate(MANIFEST):
        found = actions[f"{index:02}"]
        assert found == {"keep"} if not change.another_job else found <= {"create", "change"}, (change, found)
    assert actions["cause"] == {"keep"}
    assert {job.action for job in plans.before.jobs} == {"create"}
