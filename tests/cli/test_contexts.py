"""Where commands act: contexts, the target in the first line and in every question, and no silent way to Google."""

from __future__ import annotations

import json
from pathlib import Path

import click
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from runner.cli.main import root
from runner.cli.reference import walk
from runner.environment import contexts, resolve
from runner.environment.targets import Target
from runner.errors import ConfigurationError, RunnerError, UnreachableError
from tests.cli.invocation import CommandLine
from tests.provisioning import Provisioned

READING = {
    *("quickstart", "use", "context ls", "context add", "context show", "context rm", "environment show", "doctor"),
    *("models ls", "models show", "schema", "plan", "drift", "queue ls", "estimate", "predict", "chat"),
    *("data check", "data stats", "data preview", "data report", "data fix", "data split", "data convert"),
    *("jobs ls", "jobs show", "jobs watch", "jobs wait", "jobs why", "jobs logs", "jobs metrics", "jobs export"),
    *("bill", "console", "init", "open", "explain", "completion"),
    *("jobs diff", "jobs compare", "checkpoints ls", "checkpoints download", "checkpoints export"),
    *("endpoints ls", "endpoints show", "endpoints check"),
}
"""What changes nothing where it acts, and costs nothing that is not running already. Every other command names the
target; those of the emulator and of the infrastructure name what they act on themselves."""


def test_every_command_that_changes_something_names_the_target() -> None:
    commands = {
        path.removeprefix("runner "): command
        for path, command, _ in walk(root, None, "runner")
        if not isinstance(command, click.Group)
    }
    changing = {path for path, command in commands.items() if getattr(command, "changes", False)}
    own = {path for path in commands if path.startswith(("emulator ", "infra "))}

    assert changing & READING == set()
    assert set(commands) - changing - own - READING == set()


def test_the_first_line_names_the_target(run: CommandLine, in_project: Provisioned, dataset: Path) -> None:
    words = ("jobs", "submit", "--model", "meta/llama3_1@llama-3.1-8b-instruct", "--train", str(dataset))
    first = f"target: {in_project.project} (emulator, us-central1, nothing is charged)"
    for line in ((*words, "--dry-run"), ("leaks",), ("data", "upload", str(dataset))):
        assert run(*line).err.splitlines()[0] == first, line
    body = json.loads(run("leaks", "--json").err.splitlines()[0])
    assert body["target"] == {
        "project": in_project.project,
        "location": "us-central1",
        "service": "emulator",
        "free": True,
    }
    assert "target" not in run("jobs", "ls").err


@pytest.mark.parametrize(
    ("url", "placeholder", "service"),
    [
        (None, False, "Google Cloud"),
        ("https://us-central1-aiplatform.googleapis.com", False, "Google Cloud"),
        ("http://127.0.0.1:8085", True, "emulator"),
        ("http://localhost:8085", False, "emulator"),
        ("http://emulator:8085", True, "emulator"),
        ("https://private.example.com", False, "https://private.example.com"),
    ],
)
def test_whose_services_they_are(url: str | None, placeholder: bool, service: str) -> None:
    target = Target.at(url, project="p", location="l", placeholder=placeholder)
    assert target.service == service
    assert target.free is (service == "emulator")


def _emulator(state: Path, *, runs: bool) -> Path:
    import os

    directory = state / "emulator"
    directory.mkdir(parents=True, exist_ok=True)
    document = {"version": 1, "project": "local-project", "apiEndpoints": {"vertex": "http://127.0.0.1:1"}}
    (directory / "environment.json").write_text(json.dumps(document))
    (directory / "server.json").write_text(json.dumps({"pid": os.getpid() if runs else 2**30}))
    return directory


