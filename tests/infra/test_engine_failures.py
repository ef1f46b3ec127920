"""What `runner infra` says when the engine fails: in the engine's recorded words, and with the engine where it is."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from infra import stack_files
from infra.automation import installation, invocation
from infra.automation.failures import INSTALL, failure
from infra.automation.invocation import Ended
from runner.errors import ConfigurationError, EngineMissingError

ROOT = Path(__file__).resolve().parents[2]
LOCK = {"pid": 4242, "username": "ci", "hostname": "runner-7", "timestamp": "2026-11-25T10:00:00Z"}

RECORDED = [
    (
        "",
        "the stack is currently locked by 1 lock(s). Either wait for the other process(es) to end or delete the lock "
        "file with `pulumi cancel`.\n  file:///s/x.json: created by ci@runner-7 (pid 4242) at 2026-11-25T10:00:00Z",
        "if that run is not alive any more, `pulumi cancel --stack prod --yes` removes the lock",
    ),
    (
        "",
        "getting stack configuration: get stack secrets manager: incorrect passphrase",
        "not the passphrase that the stack was created with",
    ),
    (
        "",
        "could not create secrets manager for new stack: passphrase must be set with PULUMI_CONFIG_PASSPHRASE or "
        "PULUMI_CONFIG_PASSPHRASE_FILE environment variables",
        "`runner infra bootstrap --stack prod`",
    ),
    ("", 'Pulumi CLI version 3.274.1 does not satisfy the version range ">=99.0.0"', "update the engine"),
    (
        "Previewing update (local):\n",
        "failed to load language plugin python: no language plugin 'pulumi-language-python' found in the workspace or "
        "on your $PATH",
        "install all of Pulumi",
    ),
    (
        "",
        'unable to open state directory "file:///nowhere": stat /nowhere: no such file or directory',
        "PULUMI_BACKEND_URL",
    ),
    (
        "",
        "missing google credentials: unable to find gcp credentials: google: could not find default credentials.",
        "gcloud auth application-default login",
    ),
]
"""What Pulumi 3.274.1 wrote to standard output and error, and what the hint holds."""


@pytest.mark.parametrize(("output", "said", "advice"), RECORDED, ids=[item[1][:20] for item in RECORDED])
def test_an_error_of_the_engine_is_its_own_words_and_what_to_do(output: str, said: str, advice: str) -> None:
    complained = f"warning: using pulumi-language-python from $PATH\nerror: {said}\n"
    error = failure(Ended(255, output, complained), "up", "prod")
    assert error.message == said
    assert advice in str(error.hint)


def test_an_engine_that_says_nothing_is_named_by_its_status() -> None:
    error = failure(Ended(255), "up", "prod")
    assert error.message == "the engine exited with status 255"
    assert "`pulumi stack --stack prod`" in str(error.hint)


ROOT_URN = "urn:pulumi:dev::open-model-tuning::tuning:infra:X$gcp:storage/bucket:Bucket::datasets"
CONFLICT = """  sdk-v2/provider2.go:572: sdk.helper_schema: googleapi: Error 409: You already own it., conflict:
  provider=google-beta@9.35.0
error: 1 error occurred:
\t* googleapi: Error 409: Your previous request to create the named bucket succeeded and you already own it., conflict

