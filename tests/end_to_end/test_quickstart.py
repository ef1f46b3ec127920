"""`runner quickstart --fast` as a newcomer runs it: nothing set, nothing left behind."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.training


def test_the_whole_way_with_a_tiny_model(tmp_path: Path) -> None:
    home = tmp_path / "home"
    temporary = tmp_path / "tmp"
    home.mkdir()
    temporary.mkdir()
    variables = {**os.environ, "HOME": str(home), "TMPDIR": str(temporary), "COLUMNS": "60"}
    variables.pop("XDG_STATE_HOME", None)
    variables["XDG_CACHE_HOME"] = os.environ.get("XDG_CACHE_HOME", str(Path.home() / ".cache"))
    done = subprocess.run(
        [sys.executable, "-m", "runner", "quickstart", "--fast", "--format", "json"],
        capture_output=True,
        text=True,
        env=variables,
        cwd=tmp_path,
        timeout=400,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    body = json.loads(done.stdout)
    tuned_right = sum(answer["tuned"] == answer["reference"] for answer in body["answers"])
    base_right = sum(answer["base"] == answer["reference"] for answer in body["answers"])
    assert tuned_right >= len(body["answers"]) - 1, body["answers"]
    assert base_right == 0
    assert sum(answer["completed"] == answer["reference"] for answer in body["answers"]) >= len(body["answers"]) - 1
    assert "standing in for" in body["weights"] or "stand" in body["weights"].lower()
    assert body["job"]["state"] == "JOB_STATE_SUCCEEDED"
    assert body["estimate"]["usd"]["expected"] > 0
    assert "1. " in done.stderr
    assert "loss" in done.stderr
    assert "\x1b" not in done.stderr
    assert list(temporary.iterdir()) == [], "the state of the quickstart is removed"
    assert not (home / ".local" / "state" / "open-model-tuning").exists()
    running = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=False).stdout
    assert str(temporary) not in running, "no process outlives it"
