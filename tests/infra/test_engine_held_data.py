"""The program refuses what would take data away under the real engine too, and says so in a sentence."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from runner.emulator.server import EmulatorServer
from runner.emulator.settings import EmulatorSettings
from tests.gcp.corrupting import Exchange
from tests.infra.cutting import Cutting
from tests.infra.test_engine_alone import changed
from tests.infra.test_engine_failures import UNUSED, needs_engine
from tests.infra.test_engine_interrupted import PROJECT, Checkout

pytestmark = [pytest.mark.engine, needs_engine]


@pytest.fixture
def checkout(tmp_path: Path) -> Iterator[Checkout]:
    settings = EmulatorSettings(directory=tmp_path / "emulator", stand_in="tiny")
    with EmulatorServer(settings) as server, Cutting(server.url) as cutting:
        yield Checkout(tmp_path, server.url, cutting)


def test_data_is_held_and_lists_change_with_the_engine(checkout: Checkout) -> None:
    before = (checkout.folder / "Pulumi.local.yaml").read_text()
    first = checkout.run("preview")["result"]  # of a stack that is not there yet
    assert first["summary"]["create"] > 40
    assert (checkout.folder / "Pulumi.local.yaml").read_text() == before

    missing = checkout.run("preview")  # twice: nothing of the first stays
    assert missing["result"]["summary"] == first["summary"]
    changed(checkout, buckets={"datasets": {"mode": "attach", "name": "nobody-has-this"}})
    absent = checkout.run("preview")["error"]
    assert "gs://nobody-has-this is to be attached" in absent["message"], absent
    changed(checkout, buckets=None, runnerImpersonators=["user:ada@example.com", "user:bob@example.com"])
    made = checkout.run("up", "--confirmed")
    assert "result" in made, made
    kept = (checkout.folder / "Pulumi.local.yaml").read_text()
    assert "encryptionsalt:" in kept

    url = f"{checkout.url}/upload/storage/v1/b/{PROJECT}-outputs/o?uploadType=media&name=model/weights"
    httpx.post(url, content=b"x", trust_env=False, timeout=120).raise_for_status()
    changed(checkout, namePrefix="other-prefix", runnerImpersonators=["user:bob@example.com"])
    refused = checkout.run("up", "--confirmed")["error"]
    assert f"would delete gs://{PROJECT}-outputs, which holds objects, such as model/weights" in refused["message"]
    assert "open-model-tuning:buckets.outputs.name" in json.dumps(refused)
    plain = subprocess.run(
        ["pulumi", "up", "--yes", "--skip-preview", "--stack", "local", "--non-interactive"],
        cwd=checkout.folder, env={**os.environ, **checkout.variables}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert plain.returncode != 0
    assert "which holds objects, such as model/weights" in plain.stdout + plain.stderr
    assert (
        httpx.get(f"{checkout.url}/storage/v1/b/other-prefix-outputs", trust_env=False, timeout=120).status_code == 404
    )

    changed(checkout, namePrefix=None)
    assert "result" in checkout.run("up", "--confirmed")
    account = f"{checkout.url}/v1/projects/{PROJECT}/serviceAccounts/tuning-runner@{PROJECT}.iam.gserviceaccount.com"
    policy = httpx.post(f"{account}:getIamPolicy", json={}, trust_env=False, timeout=120).json()
    assert [item["members"] for item in policy["bindings"]] == [["user:bob@example.com"]]

    changed(checkout, forceDestroy=False)
    assert "result" in checkout.run("up", "--confirmed")
    stopped = checkout.run("destroy", "--confirmed")["error"]
    assert f"nothing was deleted: Bucket outputs: gs://{PROJECT}-outputs holds objects" in stopped["message"]
    assert httpx.get(account, trust_env=False, timeout=120).status_code == 200


def test_what_google_answers_about_the_project_is_waited_for_or_said_without_traces(checkout: Checkout) -> None:
    said = ["Permission denied on resource project.", UNUSED, UNUSED]

    def refuse(exchange: Exchange) -> bool:
        if said and exchange.method == "GET" and exchange.path.partition("?")[0] == f"/v1/projects/{PROJECT}":
            error = {"code": 403, "message": said.pop(0), "status": "PERMISSION_DENIED"}
            exchange.status, exchange.content = 403, json.dumps({"error": error}).encode()
        return False

    checkout.cutting.answer = refuse
    denied = checkout.run("up", "--confirmed")["error"]  # which asserts that there is no traceback
    assert denied["message"] == "up of stack local failed: Permission denied on resource project. (403)"
    assert "docs/iam.md" in denied["hint"]
    made = checkout.run("up", "--confirmed")  # an API that was just enabled
    assert "result" in made, made
    assert said == []