"""
UNUSED = (
    "Cloud Resource Manager API has not been used in project 4711 before or it is disabled. Enable it by visiting "
    "https://console.developers.google.com/apis/api/cloudresourcemanager.googleapis.com/overview?project=4711 then "
    "retry. If you enabled this API recently, wait a few minutes for the action to propagate to our systems and retry."
)
"""What Google answers the first request of an `up`, on a project that nobody has bootstrapped."""
EVENTS: list[tuple[dict[str, Any], str, str]] = [
    (
        {
            "diagnosticEvent": {
                "severity": "error",
                "urn": "urn:pulumi:dev::open-model-tuning::pulumi:pulumi:Stack::open-model-tuning-dev",
                "message": "Exception: invoke of gcp:organizations/getProject:getProject failed: invocation of "
                "gcp:organizations/getProject:getProject returned an error: 1 error occurred:\n\t* Error when reading "
                f'or editing Project "fresh": googleapi: Error 403: {UNUSED}, accessNotConfigured\n',
            }
        },
        f"up of stack dev failed: {UNUSED}, accessNotConfigured (403)",
        "run `runner infra bootstrap --stack dev` to enable it",
    ),
    (
        {"diagnosticEvent": {"severity": "error", "urn": ROOT_URN, "message": CONFLICT}},
        "up of stack dev failed: Bucket datasets: Your previous request to create the named bucket succeeded and you "
        "already own it., conflict (409)",
        "it adopts the resources of this stack",
    ),
    (
        {
            "policyEvent": {
                "enforcementLevel": "mandatory",
                "policyName": "labels-required",
                "resourceUrn": ROOT_URN,
                "message": "Buckets have the label `content`.\nhas no label",
            }
        },
        "up of stack dev failed: Bucket datasets: rule labels-required: Buckets have the label `content`. has no label",
        "runner infra doctor --stack dev",
    ),
    (
        {"diagnosticEvent": {"severity": "error", "urn": ROOT_URN, "message": "googleapi: Error 403: Denied: no\n"}},
        "up of stack dev failed: Bucket datasets: Denied: no (403)",
        "docs/iam.md",
    ),
    (
        {
            "diagnosticEvent": {
                "severity": "error",
                "urn": "urn:pulumi:dev::open-model-tuning::pulumi:pulumi:Stack::open-model-tuning-dev",
                "message": "<{%reset%}>the stack's configuration has 2 mistakes<{%reset%}>",
            }
        },
        "up of stack dev failed: the stack's configuration has 2 mistakes",
        "pulumi stack",
    ),
]


@pytest.mark.parametrize(
    ("event", "message", "advice"), EVENTS, ids=["fresh project", "taken", "rule", "denied", "settings"]
)
def test_the_cause_is_in_the_engines_events(event: dict[str, Any], message: str, advice: str) -> None:
    noise = {"diagnosticEvent": {"severity": "error", "message": "update failed"}}
    error = failure(Ended(255, "", "error: update failed", [event, event, noise]), "up", "dev")
    assert error.message == message
    assert advice in str(error.hint)
    assert error.to_json()["problems"] == [message.removeprefix("up of stack dev failed: ")]


def test_who_holds_a_lock_and_whether_that_can_be() -> None:
    holder = f"created by me@{socket.gethostname()} (pid 4194303) at T"
    gone = f"error: the stack is currently locked by 1 lock(s)\n file://x: {holder}"
    error = failure(Ended(255, "", gone), "up", "dev")
    assert "process 4194303" in str(error.hint)
    assert "which is gone: `pulumi cancel --stack dev --yes` removes the lock" in str(error.hint)
    alive = gone.replace("4194303", str(os.getpid()))
    assert "is alive: wait for it" in str(failure(Ended(255, "", alive), "up", "dev").hint)


def program(folder: Path, text: str) -> None:
    folder.mkdir()
    (folder / "pulumi").write_text(f"#!/bin/sh\n{text}\n")
    (folder / "pulumi").chmod(0o755)


@pytest.mark.parametrize("said", ["echo v3.100.0", "echo v2.99.0", "echo nonsense", "exit 3"])
def test_an_engine_that_is_too_old_or_none_at_all_is_refused(
    said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program(tmp_path / "bin", said)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:/usr/bin:/bin")
    with pytest.raises(EngineMissingError, match=r"3\.244 or newer is needed") as caught:
        installation.require()
    assert INSTALL in str(caught.value.hint)


def test_where_the_state_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "Pulumi.yaml").write_text("name: x\n")
    monkeypatch.setenv("PULUMI_HOME", str(tmp_path / "home"))
    for name in ("PULUMI_BACKEND_URL", "PULUMI_ACCESS_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    assert installation.backend(tmp_path) == ""
    (tmp_path / "home").mkdir()
    for text, expected in (("{", ""), ("[]", ""), ('{"current": "gs://logged-in"}', "gs://logged-in")):
        (tmp_path / "home" / "credentials.json").write_text(text)
        assert installation.backend(tmp_path) == expected
    monkeypatch.setenv("PULUMI_BACKEND_URL", "file:///state")
    assert installation.backend(tmp_path) == "file:///state"


def test_what_encrypts_the_secrets(tmp_path: Path) -> None:
    assert installation.secrets_provider(tmp_path, "dev") is None
    (tmp_path / "Pulumi.dev.yaml").write_text("secretsprovider: gcpkms://projects/p/k\nconfig: {}\n")
    assert installation.secrets_provider(tmp_path, "dev") == "gcpkms://projects/p/k"


def test_the_policy_pack_needs_its_environment(tmp_path: Path) -> None:
    options = type("Options", (), {"policies": True})()
    with pytest.raises(ConfigurationError, match="the policy pack has no environment") as caught:
        installation.packs(options, tmp_path)
    assert "infra/policy/requirements.txt" in str(caught.value.hint)


class Real:
    """`runner infra` with the engine, on a state of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        for name in ("infra", "runner"):
            (folder / name).symlink_to(ROOT / name)
        for name in ("Pulumi.yaml", "Pulumi.local.yaml"):
            shutil.copy(ROOT / name, folder)
        (folder / "state").mkdir()
        self.variables = {
            "PULUMI_BACKEND_URL": f"file://{folder / 'state'}",
            "PULUMI_CONFIG_PASSPHRASE": "test",
            "PULUMI_HOME": str(folder / "home"),
            "PULUMI_SKIP_UPDATE_CHECK": "true",
        }

    def run(self, verb: str, *options: str, **variables: str | None) -> dict[str, Any]:
        environment = {**os.environ, **self.variables}
        for name, value in variables.items():
            environment.pop(name, None)
            if value is not None:
                environment[name] = value
        command = [sys.executable, "-m", "infra.automation", verb, "--stack", "local", "--directory", str(self.folder)]
        done = subprocess.run(
            [*command, *options], env=environment, cwd=ROOT, capture_output=True, text=True, check=False, timeout=300
        )
        assert "Traceback" not in done.stderr, done.stderr
        return dict(json.loads(done.stdout.splitlines()[-1]))


