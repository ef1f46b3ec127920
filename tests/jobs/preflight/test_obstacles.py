"""Obstacles: found before the upload, of what the job uses and nothing else."""

from __future__ import annotations

import dataclasses
import gzip
import http.server
import json
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from runner.errors import ConfigurationError, CostRefusedError, DatasetError
from runner.gcp import storage, uploads
from runner.gcp.session import Session
from runner.gcp.tuning_jobs import TuningJob
from runner.jobs.preflight import grants
from runner.jobs.preflight.obstacles import preflight
from runner.jobs.preflight.weights import weights
from runner.jobs.specification import TuningJobSpec
from runner.jobs.submitting.creating import Once
from runner.jobs.submitting.offers import Request, carry_out, offered
from runner.prices import AGREED, Terms
from tests.cli.invocation import CommandLine
from tests.jobs.manifests.folder import MODEL, names_of
from tests.projects import environment_of, upload_dataset
from tests.provisioning import provision

LINES = b"".join(b'{"prompt":"What is %d?","completion":"It is %d."}\n' % (number, number) for number in range(20))


@pytest.fixture
def spec(session: Session) -> TuningJobSpec:
    return TuningJobSpec(base_model=MODEL, training_dataset=upload_dataset(session), epochs=1)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    path = tmp_path / "train.jsonl"
    path.write_bytes(LINES)
    return path


def tune(session: Session, request: Request, *, terms: Terms) -> Once[TuningJob]:
    with offered(session, request) as offer:
        return carry_out(offer, terms=terms)


def _uploaded(session: Session) -> list[str]:
    return [item.uri for item in storage.list_objects(session, f"gs://{session.environment.datasets_bucket}/")]


def test_nothing_is_sent_before_the_price_is_agreed_to_and_the_way_is_free(session: Session, data: Path) -> None:
    request = Request(spec=TuningJobSpec(base_model=MODEL, training_dataset=str(data), epochs=1))
    with pytest.raises(CostRefusedError):
        tune(session, request, terms=Terms())
    abroad = provision(session.environment.vertex_base, f"{session.environment.project}-eu", location="europe-west4")
    wrong = dataclasses.replace(request.spec, output_uri=f"gs://{abroad.outputs}/x")
    with pytest.raises(ConfigurationError, match="the job runs in"):
        tune(session, dataclasses.replace(request, spec=wrong), terms=AGREED)
    assert _uploaded(session) == []
    done = tune(session, request, terms=AGREED)
    assert done.created
    assert not tune(session, request, terms=AGREED).created
    assert len(_uploaded(session)) == 1


def test_an_offer_names_its_price_and_addresses(session: Session, data: Path) -> None:
    with offered(session, Request(spec=TuningJobSpec(base_model=MODEL, training_dataset=str(data)))) as offer:
        assert offer.estimate.high
        assert offer.obstacles() == []
        assert offer.spec.training_dataset == offer.uploads[0].uri
        assert carry_out(offer, terms=AGREED).created


def test_a_dry_run_with_obstacles_ends_as_the_submission_would(run: CommandLine, session: Session, data: Path) -> None:
    abroad = provision(session.environment.vertex_base, f"{session.environment.project}-eu", location="europe-west4")
    command = ["jobs", "submit", "--model", MODEL, "--train", str(data), "--output", f"gs://{abroad.outputs}/x"]
    dry, real = run(*command, "--dry-run"), run(*command, "--yes")
    assert (dry.code, real.code) == (2, 2)
    assert "the job runs in" in dry.err
    assert _uploaded(session) == []


def test_a_text_job_does_not_care_for_the_images_bucket(session: Session, spec: TuningJobSpec) -> None:
    abroad = provision(session.environment.vertex_base, f"{session.environment.project}-eu", location="europe-west4")
    with Session(dataclasses.replace(session.environment, images_bucket=abroad.datasets)) as opened:
        assert preflight(opened, spec) == []
        assert {item.code for item in preflight(opened, spec, images=True)} >= {"bucket_region"}


def test_readers_of_data_need_not_be_writers(session: Session, spec: TuningJobSpec) -> None:
    bare = provision(session.environment.vertex_base, f"{session.environment.project}-bare", grant=False)
    environment = environment_of(bare)
    with Session(environment) as opened:
        uri = upload_dataset(opened)
        url = f"{environment.storage_url}/storage/v1/b/{bare.datasets}/iam"
        policy = opened.ask("GET", f"{url}?optionsRequestedPolicyVersion=3", "storage.buckets.getIamPolicy", url)
        agents = {f"serviceAccount:{email}" for email in environment.service_agents.values()}
        policy["bindings"].append({"role": "roles/storage.objectViewer", "members": sorted(agents)})
        opened.ask("PUT", url, "storage.buckets.setIamPolicy", url, json=policy)
        found = preflight(opened, dataclasses.replace(spec, training_dataset=uri))
    assert {item.code for item in found} == {"agent_without_role"}
    assert all(bare.outputs in item.message for item in found)