@given(
    runs=st.booleans(),
    chosen=st.sampled_from(["", "emulator", "google", "acme"]),
    variables=st.sets(st.sampled_from(["RUNNER_PROJECT", "RUNNER_LOCATION", "RUNNER_CONTEXT"])),
)
@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
def test_google_is_never_reached_because_the_emulator_stopped(
    runs: bool, chosen: str, variables: set[str], tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Whatever else is set: who has an emulator gets to Google Cloud only by saying so."""
    with pytest.MonkeyPatch.context() as patch:
        state = tmp_path_factory.mktemp("state")
        patch.setenv("RUNNER_STATE_DIR", str(state))
        _emulator(state, runs=runs)
        contexts.add(contexts.Context(name="acme", project="acme-ml", location="us-central1"))
        if chosen:
            contexts.use(chosen)
        values = {"RUNNER_PROJECT": "other", "RUNNER_LOCATION": "europe-west4", "RUNNER_CONTEXT": "emulator"}
        for name in variables:
            patch.setenv(name, values[name])
        wanted = "emulator" if "RUNNER_CONTEXT" in variables else chosen or "emulator"
        if wanted == "emulator" and not runs:
            with pytest.raises(UnreachableError) as caught:
                resolve({})
            assert "runner use google" in str(caught.value.hint)
        else:
            assert resolve({}).target.free is (wanted == "emulator")


def test_a_flag_beats_a_variable_beats_a_context(state_directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    contexts.add(contexts.Context(name="acme", project="acme-ml", location="us-central1"))
    contexts.add(contexts.Context(name="beta", project="beta-ml"))
    contexts.use("acme")
    assert (resolve({}).project, resolve({}).context) == ("acme-ml", "acme")
    assert resolve({}).sources["project"] == "context acme"
    monkeypatch.setenv("RUNNER_CONTEXT", "beta")
    assert resolve({}).project == "beta-ml"
    assert resolve({"context": "acme"}).project == "acme-ml"
    monkeypatch.setenv("RUNNER_PROJECT", "by-variable")
    assert resolve({}).project == "by-variable"
    assert resolve({"project": "by-flag"}).project == "by-flag"
    with pytest.raises(ConfigurationError, match="either --environment or --context"):
        resolve({"context": "acme", "environment": "x.json"})
    with pytest.raises(ConfigurationError, match="no context is called 'gamma'"):
        resolve({"context": "gamma"})


def test_contexts_are_added_used_shown_and_removed(run: CommandLine, tmp_path: Path) -> None:
    (tmp_path / "environment.json").write_text(json.dumps({"version": 1, "project": "acme-ml"}))
    added = run("context", "add", "production", "--environment", str(tmp_path / "environment.json"))
    assert (added.code, added.out) == (0, f"added production ({tmp_path / 'environment.json'})\n")
    assert run("use", "production").code == 0
    listed = run("context", "ls", "--json").document
    assert [item["name"] for item in listed if item["current"]] == ["production"]
    assert run("context", "show", "--json").document["project"] == "acme-ml"
    assert run("context", "show", "google", "--project", "beta", "--json").document["service"] == "Google Cloud"
    twice = run("context", "add", "production", "--project", "p")
    assert twice.err == "error: a context called 'production' exists\nhint: `runner context rm production` removes it\n"
    assert twice.code == 2
    for name in ("emulator", "google", "Has Space", ""):
        assert run("context", "add", name, "--project", "p").code == 2, name
    assert run("context", "add", "empty").code == 2
    assert run("context", "rm", "production").code == 0
    assert run("use", "production").code == 2
    assert contexts.load().current == ""
    assert "`runner context ls`" in run("context", "rm", "production").err
    for name in ("emulator", "Has Space"):
        assert "`runner context add NAME " in run("context", "add", name, "--project", "p").err
    sources = run("context", "show", "--context", "google", "--project", "acme-ml", "--json").document["sources"]
    assert not [key for key in sources if "_" in key]


def test_a_damaged_file_is_named(state_directory: Path) -> None:
    state_directory.mkdir()
    (state_directory / "contexts.json").write_text("{")
    with pytest.raises(RunnerError, match=r"contexts\.json cannot be read"):
        resolve({})