needs_engine = pytest.mark.skipif(shutil.which("pulumi") is None, reason="needs the Pulumi engine: `pulumi` on PATH")


@pytest.mark.engine
@needs_engine
def test_every_failure_of_a_real_engine_says_what_to_do(tmp_path: Path) -> None:
    real = Real(tmp_path)
    failures = {
        "nowhere": real.run("outputs", PULUMI_BACKEND_URL=None),
        "no folder": real.run("outputs", PULUMI_BACKEND_URL=f"file://{tmp_path / 'missing'}"),
        "no stack": real.run("outputs"),
        "no passphrase": real.run("up", "--confirmed", PULUMI_CONFIG_PASSPHRASE=None),
    }
    init = ["pulumi", "stack", "init", "local", "--non-interactive"]
    subprocess.run(init, cwd=tmp_path, env={**os.environ, **real.variables}, check=True, capture_output=True)
    assert real.run("outputs")["result"]["outputs"] == {}
    stack = tmp_path / "Pulumi.local.yaml"
    settings = stack.read_text()
    body = yaml.safe_load(settings)
    body["config"]["open-model-tuning:serviceAgents"] = "skip"
    stack.write_text(yaml.safe_dump(body))
    failures["a rule"] = real.run("up", "--confirmed", "--policies")
    assert "and nothing was made" in failures["a rule"]["error"]["message"]
    stack.write_text(settings)
    failures["wrong passphrase"] = real.run("up", "--confirmed", PULUMI_CONFIG_PASSPHRASE="other")
    locks = tmp_path / "state/.pulumi/locks/organization/open-model-tuning/local"
    locks.mkdir(parents=True, exist_ok=True)
    (locks / "0b6f1d3c-1111-4222-8333-944444444444.json").write_text(json.dumps(LOCK))
    failures["locked"] = real.run("up", "--confirmed")
    shutil.rmtree(locks)
    text = (tmp_path / "Pulumi.yaml").read_text()
    (tmp_path / "Pulumi.yaml").write_text(text.replace('">=3.244.0"', '">=99.0.0"'))
    failures["too old"] = real.run("preview")
    expected = {
        "nowhere": "runner infra bootstrap",
        "no folder": "create that folder",
        "no stack": "runner infra up --stack local",
        "no passphrase": "PULUMI_CONFIG_PASSPHRASE",
        "a rule": "checks all rules offline",
        "wrong passphrase": "PULUMI_CONFIG_PASSPHRASE is not the passphrase",
        "locked": "ci on runner-7 (process 4242)",
        "too old": INSTALL,
    }
    for name, fragment in expected.items():
        assert fragment in failures[name]["error"]["hint"], (name, failures[name])


