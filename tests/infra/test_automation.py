"""`runner infra`: against a live emulator where it can, offline where it needs nothing, and its commonest mistakes."""

from __future__ import annotations

import contextlib
import io
import itertools
import json
import os
import re
import shutil
import subprocess
import sys
import threading
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest

from infra.automation.__main__ import main
from infra.embedded.state import opened
from runner.emulator.server import EmulatorServer

ROOT = Path(__file__).resolve().parents[2]
_numbers = itertools.count(1)


def runner(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run a command line of the runner without an engine on the PATH."""
    environment = {**os.environ, "PATH": "/usr/bin:/bin", **variables}
    command = [sys.executable, "-m", "runner", "infra", *arguments]
    return subprocess.run(
        command,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
        cwd=ROOT,
        env=environment,
        stdin=subprocess.DEVNULL,
    )


@dataclass(frozen=True, slots=True)
class Checkout:
    """A folder with a stack file, and the emulator it is for."""

    folder: Path
    url: str
    project: str

    def automation(self, verb: str, *options: str) -> dict[str, Any]:
        """Run a verb without the engine and return its document."""
        return automation(
            verb, "--stack", "local", "--directory", str(self.folder), "--embedded", "--emulator", self.url,
            "--state", str(self.folder / "state.json"), *options
        )  # fmt: skip


def automation(*arguments: str) -> dict[str, Any]:
    """Call the program that `runner infra` starts, and return its document."""
    with contextlib.redirect_stdout(io.StringIO()) as said:
        status = main(list(arguments))
    body: dict[str, Any] = json.loads(said.getvalue())
    assert ("error" in body) == bool(status)
    return body


@pytest.fixture
def checkout(emulator: EmulatorServer, tmp_path: Path) -> Checkout:
    project = f"automation-{os.getpid()}-{next(_numbers)}"
    shutil.copy(ROOT / "Pulumi.yaml", tmp_path)
    text = (ROOT / "Pulumi.local.yaml").read_text("utf-8").replace("local-project", project)
    (tmp_path / "Pulumi.local.yaml").write_text(text)
    return Checkout(tmp_path, emulator.url, project)


def test_preview_up_outputs_and_destroy_without_the_engine(checkout: Checkout) -> None:
    before = checkout.automation("preview")["result"]
    assert before["changes"] == len(before["created"]) > 20
    made = checkout.automation("up")["result"]
    assert sorted(made["created"]) == sorted(before["created"])
    assert checkout.automation("preview", "--expect-no-changes")["result"]["changes"] == 0
    outputs = checkout.automation("outputs")["result"]["outputs"]
    assert outputs == {"environment": made["environment"]}
    with (checkout.folder / "Pulumi.local.yaml").open("a") as file:
        file.write("  open-model-tuning:softDeleteDays: 14\n  open-model-tuning:endpoint: false\n")
    changed = checkout.automation("preview")["result"]
    assert "Bucket outputs" in changed["updated"]
    assert changed["deleted"] == ["AiEndpoint endpoint"]
    assert changed["created"] == []
    refused = checkout.automation("preview", "--expect-no-changes")["error"]
    assert refused["code"] == "changes"
    here = f"--embedded --directory {checkout.folder}"
    assert refused["hint"] == f"`runner infra up --stack local {here}`"
    unasked = checkout.automation("destroy")["error"]
    assert "was not confirmed" in unasked["message"]
    assert checkout.automation("outputs")["result"]["outputs"] == outputs
    gone = checkout.automation("destroy", "--confirmed")["result"]
    assert "Bucket outputs" in gone["deleted"]
    assert "IAMMember tuning-project" in gone["kept"]
    assert "kept: IAMMember tuning-project" in gone["text"]


def test_a_refresh_without_the_engine_names_what_others_did_and_forgets_what_is_gone(checkout: Checkout) -> None:
    checkout.automation("up")
    untouched = checkout.automation("refresh", "--expect-no-changes")["result"]
    assert untouched["changes"] == 0
    buckets = f"{checkout.url}/storage/v1/b/{checkout.project}"
    httpx.delete(f"{buckets}-images", trust_env=False, timeout=120).raise_for_status()
    httpx.patch(
        f"{buckets}-outputs", json={"versioning": {"enabled": False}}, trust_env=False, timeout=120
    ).raise_for_status()
    drift = checkout.automation("refresh", "--expect-no-changes")["error"]
    assert (drift["code"], "Bucket outputs: versioning" in drift["message"]) == ("changes", True)
    assert drift["hint"].startswith("to correct it, run `runner infra up --stack local --embedded")
    assert httpx.get(f"{buckets}-outputs", trust_env=False, timeout=120).json()["versioning"] == {"enabled": False}, (
        "nothing changes"
    )
    assert "Bucket images" in checkout.automation("preview")["result"]["created"], "it was forgotten"
    again = checkout.automation("refresh")["result"]
    assert (again["gone"], again["changed"]) == ([], {"Bucket outputs": ["versioning"]})
    assert "Bucket outputs" in checkout.automation("up")["result"]["updated"]
    assert checkout.automation("refresh")["result"]["changes"] == 0


def test_one_of_two_that_work_with_the_same_state_is_refused_and_told_who_the_other_is(checkout: Checkout) -> None:
    with opened(checkout.folder / "state.json", checkout.project):
        for verb, *confirmed in (("up",), ("destroy", "--confirmed")):
            error = checkout.automation(verb, *confirmed)["error"]
            assert error["code"] == "locked"
            assert f"process {os.getpid()} (" in error["message"]
    assert checkout.automation("up")["result"]["created"]


def test_bootstrap_makes_everything_once(checkout: Checkout) -> None:
    def bootstrap(*options: str) -> dict[str, Any]:
        where = ["--directory", str(checkout.folder), "--project", checkout.project]
        return dict(automation("bootstrap", "--stack", "dev", *where, *options)["result"])

    dry = bootstrap("--dry-run")
    assert any(
        line.startswith(f"gcloud storage buckets create gs://{checkout.project}-pulumi-state")
        for line in dry["commands"]
    )
    assert not (checkout.folder / "Pulumi.dev.yaml").exists()
    made = bootstrap("--emulator", checkout.url)
    assert {f"bucket {checkout.project}-pulumi-state", "key ring pulumi", "key state"} <= set(made["created"])
    assert "open-model-tuning:environment: dev" in (checkout.folder / "Pulumi.dev.yaml").read_text()
    # Each thing that was made is named by a command of the dry run, and each API.
    commands = " ".join(dry["commands"])
    for name in made["created"]:
        if not name.startswith("file "):
            assert name.split()[-1] in commands, name
    assert bootstrap("--emulator", checkout.url)["created"] == []
    assert (
        (checkout.folder / "Pulumi.dev.yaml").read_text().startswith(f"secretsprovider: gcpkms://{made['stateKey']}\n")
    )
    address = f"{checkout.url}/storage/v1/b/{made['stateBucket']}"
    httpx.patch(address, json={"versioning": {"enabled": False}}, trust_env=False, timeout=120).raise_for_status()
    assert bootstrap("--emulator", checkout.url)["created"] == [f"bucket {made['stateBucket']}: versioning"]
    bucket = httpx.get(address, trust_env=False, timeout=120).json()
    assert bucket["versioning"] == {"enabled": True}
    assert bucket["iamConfiguration"]["publicAccessPrevention"] == "enforced"
    assert f"gcpkms://{made['stateKey']}" in made["next"][1]
    assert all(str(checkout.folder) in line for line in made["next"][1:])


def test_bootstrap_goes_on_where_it_was_cut_off(checkout: Checkout) -> None:
    """Its own requests are refused half-way; the next run makes the rest."""
    where = ["--stack", "dev", "--directory", str(checkout.folder), "--project", checkout.project]
    faults = {"faults": ["cryptoKeys.create:status=503,times=1"]}
    httpx.post(f"{checkout.url}/_emulator/faults", json=faults, trust_env=False, timeout=120).raise_for_status()
    try:
        failed = automation("bootstrap", *where, "--emulator", checkout.url)["error"]
    finally:
        httpx.delete(f"{checkout.url}/_emulator/faults", trust_env=False, timeout=120)
    assert "503" in failed["message"]
    assert not (checkout.folder / "Pulumi.dev.yaml").exists()
    made = automation("bootstrap", *where, "--emulator", checkout.url)["result"]["created"]
    assert made == ["key state", "file Pulumi.dev.yaml"]


def test_bootstrap_puts_no_state_into_a_bucket_of_others(checkout: Checkout) -> None:
    name = f"{checkout.project}-pulumi-state"
    theirs = f"{checkout.url}/storage/v1/b?project=somebody-else"
    httpx.post(theirs, json={"name": name}, trust_env=False, timeout=120).raise_for_status()
    where = ["--stack", "dev", "--directory", str(checkout.folder), "--project", checkout.project]
    refused = automation("bootstrap", *where, "--emulator", checkout.url)["error"]
    assert f"bucket {name} is there already, and is not of project {checkout.project}" in refused["message"]
    assert "PULUMI_BACKEND_URL" in refused["hint"]


@pytest.mark.parametrize("verb", ["preview", "up", "destroy", "outputs", "refresh"])
def test_without_an_engine_it_is_said_how_to_get_one(verb: str) -> None:
    done = runner(verb, "--stack", "dev", "--yes")
    assert done.returncode == 9
    assert "https://www.pulumi.com/docs/install/" in done.stderr
    assert "--embedded" in done.stderr


def test_an_unknown_stack_names_those_that_are_there() -> None:
    done = runner("graph", "--stack", "production", "--format", "json")
    assert done.returncode == 2
    error = json.loads(done.stderr)["error"]
    assert "stacks there: dev, local, prod" in error["message"]


def test_all_mistakes_of_a_stack_are_reported(tmp_path: Path) -> None:
    shutil.copy(ROOT / "Pulumi.yaml", tmp_path)
    text = (
        "config:\n  gcp:project: demo-project\n  open-model-tuning:labells: x\n  open-model-tuning:softDeleteDays: 3\n"
    )
    (tmp_path / "Pulumi.dev.yaml").write_text(text)
    done = runner("iam", "--directory", str(tmp_path), "--format", "json")
    assert done.returncode == 2
    assert len(json.loads(done.stderr)["error"]["problems"]) == 2
    (tmp_path / "Pulumi.dev.yaml").write_text("config: [")
    assert "error" in automation("iam", "--stack", "dev", "--directory", str(tmp_path))


def test_a_folder_without_a_project_has_the_command_that_writes_one(tmp_path: Path) -> None:
    folder = tmp_path / "my stacks"
    error = automation("graph", "--stack", "dev", "--directory", str(folder))["error"]
    assert error["message"] == f"there is no Pulumi.yaml in {folder}"
    assert error["hint"] == f"run `runner infra init '{folder}' --stack dev` to create one"


def test_embedded_needs_an_emulator(tmp_path: Path) -> None:
    done = runner("up", "--stack", "local", "--embedded", RUNNER_STATE_DIR=str(tmp_path))
    assert done.returncode == 69
    assert "runner emulator start" in done.stderr


def test_the_graph_and_the_permissions_need_nothing() -> None:
    drawn = runner("graph", "--stack", "prod")
    assert drawn.returncode == 0, drawn.stderr
    assert drawn.stdout.startswith("flowchart LR")
    grants = automation("iam", "--stack", "prod")["result"]["grants"]
    wanted = {"who": "gcp-sa-vertex-moss-ft", "role": "roles/storage.objectUser", "on": "bucket my-tuning-prod-images"}
    assert wanted in grants


def test_a_dry_run_prints_commands_that_a_shell_takes() -> None:
    text = str(automation("up", "--stack", "prod", "--dry-run")["result"]["text"])
    lines = text.splitlines()
    assert any(line.startswith("gcloud storage buckets create gs://my-tuning-prod-datasets ") for line in lines)
    assert any("gcp-sa-vertex-moss-ft" in line and "roles/storage.objectUser" in line for line in lines)
    checked = subprocess.run(["bash", "-n"], input=text, capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stderr


def test_the_doctor_finds_what_is_missing() -> None:
    done = runner("doctor", "--stack", "prod", "--format", "json", HOME="/nonexistent")
    assert done.returncode == 1
    checks = {item["check"]: item["status"] for item in json.loads(done.stdout)["checks"]}
    assert (checks["engine"], checks["credentials"]) == ("missing", "missing")
    done = runner("doctor", "--stack", "local", "--format", "json", HOME="/nonexistent")
    assert {"stack local": "ok"}.items() <= {
        item["check"]: item["status"] for item in json.loads(done.stdout)["checks"]
    }.items()


def test_the_doctors_commands_work_on_the_folder_that_it_looked_at(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("PULUMI_BACKEND_URL", "PULUMI_CONFIG_PASSPHRASE", "PULUMI_CONFIG_PASSPHRASE_FILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    folder = tmp_path / "my stacks"
    folder.mkdir()
    shutil.copy(ROOT / "Pulumi.yaml", folder)
    (folder / "Pulumi.beta.yaml").write_text("config:\n  gcp:project: acme-ml-beta\n")
    checks = automation("doctor", "--stack", "beta", "--directory", str(folder))["result"]["checks"]
    hints = {item["check"]: item["hint"] for item in checks}
    bootstrap = f"`runner infra bootstrap --stack beta --directory '{folder}'`"
    assert (hints["state"], hints["secrets"]) == (f"{bootstrap} makes a bucket", f"{bootstrap} makes a key")


def test_the_doctor_knows_a_stacks_own_token_and_a_machine_of_googles(tmp_path: Path) -> None:
    def credentials(stack: str, **variables: str) -> Any:
        done = runner("doctor", "--stack", stack, "--format", "json", HOME=str(tmp_path), **variables)
        return next(item for item in json.loads(done.stdout)["checks"] if item["check"] == "credentials")

    assert credentials("local")["detail"] == "an emulator's"
    assert credentials("prod")["status"] == "missing"

    class Metadata(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            known = self.headers.get("Metadata-Flavor") == "Google" and self.path.endswith("/default/email")
            self.send_response(200 if known else 403)
            self.end_headers()
            self.wfile.write(b"tuning-preview@p.iam.gserviceaccount.com")

        def log_message(self, format: str, *args: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Metadata) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        host = f"127.0.0.1:{server.server_address[1]}"
        found = credentials("prod", NO_GCE_CHECK="", GCE_METADATA_HOST=host)
        server.shutdown()
    assert (found["status"], found["detail"]) == ("ok", "tuning-preview@p.iam.gserviceaccount.com, of this machine")


def test_bootstrap_settles_a_stack_file_that_is_there(checkout: Checkout) -> None:
    shutil.copy(ROOT / "Pulumi.prod.yaml", checkout.folder)
    where = ["--stack", "prod", "--directory", str(checkout.folder), "--project", checkout.project]
    made = automation("bootstrap", *where, "--emulator", checkout.url)["result"]
    text = (checkout.folder / "Pulumi.prod.yaml").read_text()
    assert f"gcp:project: {checkout.project}\n" in text
    assert f"open-model-tuning:stateBucket: {made['stateBucket']}\n" in text
    assert f"open-model-tuning:stateKey: {made['stateKey']}\n" in text
    assert text.startswith(f"secretsprovider: gcpkms://{made['stateKey']}\n# An example of a stack")
    assert "my-tuning-prod-" not in text
    assert "file Pulumi.prod.yaml: project, region, state" in made["created"]
    assert automation("bootstrap", *where, "--emulator", checkout.url)["result"]["created"] == []


def test_the_example_names_the_bucket_that_bootstrap_makes() -> None:
    from infra.stack_files import configuration

    config = configuration("prod")
    made = automation("bootstrap", "--stack", "prod", "--dry-run")["result"]
    assert config["open-model-tuning:stateBucket"] == made["stateBucket"]
    assert config["open-model-tuning:stateKey"] == made["stateKey"]
    documents = [ROOT / "docs/infrastructure.md", *(ROOT / "deploy").rglob("*.yaml")]
    named = {name for file in documents for name in re.findall(r"my-tuning-prod-[a-z-]*state\b", file.read_text())}
    assert named == {made["stateBucket"]}


def test_a_local_stack_is_found_by_commands_without_options(tmp_path: Path) -> None:
    """`up` first and `provision` second, and the other way round: no address, project or document is named."""
    state = {"RUNNER_STATE_DIR": str(tmp_path / "state")}

    def command(*arguments: str) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [sys.executable, "-m", "runner", *arguments],
            capture_output=True, text=True, check=False, timeout=200, cwd=tmp_path, env={**os.environ, **state},
            stdin=subprocess.DEVNULL,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return done

    shutil.copy(ROOT / "Pulumi.yaml", tmp_path)
    shutil.copy(ROOT / "Pulumi.local.yaml", tmp_path)
    command("emulator", "start", "--port", "0", "--stand-in", "tiny")
    try:
        command("infra", "up", "--stack", "local", "--embedded", "--directory", str(tmp_path))
        found = json.loads(command("environment", "show", "--format", "json").stdout)
        assert "local-project-outputs" in json.dumps(found)
        command("emulator", "provision")
        again = command("infra", "up", "--stack", "local", "--embedded", "--directory", str(tmp_path))
        assert "0 created, 0 updated, 0 deleted" in again.stdout
    finally:
        command("emulator", "reset", "--yes")
