"""Whoever stops `runner infra …` twice is told what that does. A script that gets both signals is the engine here."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.infra.test_engine_failures import ROOT, program

ENGINE = """
case "$1" in
  version) echo v3.274.1 ;;
  refresh)
    trap 'echo stopped >> "$STOPS"; [ "$(wc -l < "$STOPS")" = 2 ] && exit 255' INT
    touch "$STOPS"
    while :; do sleep 0.05; done
    ;;
  *) echo '{"version": 3, "deployment": {"resources": []}}' ;;
esac
"""


def reach(process: subprocess.Popen[str], stops: Path, count: int) -> None:
    """Wait until the engine has been stopped so often."""
    while process.poll() is None and not (stops.exists() and len(stops.read_text().splitlines()) == count):
        time.sleep(0.02)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_second_stop_says_what_it_means(number: signal.Signals, tmp_path: Path) -> None:
    program(tmp_path / "bin", ENGINE)
    for name in ("Pulumi.yaml", "Pulumi.local.yaml"):
        shutil.copy(ROOT / name, tmp_path)
    (tmp_path / "infra").symlink_to(ROOT / "infra")
    (tmp_path / "state").mkdir()
    stops = tmp_path / "stops"
    variables = {
        **os.environ,
        "PATH": f"{tmp_path / 'bin'}:/usr/bin:/bin",
        "STOPS": str(stops),
        "PULUMI_BACKEND_URL": f"file://{tmp_path / 'state'}",
        "PULUMI_CONFIG_PASSPHRASE": "test",
    }
    command = [sys.executable, "-m", "runner", "infra", "refresh", "--stack", "local", "--yes"]
    process = subprocess.Popen(
        command,
        cwd=tmp_path,
        env=variables,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    reach(process, stops, 0)
    process.send_signal(number)
    reach(process, stops, 1)
    process.send_signal(number)
    said, complained = process.communicate(timeout=120)
    assert process.returncode == 130, said + complained
    first = complained.index("stopping: operations that have started finish first")
    assert first < complained.index("ending at once: the next `up` looks for resources that were being created")
    assert "Traceback" not in complained