def test_a_compressed_object_is_refused(session: Session, spec: TuningJobSpec) -> None:
    uri = f"gs://{session.environment.datasets_bucket}/train.jsonl"
    uploads.upload_bytes(session, gzip.compress(LINES), uri, replace=True)
    with pytest.raises(DatasetError) as caught:
        tune(session, Request(spec=dataclasses.replace(spec, training_dataset=uri)), terms=AGREED)
    assert "gzip" in json.dumps(caught.value.findings)
    assert names_of(session) == []


@pytest.mark.parametrize("epochs", [101, 1_000_000])
def test_more_epochs_than_the_service_accepts(epochs: int, session: Session, spec: TuningJobSpec) -> None:
    (finding,) = preflight(session, dataclasses.replace(spec, epochs=epochs))
    assert "100 that the service accepts" in finding.message


SOUND = {"config.json": "{}", "tokenizer.json": "{}", "model.safetensors": "x"}
INDEX = json.dumps({"weight_map": {"a": "model-1.safetensors", "b": "model-2.safetensors"}})
FOLDERS: dict[str, tuple[dict[str, str], str]] = {
    "sound": (SOUND, ""),
    "adapter only": ({"adapter_config.json": "{}", "adapter_model.safetensors": "x"}, "only an adapter"),
    "merged beside adapter": (SOUND | {"adapter_config.json": "{}"}, ""),
    "nested": ({f"final/{name}": text for name, text in SOUND.items()}, "holds no weights itself"),
    "no config": ({key: SOUND[key] for key in SOUND if key != "config.json"}, "no config.json"),
    "config is a list": (SOUND | {"config.json": "[]"}, "not a JSON object"),
    "config is deep": (SOUND | {"config.json": "[" * 100_000}, "not a JSON object"),
    "no tokenizer": ({key: SOUND[key] for key in SOUND if key != "tokenizer.json"}, "no tokenizer"),
    "pickled": ({"config.json": "{}", "tokenizer.json": "{}", "pytorch_model.bin": "x"}, "only pickled"),
    "empty shard": (SOUND | {"model.safetensors": ""}, "is empty"),
    "shards": (
        {"config.json": "{}", "tokenizer.json": "{}", "model.safetensors.index.json": INDEX}
        | {f"model-{number}.safetensors": "x" for number in (1, 2)},
        "",
    ),
    "a shard is missing": (
        {"config.json": "{}", "tokenizer.json": "{}", "model.safetensors.index.json": INDEX}
        | {"model-1.safetensors": "x"},
        "lacks shards: model-2.safetensors",
    ),
    "an index that points out of the folder": (
        SOUND | {"model.safetensors.index.json": json.dumps({"weight_map": {"a": "/etc/passwd", "b": "x.bin"}})},
        "names files that are not safetensors files",
    ),
    "a damaged index": (SOUND | {"model.safetensors.index.json": "{"}, "no valid weight_map"),
    "nothing": ({}, "no files"),
}


@pytest.mark.parametrize("name", FOLDERS)
def test_the_contents_of_custom_weights(name: str, session: Session) -> None:
    files, expected = FOLDERS[name]
    folder = f"gs://{session.environment.outputs_bucket}/weights"
    for file, text in files.items():
        uploads.upload_bytes(session, text.encode(), f"{folder}/{file}")
    found = list(weights(session, folder))
    assert len(found) == bool(expected), found
    assert all(expected in item.message for item in found)


@pytest.fixture
def custom_roles() -> Iterator[str]:
    """Serve one custom role as IAM does."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            known = self.path == "/v1/projects/p/roles/writer"
            body = json.dumps({"includedPermissions": sorted(grants.WRITE)} if known else {"error": {"code": 404}})
            self.send_response(200 if known else 404)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body.encode())

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    thread.join()
    server.server_close()


def test_custom_roles_are_resolved(custom_roles: str, session: Session) -> None:
    with Session(dataclasses.replace(session.environment, vertex_url=custom_roles)) as opened:
        roles = grants.Roles(opened)
        assert roles.permissions("projects/p/roles/writer") == grants.WRITE
        assert roles.permissions("projects/p/roles/absent") is None
        assert roles.permissions("roles/storage.objectViewer") == grants.READ


def test_preflight_of_a_ready_project(session: Session, spec: TuningJobSpec) -> None:
    assert preflight(session, spec) == []


def test_preflight_finds_everything(session: Session, spec: TuningJobSpec) -> None:
    project = session.environment.project
    bare = provision(session.environment.vertex_base, f"{project}-bare", grant=False)
    abroad = provision(session.environment.vertex_base, f"{project}-eu", location="europe-west4")
    environment = dataclasses.replace(environment_of(bare), images_bucket=f"{project}-absent")
    wrong = dataclasses.replace(
        spec, training_dataset=f"gs://{bare.datasets}/absent", output_uri=f"gs://{abroad.outputs}/x"
    )
    with Session(environment) as opened:
        findings = preflight(opened, wrong, images=True)
    codes = sorted({finding.code for finding in findings if finding.severity == "error"})
    assert codes == ["agent_without_role", "bucket_missing", "bucket_region", "object_missing"]
    grants = [finding for finding in findings if finding.code == "agent_without_role"]
    for email in environment.service_agents.values():
        assert any(email in item.message for item in grants)
    assert all("add-iam-policy-binding" in finding.fix for finding in grants)
