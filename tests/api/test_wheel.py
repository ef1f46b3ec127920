"""The wheel: it installs one top-level package, and the Pulumi program runs from it in anybody's directory."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import yaml

from runner.emulator.server import EmulatorServer
from tests.wheel import search_path


@pytest.fixture
def hostile(tmp_path: Path) -> Path:
    """An empty directory but for a package `infra` and a module that leave a mark when they are imported."""
    folder = tmp_path / "work"
    (folder / "infra").mkdir(parents=True)
    for name in ("infra/__init__.py", "infra/__main__.py", "infra/automation.py", "pulumi.py", "json.py"):
        (folder / name).write_text(f"open({str(tmp_path / 'executed')!r}, 'a').write({name!r})\n")
    return folder


def _run(installed: Path, folder: Path, *arguments: str, status: int = 0, state: Path | None = None) -> str:
    """Run a command line of the installed wheel with the packages of this environment, not those of this checkout."""
    code = f"from runner.cli.main import main; main({list(arguments)!r})"
    variables = {
        **os.environ,
        "PYTHONPATH": search_path(installed),
        "RUNNER_STATE_DIR": str(state or folder.parent / "state"),
        "PYTHONNOUSERSITE": "1",
    }
    done = subprocess.run(
        [sys.executable, "-P", "-c", code], cwd=folder, env=variables, capture_output=True, text=True, check=False
    )
    assert done.returncode == status, done.stderr
    return done.stdout


def test_it_installs_one_package_with_its_types(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        [metadata] = [name for name in names if name.endswith("/METADATA")]
        text = archive.read(metadata).decode()
    data = metadata.split("/")[0].replace(".dist-info", ".data")
    assert {name.split("/")[0] for name in names} == {"runner", metadata.split("/")[0], data}
    assert [name for name in names if name.startswith(data)] == [f"{data}/data/share/man/man1/runner.1"]
    assert "runner/py.typed" in names
    assert "runner/infrastructure/program/infra/__main__.py" in names
    assert "Classifier: Typing :: Typed" in text


def test_the_program_runs_from_the_wheel_in_a_hostile_directory(installed: Path, hostile: Path) -> None:
    _run(installed, hostile, "infra", "init", "stacks", "--project", "acme-ml")
    graph = json.loads(_run(installed, hostile, "infra", "graph", "--directory", "stacks", "--format", "json"))
    assert graph["graph"]["outputs"]["environment"]["buckets"]
    assert not hostile.with_name("executed").exists()
    ours = subprocess.run(
        [sys.executable, "-P", "-c", "import runner; print(runner.__file__)"],
        cwd=hostile,
        env={**os.environ, "PYTHONPATH": str(installed)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert ours.stdout.startswith(str(installed))


def test_provision_runs_from_the_wheel_in_a_hostile_directory(installed: Path, hostile: Path) -> None:
    _run(installed, hostile, "emulator", "start", "--port", "0", "--stand-in", "tiny")
    try:
        made = json.loads(_run(installed, hostile, "emulator", "provision", "--format", "json"))
    finally:
        _run(installed, hostile, "emulator", "stop")
    assert made["buckets"]["datasets"]
    assert not hostile.with_name("executed").exists()


def test_a_project_without_a_clone_starts_the_installed_program(
    installed: Path, tmp_path: Path, emulator: EmulatorServer
) -> None:
    project = tmp_path / "project"
    _run(installed, tmp_path, "infra", "init", str(project), "--project", "acme-ml")
    body = yaml.safe_load((project / "Pulumi.yaml").read_text())
    assert body["main"] == "infra/"
    assert body["runtime"]["options"]["virtualenv"] == sys.prefix
    code = "import runpy; runpy.run_path('infra', run_name='__main__')"  # as the engine's language host does
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=project,
        env={**os.environ, "PYTHONPATH": str(installed)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert str(installed / "runner" / "infrastructure" / "program" / "infra") in done.stderr
    assert "gcp:project" in done.stderr


def test_it_has_every_document_that_a_message_names(installed: Path, hostile: Path) -> None:
    assert "over-length (warning of a dataset)" in _run(installed, hostile, "explain", "over-length")
    assert "cost_refused" in _run(installed, hostile, "explain", "7")
    assert _run(installed, hostile, "explain", "faults").startswith("# Faults")
    names = json.loads(_run(installed, hostile, "explain", "--json"))
    assert {"errors", "contexts", "emulator"} <= {item["name"] for item in names}
    assert not hostile.with_name("executed").exists()


def test_an_empty_folder_becomes_a_plan(installed: Path, hostile: Path) -> None:
    """From `runner init` to `runner plan`, with nothing but the wheel and its extras."""
    project = hostile / "new"
    _run(installed, hostile, "init", "new", "--yes")
    _run(installed, hostile, "emulator", "start", "--port", "0", "--stand-in", "tiny")
    try:
        _run(installed, hostile, "emulator", "provision")
        report = _run(installed, project, "plan", "-f", "jobs/", "--json", status=2, state=hostile.parent / "state")
    finally:
        _run(installed, hostile, "emulator", "stop")
    (job,) = json.loads(report)["jobs"]
    assert (job["name"], job["action"]) == ("new", "create")
    assert not hostile.with_name("executed").exists()


@pytest.mark.training
def test_the_quickstart_runs_from_the_wheel(installed: Path, hostile: Path) -> None:
    body = json.loads(_run(installed, hostile, "quickstart", "--fast", "--json"))
    assert body["job"]["state"] == "JOB_STATE_SUCCEEDED"
    assert any(answer["tuned"] == answer["reference"] for answer in body["answers"])
    assert not hostile.with_name("executed").exists()


def test_pytest_finds_the_fixtures(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        (name,) = [name for name in archive.namelist() if name.endswith("entry_points.txt")]
        assert "[pytest11]\nopen-model-tuning = runner.testing.plugin" in archive.read(name).decode()
