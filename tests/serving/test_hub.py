"""Weights pushed to a hub by its own client: private, once, never over anything else, and on after a kill."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from runner.serving.export import INSTRUCTIONS
from tests.cli.invocation import CommandLine, process
from tests.projects import Tuned
from tests.serving.hub_server import HubServer
from tests.serving.test_leases import _variables

COMMAND = [sys.executable, "-m", "tests.serving.pushing"]


@pytest.fixture
def hub() -> Iterator[HubServer]:
    with HubServer() as server:
        yield server


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    directory = tmp_path / "weights"
    (directory / "adapter").mkdir(parents=True)
    (directory / ".cache").mkdir()
    for name, content in {
        "model.safetensors": b"m" * 5000,
        "adapter/adapter_model.safetensors": b"a" * 3000,
        "config.json": b"{}",
        "empty.txt": b"",
        INSTRUCTIONS: b"# Running these weights\n",
        ".cache/private": b"no",
    }.items():
        (directory / name).write_bytes(content)
    (directory / "link").symlink_to("/etc/passwd")
    return directory


def _push(hub: HubServer, *words: str, **variables: str) -> tuple[int, dict[str, Any]]:
    done = subprocess.run(
        [*COMMAND, *words],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        env={**os.environ, **hub.variables(), **variables},
        cwd=Path(__file__).parents[2],
    )
    assert done.stdout, done.stderr
    assert "hf_test" not in done.stdout + done.stderr
    return done.returncode, json.loads(done.stdout.splitlines()[-1])


def test_a_repository_is_private_and_nothing_in_it_is_overwritten(hub: HubServer, weights: Path) -> None:
    code, first = _push(hub, str(weights), "me/model")
    assert (code, first["state"]) == (0, "new")
    repository = hub.repositories["me/model"]
    assert repository.private
    names = {"README.md", "model.safetensors", "adapter/adapter_model.safetensors", "config.json", "empty.txt"}
    assert set(repository.files) == set(first["files"]) == names
    assert first["address"].endswith(repository.commits[-1])

    code, again = _push(hub, str(weights), "me/model")
    assert (code, again["state"], len(repository.commits)) == (0, "done", 2)

    (weights / "config.json").write_bytes(b'{"a": 1}')
    code, refused = _push(hub, str(weights), "me/model")
    assert (code, refused["code"]) == (2, "configuration")
    assert "holds other files: config.json" in refused["message"]
    code, refused = _push(hub, str(weights), "me/model", "--public")
    assert (code, refused["message"]) == (2, "me/model exists and is private, but should be public")
    assert len(repository.commits) == 2


def test_a_push_that_was_killed_goes_on(hub: HubServer, weights: Path) -> None:
    hub.stall_after = 1
    child = subprocess.Popen(
        [*COMMAND, str(weights), "me/model"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env={**os.environ, **hub.variables()},
        cwd=Path(__file__).parents[2],
    )
    assert hub.stalled.wait(60)
    child.send_signal(signal.SIGKILL)
    child.wait(30)
    assert hub.repositories["me/model"].files == {}, "nothing is seen before all is there"
    hub.stall_after = None
    code, done = _push(hub, str(weights), "me/model")
    assert (code, done["state"]) == (0, "empty")
    assert len(hub.sent) == len(set(hub.sent)) == 2, "what had arrived is not sent again"
    assert len(hub.repositories["me/model"].files) == 5


def test_what_a_hub_refuses_is_said(hub: HubServer, weights: Path) -> None:
    code, error = _push(hub, str(weights), "me/model", HF_TOKEN="hf_wrong")
    assert (code, error["code"]) == (2, "configuration")
    assert "HF_TOKEN" in error["hint"]
    code, error = _push(hub, str(weights), "model", "me/..")
    assert (code, error["code"]) == (2, "configuration")
    assert "is not a repository name" in error["message"]
    assert hub.repositories == {}
    hub.failing = 503
    code, error = _push(hub, str(weights), "me/model")
    assert (code, error["code"], error["hint"]) == (69, "unreachable", "run the same command again to continue")
    code, error = _push(hub, str(weights), "me/model", HF_ENDPOINT="http://127.0.0.1:9")
    assert (code, error["code"]) == (69, "unreachable")
    code, error = _push(hub, str(weights), "me/model", HF_HUB_OFFLINE="1")
    assert (code, "HF_HUB_OFFLINE" in error["hint"]) == (2, True)


@pytest.mark.training
def test_an_export_is_pushed_after_asking(
    tuned: Tuned, state: Path, tmp_path: Path, hub: HubServer, run: CommandLine
) -> None:
    assert run("checkpoints", "export", "1", "--public").code == 2
    target = tmp_path / "tuned"
    words = ["checkpoints", "export", tuned.job.id, "--to", str(target), "--push", "me/tuned", "--format", "json"]
    variables = {**_variables(tuned, state), **hub.variables()}
    outcome = process(*words, stdin="", timeout=120, **variables)
    assert (outcome.code, outcome.error["code"]) == (7, "cost_refused")
    assert "visible only to you" in outcome.err
    assert hub.repositories == {}
    outcome = process(*words, "--yes", stdin="", timeout=120, **variables)
    assert outcome.code == 0, outcome.err
    assert outcome.document["push"]["commit"].startswith(hub.url)
    there = hub.repositories["me/tuned"].files
    assert {"README.md", "model.safetensors", "tokenizer.json", "config.json"} <= set(there)
    assert INSTRUCTIONS not in there
