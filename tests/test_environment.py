"""Where settings come from, which one wins, and what is said about wrong ones."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from runner import environment
from runner.environment import SETTINGS, Environment, resolve
from runner.errors import ConfigurationError, UnreachableError
from runner.gcp import uploads
from runner.gcp.environments import open_environment
from runner.gcp.session import Session
from tests.provisioning import Provisioned

pytestmark = pytest.mark.usefixtures("state_directory")


def document(**changes: Any) -> dict[str, Any]:
    return {
        "version": 1,
        "project": "from-document",
        "projectNumber": "123",
        "location": "europe-west4",
        "buckets": {"datasets": "d-bucket", "images": "i-bucket", "outputs": "o-bucket", "contract": "c-bucket"},
        "serviceAgents": {"aiplatform": "a@example.com", "tuning": "t@example.com"},
        "runnerServiceAccount": "r@example.com",
        "endpoints": {"default": "4711"},
        "apiEndpoints": {"vertex": "http://127.0.0.1:1", "storage": "http://127.0.0.1:2"},
        **changes,
    }


def write(directory: Path, body: object) -> str:
    path = directory / "environment.json"
    path.write_text(json.dumps(body))
    return str(path)


def test_nothing_given() -> None:
    found = resolve({})
    assert found == Environment(sources=found.sources)
    assert found.location == "us-central1"
    assert found.sources["location"] == "default"
    assert found.token is None
    assert found.vertex_base == "https://us-central1-aiplatform.googleapis.com"


def test_everything_from_the_document(tmp_path: Path) -> None:
    path = write(tmp_path, document())
    found = resolve({"environment": path})
    assert found.project == "from-document"
    assert found.location == "europe-west4"
    assert (found.datasets_bucket, found.outputs_bucket) == ("d-bucket", "o-bucket")
    assert found.service_agents == {"aiplatform": "a@example.com", "tuning": "t@example.com"}
    assert found.default_endpoint == "4711"
    assert found.vertex_base == "http://127.0.0.1:1"
    assert found.sources["project"] == path
    assert found.token == environment.PLACEHOLDER_TOKEN


@pytest.mark.parametrize("setting", SETTINGS, ids=lambda setting: setting.field)
def test_precedence_of_every_setting(
    setting: environment.Setting, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    values = {
        "vertex_url": "https://h{}.googleapis.com",
        "storage_url": "https://h{}.googleapis.com",
        "project_number": "{}",
    }
    form = values.get(setting.field, "value{}x")
    flags = {"environment": write(tmp_path, document())}
    if setting.document:
        assert getattr(resolve(flags), setting.field)
        assert resolve(flags).sources[setting.field] == flags["environment"]
    monkeypatch.setenv(setting.variable, form.format(1))
    found = resolve(flags)
    assert (getattr(found, setting.field), found.sources[setting.field]) == (form.format(1), setting.variable)
    found = resolve({**flags, setting.field: form.format(2)})
    assert (getattr(found, setting.field), found.sources[setting.field]) == (
        form.format(2),
        setting.flag or setting.field,
    )


def test_empty_values_count_as_not_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RUNNER_PROJECT", "")
    assert resolve({"environment": write(tmp_path, document()), "project": None}).project == "from-document"


def test_a_newer_document_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="version 2 is not supported"):
        resolve({"environment": write(tmp_path, document(version=2))})


def test_all_mistakes_at_once(tmp_path: Path) -> None:
    path = write(tmp_path, document(project=7, buckets={"datasets": "d-bucket", "photos": "x"}, colour="red"))
    with pytest.raises(ConfigurationError) as caught:
        resolve({"environment": path, "vertex_url": "ftp://x", "location": "evil.example/#"})
    text = "\n".join(caught.value.problems)
    for part in ("project must be a string", "buckets.photos", "colour", "vertex_url", "--location"):
        assert part in text
    assert len(caught.value.problems) == 5


@pytest.mark.parametrize("location", ["evil.example/#", "a b", "US-central1", "us-central1@x", "-x"])
def test_a_location_cannot_become_another_host(location: str) -> None:
    with pytest.raises(ConfigurationError, match="not a valid name"):
        resolve({"location": location})


@pytest.mark.parametrize("url", ["127.0.0.1:1", "http://", "http://h/path", "http://u@h", "http://h?x", "file:///x"])
def test_wrong_addresses(url: str) -> None:
    with pytest.raises(ConfigurationError, match="storage_url"):
        resolve({"storage_url": url})


def test_unreadable_documents(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"absent\.json: no such file"):
        resolve({"environment": str(tmp_path / "absent.json")})
    (tmp_path / "broken.json").write_text("{")
    with pytest.raises(ConfigurationError, match="is not JSON"):
        resolve({"environment": str(tmp_path / "broken.json")})
    (tmp_path / "list.json").write_text("[]")
    with pytest.raises(ConfigurationError, match="not a JSON object"):
        resolve({"environment": str(tmp_path / "list.json")})


def test_require_names_all_that_is_missing() -> None:
    with pytest.raises(ConfigurationError) as caught:
        Environment(project="p").require("project", "datasets_bucket", "outputs_bucket")
    assert len(caught.value.problems) == 2
    assert "RUNNER_DATASETS_BUCKET" in caught.value.problems[0]
    assert "RUNNER_OUTPUTS_BUCKET" in caught.value.problems[1]


def test_the_token_is_neither_shown_nor_represented() -> None:
    found = resolve({"token": "s3cret", "project": "p-1"})
    assert found.token == "s3cret"
    assert "s3cret" not in repr(found)
    assert "s3cret" not in json.dumps(found.to_json())


def test_a_running_emulator_is_found_and_a_dead_one_is_not(state_directory: Path) -> None:
    directory = state_directory / "emulator"
    directory.mkdir(parents=True)
    assert resolve({}).project == ""
    (directory / "server.json").write_text(json.dumps({"pid": os.getpid()}))
    with pytest.raises(ConfigurationError, match="no project yet"):
        resolve({})
    write(directory, document())
    assert resolve({}).project == "from-document"
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    (directory / "server.json").write_text(json.dumps({"pid": ended.pid}))
    with pytest.raises(UnreachableError, match="is not running"):
        resolve({})


def test_a_document_in_cloud_storage(project: Provisioned) -> None:
    given = Environment(project=project.project, storage_url=project.url, token="t")
    uri = f"gs://{project.outputs}/environment.json"
    with Session(given) as session:
        uploads.upload_bytes(session, json.dumps(document()).encode(), uri)
    found = open_environment({"environment": uri, "storage_url": project.url, "location": "us-east5"})
    assert (found.project, found.location, found.storage_url) == ("from-document", "us-east5", project.url)
    assert found.sources["project"] == uri
