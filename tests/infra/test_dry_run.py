"""What a dry run prints is run by the real gcloud against an emulator, and makes what the program makes."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from infra.automation.gcloud import commands
from infra.automation.gcloud.writers import WRITERS
from infra.embedded import apply
from infra.evaluation import NUMBER, evaluate
from runner.emulator.server import EmulatorServer
from tests.infra.evaluation import EVERYWHERE, FULL, LOCAL, MINIMAL, PRODUCTION
from tests.infra.stack_sweep import inventory

STACKS = {"minimal": MINIMAL, "full": FULL, "production": PRODUCTION, "everywhere": EVERYWHERE, "local": LOCAL}
SERVICES = {
    "CLOUDRESOURCEMANAGER": "",
    "STORAGE": "storage/v1/",
    "IAM": "",
    "SERVICEUSAGE": "",
    "AIPLATFORM": "",
    "CLOUDKMS": "kms/",
}


@pytest.mark.parametrize("name", STACKS)
def test_a_dry_run_leaves_nothing_out_and_makes_nothing_up(name: str) -> None:
    evaluation = evaluate(STACKS[name])
    lines = commands(evaluation)
    text = "\n".join(lines)
    assert NUMBER not in text
    assert "idle-guard.example.com" not in text
    assert "projects/PROJECT/" not in text
    for item in evaluation.resources:
        if item.custom and not item.type.startswith("pulumi:"):
            assert any(item.type.endswith(kind) for kind in WRITERS), item.type
    checked = subprocess.run(["bash", "-n"], input=text, capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stderr


def test_what_the_shell_looks_up_is_quoted_for_it(tmp_path: Path) -> None:
    """Each line runs with a `gcloud` that prints its arguments: what arrives has no quotes and no `$` left in it."""
    lines = commands(evaluate(FULL))
    script = (
        "gcloud() { case \"$*\" in *describe*projects*|'projects describe'*) echo 42;; *channels\\ list*) echo CH;; "
        "*functions\\ describe*) echo https://f;; *) printf '%s\\n' \"$@\" >&3;; esac; }\n"
        "sh() { :; }; python() { :; }\n" + "\n".join(lines)
    )
    done = subprocess.run(
        ["bash", "-e", "-c", f"exec 3>&1; {script}"],
        capture_output=True,
        text=True,
        check=False,
        input="",
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    assert "$(" not in done.stdout
    assert "${" not in done.stdout
    assert "--member=serviceAccount:service-42@gcp-sa-vertex-moss-ft.iam.gserviceaccount.com" in done.stdout
    assert "--uri=https://f" in done.stdout
    assert "--notifications-rule-monitoring-notification-channels=CH" in done.stdout


@pytest.mark.skipif(shutil.which("gcloud") is None, reason="needs gcloud on PATH")
def test_gcloud_makes_what_the_program_makes(emulator: EmulatorServer, tmp_path: Path) -> None:
    project, other = f"gcloud-{os.getpid()}", f"program-{os.getpid()}"
    config: dict[str, Any] = {"gcp:project": project, "gcp:region": "us-central1"}
    lines = commands(evaluate({**config, "open-model-tuning:idleGuard": "false"}))
    text = "set -e\n" + "\n".join(lines)
    # The only request that is not gcloud's own.
    text = text.replace("https://workloadidentity.googleapis.com/v1/", f"{emulator.url}/workloadidentity/v1/")
    (tmp_path / "token").write_text("emulator")
    variables = {
        **os.environ,
        "CLOUDSDK_CONFIG": str(tmp_path / "gcloud"),
        "CLOUDSDK_AUTH_ACCESS_TOKEN_FILE": str(tmp_path / "token"),
        "CLOUDSDK_CORE_DISABLE_PROMPTS": "1",
        "CLOUDSDK_CORE_DISABLE_USAGE_REPORTING": "true",
        "CLOUDSDK_COMPONENT_MANAGER_DISABLE_UPDATE_CHECK": "true",
        **{f"CLOUDSDK_API_ENDPOINT_OVERRIDES_{name}": f"{emulator.url}/{path}" for name, path in SERVICES.items()},
    }
    done = subprocess.run(
        ["bash", "-c", text], env=variables, capture_output=True, text=True, check=False, timeout=580, cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr[-3000:]
    local = {"forceDestroy": "false", "idleGuard": "false"}
    state = tmp_path / "state.json"
    apply(emulator.url, project=other, location="us-central1", config=local, state=state, stack="test")
    assert _comparable(inventory(emulator.url, project)) == _comparable(inventory(emulator.url, other))


def _comparable(found: Any) -> Any:
    """Leave out the label that the provider alone puts on what it makes."""
    return json.loads(json.dumps(found).replace('"goog-pulumi-provisioned": "true", ', ""))
