"""Checks whether this machine and this stack are ready for `up`, and says what to do if they are not."""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import shutil
import subprocess
from argparse import Namespace
from pathlib import Path
from typing import Any

import httpx

from infra.automation import installation, invocation
from infra.automation.failures import INSTALL, failure
from infra.automation.stack import complete, configuration, directory, located
from infra.policy import ENVIRONMENT_HINT
from infra.settings.examples import example_values
from infra.settings.stack import Settings
from runner.errors import ConfigurationError


def examine(options: Namespace) -> dict[str, Any]:
    """Return one finding per check: `ok`, `missing` or `wrong`, and what to do. `ready` says whether `up` can run."""
    folder = directory(options)
    bootstrap = "`runner infra bootstrap`"
    findings = [_engine(), _state(folder, options.stack, bootstrap), _secrets(folder, options.stack, bootstrap)]
    findings.append(_credentials(options))
    findings += [_policy_pack(folder), *_stack(options)]
    for item in findings:
        item["hint"] = complete(item["hint"], options)
    ready = all(item["status"] == "ok" for item in findings if item["needed"])
    lines = [
        f"{item['status']:8} {item['check']}: {item['detail']}" + (f"\n{'':9}{item['hint']}" if item["hint"] else "")
        for item in findings
    ]
    return {"ready": ready, "checks": findings, "text": "\n".join(lines)}


def _finding(check: str, status: str, detail: str, hint: str = "", *, needed: bool = True) -> dict[str, Any]:
    return {"check": check, "status": status, "detail": detail, "hint": hint, "needed": needed}


def _engine() -> dict[str, Any]:
    found = shutil.which("pulumi")
    if found is None:
        hint = f"see {INSTALL}; in the emulator, `runner infra up --embedded` works without it"
        return _finding("engine", "missing", "`pulumi` is not on the PATH", hint)
    said, numbers = installation.version(found)
    if numbers < installation.OLDEST:
        return _finding("engine", "wrong", f"version {said or '?'}", f"{installation.OLDEST_TEXT} or newer is needed")
    return _finding("engine", "ok", f"{found} {said}")


def _state(folder: Path, stack: str, bootstrap: str) -> dict[str, Any]:
    """Check whether the state can be opened, if there is an engine that can open it."""
    where = installation.backend(folder)
    if not where:
        return _finding("state", "missing", "PULUMI_BACKEND_URL is not set", f"{bootstrap} makes a bucket")
    found = shutil.which("pulumi")
    if found is None or installation.version(found)[1] < installation.OLDEST:
        return _finding("state", "ok", f"{where}, not looked at without the engine")
    try:
        done = invocation.read(["stack", "ls", "--json"], folder, limit=60)
    except subprocess.TimeoutExpired:
        return _finding("state", "wrong", f"{where} did not answer in a minute", "is the network there?")
    if done.status:
        error = failure(done, "opening the state", stack)
        return _finding("state", "wrong", error.message, error.hint or "")
    names = {str(item["name"]).rsplit("/", 1)[-1] for item in json.loads(done.said or "[]")}
    return _finding("state", "ok", where + ("" if stack in names else f"; the first `up` makes stack {stack}"))


def _secrets(folder: Path, stack: str, bootstrap: str) -> dict[str, Any]:
    key = installation.secrets_provider(folder, stack)
    if key and key != "passphrase":
        return _finding("secrets", "ok", key)
    if any(os.environ.get(f"PULUMI_CONFIG_PASSPHRASE{end}") is not None for end in ("", "_FILE")):
        return _finding("secrets", "ok", "a passphrase")
    if "Pulumi Cloud" in installation.backend(folder) or "https://" in installation.backend(folder):
        return _finding("secrets", "ok", "kept by Pulumi Cloud")
    detail = f"Pulumi.{stack}.yaml names no key and PULUMI_CONFIG_PASSPHRASE is not set"
    return _finding("secrets", "missing", detail, f"{bootstrap} makes a key")


def _credentials(options: Namespace) -> dict[str, Any]:
    settings: Settings | None = None
    with contextlib.suppress(ConfigurationError):  # another check reports this
        settings = Settings.load(configuration(options))
    if settings is not None and settings.access_token:
        return _finding("credentials", "ok", "the stack's own token" if not settings.api_endpoints else "an emulator's")
    named = os.environ.get("GOOGLE_APPLICATION_CREDENTIALS")
    config = Path(os.environ.get("CLOUDSDK_CONFIG") or Path.home() / ".config" / "gcloud")
    file = Path(named) if named else config / "application_default_credentials.json"
    if file.is_file() or os.environ.get("GOOGLE_OAUTH_ACCESS_TOKEN"):
        return _finding("credentials", "ok", str(file) if file.is_file() else "GOOGLE_OAUTH_ACCESS_TOKEN")
    if account := _metadata_account():
        return _finding("credentials", "ok", f"{account}, of this machine")
    return _finding("credentials", "missing", f"no {file}", "`gcloud auth application-default login`")


def _metadata_account() -> str:
    """Return the account that a Google Cloud machine provides to its programs, or "" elsewhere.

    `GCE_METADATA_HOST` and `NO_GCE_CHECK` are the variables of Google's own libraries.
    """
    if os.environ.get("NO_GCE_CHECK", "").lower() == "true":
        return ""
    host = os.environ.get("GCE_METADATA_HOST") or "metadata.google.internal"
    address = f"http://{host}/computeMetadata/v1/instance/service-accounts/default/email"
    try:
        answer = httpx.get(address, headers={"Metadata-Flavor": "Google"}, timeout=2, trust_env=False)
    except httpx.HTTPError:
        return ""
    return answer.text.strip() if answer.is_success else ""


def _policy_pack(folder: Path) -> dict[str, Any]:
    environment = installation.policy_environment(folder)
    if environment.is_dir():
        return _finding("policy pack", "ok", str(environment), needed=False)
    hint = ENVIRONMENT_HINT if environment.parent.is_dir() else "only a clone has the pack"
    return _finding("policy pack", "missing", f"no {environment}", f"{hint}, for --policies", needed=False)


def _stack(options: Namespace) -> list[dict[str, Any]]:
    from infra.evaluation import evaluate
    from infra.policy import of_evaluation, violations

    name = f"stack {options.stack}"
    try:
        evaluation = evaluate(configuration(options), stack=options.stack)
    except ConfigurationError as error:
        located(error, options)
        problems = "; ".join(error.problems) or error.message
        return [_finding(name, "wrong", problems, error.hint or "")]
    values = configuration(options)
    examples = {} if Settings.load(values).api_endpoints else example_values(values)
    if examples:
        detail = "; ".join(f"{key} is {names}" for key, names in examples.items())
        again = f"`runner infra init {shlex.quote(str(directory(options)))} --stack {options.stack} --force`"
        return [
            _finding(name, "wrong", f"values of the example: {detail}", f"edit Pulumi.{options.stack}.yaml, or {again}")
        ]
    found = violations(of_evaluation(evaluation))
    broken = [
        _finding(f"rule {item.rule}", "wrong", f"{item.resource}: {item.message}", needed=item.level == "mandatory")
        for item in found
    ]
    count = len([item for item in evaluation.resources if item.custom])
    return [_finding(name, "ok", f"{count} resources, {len(found)} rules broken"), *broken]
