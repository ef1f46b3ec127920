"""Values of the example stacks never reach Google Cloud."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from infra.settings.examples import example_values
from infra.stack_files import ROOT, configuration

OWN = {"environment", "labels", "extraRegions", "softDeleteDays", "noncurrentVersionDays", "budgetAmount"}
OWN |= {"budgetCurrency", "dataAccessAudit", "region", "idleGuard", "forceDestroy", "emulator"}
"""Settings of the example stacks that suit anybody."""


@pytest.mark.parametrize("stack", ["dev", "prod"])
def test_every_name_in_an_example_is_known_as_one(stack: str) -> None:
    values = configuration(stack)
    found = set(example_values(values))
    assert {key for key in values if key.split(":")[1] not in OWN} - found == set()
    assert "gcp:project" in found


def test_names_of_ones_own_are_no_examples() -> None:
    values = {
        "gcp:project": "acme-tuning",
        "open-model-tuning:notificationEmails": '["ml@acme.com"]',
        "open-model-tuning:githubRepositoryId": "8",
    }
    assert example_values(values) == {}


def _automation(*arguments: str) -> subprocess.CompletedProcess[str]:
    # Nothing listens there: whatever asked for Google would fail otherwise.
    nowhere = {"HTTPS_PROXY": "http://127.0.0.1:9", "HTTP_PROXY": "http://127.0.0.1:9"}
    return subprocess.run(
        [sys.executable, "-m", "runner", "--json", "infra", *arguments],
        capture_output=True, text=True, check=False, timeout=200, cwd=ROOT,
        env={**os.environ, **nowhere}, stdin=subprocess.DEVNULL,
    )  # fmt: skip


def test_bootstrap_refuses_an_examples_values_before_it_makes_anything(tmp_path: Path) -> None:
    for name in ("Pulumi.yaml", "Pulumi.prod.yaml"):
        shutil.copy(ROOT / name, tmp_path)
    done = _automation("bootstrap", "--stack", "prod", "--directory", str(tmp_path), "--project", "acme-ml")
    assert done.returncode == 2, done.stderr
    error = json.loads(done.stderr.splitlines()[-1])["error"]
    named = {problem.split(": ", 1)[-1].split()[0] for problem in error["problems"]}
    assert {"open-model-tuning:billingAccount", "open-model-tuning:notificationEmails"} <= named
    assert not named & {"gcp:project", "open-model-tuning:stateBucket", "open-model-tuning:stateKey"}
    assert (tmp_path / "Pulumi.prod.yaml").read_text() == (ROOT / "Pulumi.prod.yaml").read_text()


def test_doctor_says_that_an_example_is_not_ready(tmp_path: Path) -> None:
    for name in ("Pulumi.yaml", "Pulumi.dev.yaml"):
        shutil.copy(ROOT / name, tmp_path)
    done = _automation("doctor", "--stack", "dev", "--directory", str(tmp_path))
    assert done.returncode == 1
    (found,) = [item for item in json.loads(done.stdout)["checks"] if item["check"] == "stack dev"]
    assert (found["status"], "my-tuning-dev" in found["detail"]) == ("wrong", True)
