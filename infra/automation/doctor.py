"""Whether this machine and this stack are ready for `up`, and what to do where they are not."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from argparse import Namespace
from pathlib import Path
from typing import Any

from infra.automation import engine
from infra.policy import ENVIRONMENT_HINT
from runner.errors import ConfigurationError

OLDEST_ENGINE = (3, 244)


def examine(options: Namespace) -> dict[str, Any]:
    """Return one finding per check: `ok`, `missing` or `wrong`, with what to do. `ready` says whether `up` can run."""
    from infra.automation.verbs import directory

    folder = directory(options)
    findings = [_engine(), _backend(folder), _credentials(), _policy_pack(folder), *_stack(options)]
    ready = all(item["status"] == "ok" for item in findings if item["needed"])
    lines = [
        f"{item['status']:8} {item['check']}: {item['detail']}" + (f" ({item['hint']})" if item["hint"] else "")
        for item in findings
    ]
    return {"ready": ready, "checks": findings, "text": "\n".join(lines)}


def _finding(check: str, status: str, detail: str, hint: str = "", *, needed: bool = True) -> dict[str, Any]:
    return {"check": check, "status": status, "detail": detail, "hint": hint, "needed": needed}


def _engine() -> dict[str, Any]:
    found = shutil.which("pulumi")
    if found is None:
        return _finding("engine", "missing", "`pulumi` is not on the PATH", f"see {engine.INSTALL}")
    done = subprocess.run([found, "version"], capture_output=True, text=True, check=False, timeout=60)
    match = re.search(r"v?(\d+)\.(\d+)", done.stdout)
    if match is None or (int(match[1]), int(match[2])) < OLDEST_ENGINE:
        wanted = ".".join(map(str, OLDEST_ENGINE))
        return _finding("engine", "wrong", f"version {done.stdout.strip() or '?'}", f"{wanted} or newer is needed")
    return _finding("engine", "ok", f"{found} {done.stdout.strip()}")


def _backend(folder: Path) -> dict[str, Any]:
    url = os.environ.get("PULUMI_BACKEND_URL")
    if url or engine.has_backend(folder) or os.environ.get("PULUMI_ACCESS_TOKEN"):
        return _finding("state", "ok", url or "named by Pulumi.yaml or by the login")
    return _finding("state", "missing", "PULUMI_BACKEND_URL is not set", "`runner infra bootstrap` makes a bucket")


def _credentials() -> dict[str, Any]:
    named = os.environ.get("GOOGLE_APPLICATION_CREDENTIALS")
    config = Path(os.environ.get("CLOUDSDK_CONFIG") or Path.home() / ".config" / "gcloud")
    file = Path(named) if named else config / "application_default_credentials.json"
    if file.is_file() or os.environ.get("GOOGLE_OAUTH_ACCESS_TOKEN"):
        return _finding("credentials", "ok", str(file) if file.is_file() else "GOOGLE_OAUTH_ACCESS_TOKEN")
    return _finding("credentials", "missing", f"no {file}", "`gcloud auth application-default login`")


def _policy_pack(folder: Path) -> dict[str, Any]:
    environment = engine.policy_environment(folder)
    if environment.is_dir():
        return _finding("policy pack", "ok", str(environment), needed=False)
    return _finding("policy pack", "missing", f"no {environment}", f"{ENVIRONMENT_HINT}, for --policies", needed=False)


def _stack(options: Namespace) -> list[dict[str, Any]]:
    from infra.automation.verbs import configuration
    from infra.evaluation import evaluate
    from infra.policy import of_evaluation, violations

    name = f"stack {options.stack}"
    try:
        evaluation = evaluate(configuration(options), stack=options.stack)
    except ConfigurationError as error:
        problems = "; ".join(error.problems) or error.message
        return [_finding(name, "wrong", problems, error.hint or "")]
    found = violations(of_evaluation(evaluation))
    broken = [
        _finding(f"rule {item.rule}", "wrong", f"{item.resource}: {item.message}", needed=item.level == "mandatory")
        for item in found
    ]
    count = len([item for item in evaluation.resources if item.custom])
    return [_finding(name, "ok", f"{count} resources, {len(found)} rules broken"), *broken]
