"""What the repository's own pipelines ask for: the jobs that want a token, their events and environments."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from infra.stack_files import ROOT

FOLDER = ROOT / ".github" / "workflows"
GITLAB = ROOT / "deploy" / "gitlab-ci.yml"
_STACK_NAMES = ("${{ matrix.stack.name }}", "$STACK")


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One job of one pipeline."""

    file: str
    name: str
    triggers: frozenset[str]
    environment: str
    """The environment that it names; `{stack}` is the stack's own, "" is none."""
    identity: bool
    """Whether it may ask for a token."""
    permissions: frozenset[str]
    """What its GITHUB_TOKEN may write, without the token for the identity pool."""
    body: dict[str, Any]


def workflow(path: Path) -> dict[Any, Any]:
    """Return a workflow's document."""
    import yaml

    body: dict[Any, Any] = yaml.safe_load(path.read_text("utf-8"))
    return body


def triggers(body: dict[Any, Any]) -> dict[str, Any]:
    """Return `on`, which YAML 1.1 reads as true."""
    found: Any = body.get("on", body.get(True))
    if isinstance(found, str):
        return {found: {}}
    return {key: {} for key in found} if isinstance(found, list) else dict(found)


def github_jobs(folder: Path = FOLDER) -> Iterator[Job]:
    """Yield every job of every workflow."""
    for path in sorted(folder.glob("*.y*ml")):
        body = workflow(path)
        for name, job in body["jobs"].items():
            granted = job.get("permissions", body.get("permissions"))
            if not isinstance(granted, dict):
                raise ValueError(f"{path.name}: job {name} does not list its permissions")
            writes = {key for key, level in granted.items() if level == "write"}
            yield Job(
                file=path.name,
                name=name,
                triggers=frozenset(triggers(body)),
                environment=_environment(job),
                identity="id-token" in writes,
                permissions=frozenset(writes - {"id-token"}),
                body=job,
            )


def gitlab_jobs(path: Path = GITLAB) -> Iterator[Job]:
    """Yield every job of the GitLab pipeline; its events are those that its rules name."""
    body = workflow(path)
    for name, job in body.items():
        if not isinstance(job, dict) or "script" not in job or str(name).startswith("."):
            continue
        whole = {**body.get(job.get("extends", ""), {}), **job}
        rules = " ".join(str(rule.get("if", "")) for rule in whole["rules"])
        yield Job(
            file=".gitlab-ci.yml",
            name=str(name),
            triggers=frozenset(re.findall(r'\$CI_PIPELINE_SOURCE == "(\w+)"', rules)),
            environment=_environment(whole),
            identity="id_tokens" in whole,
            permissions=frozenset(),
            body=whole,
        )


def _environment(job: dict[str, Any]) -> str:
    named = job.get("environment", "")
    name = str(named.get("name", "") if isinstance(named, dict) else named)
    return "{stack}" if name in _STACK_NAMES else name