ENGINE = """
echo "${PULUMI_GCP_SKIP_REGION_VALIDATION:-none} $*" >> "$CALLS"
[ "$1" = version ] && echo v3.274.1
exit 0
"""


@pytest.fixture
def calls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A script in the engine's place, that notes how it was called in this file."""
    program(tmp_path / "bin", ENGINE)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:/usr/bin:/bin")
    monkeypatch.setenv("CALLS", str(tmp_path / "calls"))
    return tmp_path / "calls"


def test_no_command_has_the_provider_ask_compute_engine_for_regions(
    calls: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PULUMI_GCP_SKIP_REGION_VALIDATION", raising=False)
    invocation.read(["stack", "ls"], tmp_path)
    invocation.run(["up"], tmp_path)
    assert [line.split()[:2] for line in calls.read_text().splitlines()] == [["true", "stack"], ["true", "up"]]


def test_a_mandatory_rule_on_the_whole_stack_ends_up_before_the_engine_begins(calls: Path, tmp_path: Path) -> None:
    real = Real(tmp_path)
    stack = tmp_path / "Pulumi.local.yaml"
    stack.write_text(stack.read_text() + '  open-model-tuning:serviceAgents: "skip"\n')
    error = real.run("up", "--confirmed", "--policies")["error"]
    assert error["message"].startswith("stack local breaks mandatory rules, and nothing was made: datasets: rule "), (
        error
    )
    assert [line.split()[1] for line in calls.read_text().splitlines()] == ["version"]


@pytest.mark.engine
@needs_engine
def test_a_stack_file_stays_as_it_was_written_but_for_the_line_of_its_secrets(tmp_path: Path) -> None:
    real = Real(tmp_path)
    init = ["pulumi", "stack", "init", "local", "--non-interactive"]
    subprocess.run(init, cwd=tmp_path, env={**os.environ, **real.variables}, check=True, capture_output=True)
    stack = tmp_path / "Pulumi.local.yaml"
    written = (ROOT / "Pulumi.local.yaml").read_text().replace("config:", "config:\n\n  # of this project")
    for verb in ("refresh", "preview"):  # as in a clone without that line
        stack.write_text(written)
        real.run(verb, "--confirmed")
        salt, _, rest = stack.read_text().partition("\n")
        assert salt.startswith("encryptionsalt: v1:")
        assert rest == written


def test_what_somebody_writes_into_a_stack_file_meanwhile_stays(tmp_path: Path) -> None:
    stack = tmp_path / "Pulumi.local.yaml"
    stack.write_text("config:\n  gcp:project: before\n")
    with stack_files.kept(stack):
        stack.write_text("config:\n  gcp:project: after\nencryptionsalt: x\n")
    assert "after" in stack.read_text()


@pytest.mark.engine
@needs_engine
def test_the_doctor_opens_the_state(tmp_path: Path) -> None:
    real = Real(tmp_path)

    def check(name: str, **variables: str | None) -> dict[str, str]:
        found = real.run("doctor", **variables)["result"]["checks"]
        return next(item for item in found if item["check"] == name)

    def expect(status: str, found: dict[str, str]) -> None:
        assert found["status"] == status, found

    expect("ok", check("state"))
    expect("wrong", check("state", PULUMI_BACKEND_URL=f"file://{tmp_path / 'missing'}"))
    expect("missing", check("secrets", PULUMI_CONFIG_PASSPHRASE=None))
