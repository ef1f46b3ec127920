"""`runner doctor`: what is missing, and how to correct it."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Literal

import click

from runner.cli import commands
from runner.cli.options import Invocation
from runner.errors import RunnerError
from runner.installation import install_hint

if TYPE_CHECKING:
    from runner.environment import Environment
    from runner.gcp.session import Session

_EXTRAS = {
    "emulator": ("starlette", "uvicorn", "httptools", "google_crc32c"),
    "local": ("torch", "transformers", "peft", "accelerate", "safetensors", "jinja2", "PIL"),
    "console": ("starlette", "uvicorn", "jinja2", "python_multipart"),
    "infra": ("pulumi", "pulumi_gcp"),
}
_PURPOSES = {
    "emulator": "the local server",
    "local": "training and serving here",
    "console": "pages in a browser",
    "infra": "provisioning",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """The outcome of one check."""

    check: str
    state: Literal["ok", "missing", "failed"]
    """`missing` limits the available features; `failed` means that the current environment does not work."""
    message: str
    fix: str = ""


@commands.command(
    name="doctor", examples=("runner doctor", "runner doctor --environment production.json --format json")
)
@click.pass_obj
def command(invocation: Invocation) -> None:
    """Check Python, the installed extras, the emulator, the environment, credentials and whether the services answer.

    The exit code is 1 if the current environment does not work. A missing extra is only reported.
    """
    findings = list(_findings(invocation))
    output = invocation.output
    if output.is_json:
        output.document([asdict(finding) for finding in findings])
    else:
        for finding in findings:
            output.text(f"{finding.state:<8}{finding.check}: {finding.message}")
            if finding.fix:
                output.text(f"{'':<8}  fix: {finding.fix}")
    failed = [finding for finding in findings if finding.state == "failed"]
    if failed:
        raise RunnerError(
            f"{len(failed)} of {len(findings)} checks failed: {', '.join(finding.check for finding in failed)}",
            hint=failed[0].fix or None,
        )


def _findings(invocation: Invocation) -> Iterator[Finding]:
    yield _python()
    yield from _extras()
    yield _emulator()
    try:
        environment = invocation.resolved()
    except RunnerError as error:
        yield Finding(check="environment", state="failed", message=error.message, fix=error.hint or "")
        return
    yield _environment(environment)
    yield _attempt(invocation, "credentials", "found", lambda session: session.token())
    if not environment.project:
        return
    yield _attempt(invocation, "Vertex AI", f"answers at {environment.vertex_base}", _ask_vertex)
    for kind in ("datasets", "outputs"):
        bucket = getattr(environment, f"{kind}_bucket")
        if bucket:
            yield _attempt(invocation, f"{kind} bucket", f"gs://{bucket} can be read", _bucket_reader(bucket))


def _python() -> Finding:
    version = ".".join(map(str, sys.version_info[:3]))
    if (3, 11) <= sys.version_info[:2] <= (3, 13):
        return Finding(check="Python", state="ok", message=version)
    return Finding(check="Python", state="failed", message=f"{version} is not supported", fix="use Python 3.11 to 3.13")


def _extras() -> Iterator[Finding]:
    from importlib.util import find_spec

    for extra, modules in _EXTRAS.items():
        missing = [name for name in modules if find_spec(name) is None]
        purpose = _PURPOSES[extra]
        if missing:
            message = f"{', '.join(missing)} not installed: {purpose} will not work"
            fix = install_hint(extra)
            yield Finding(check=f"extra {extra}", state="missing", message=message, fix=fix)
        else:
            yield Finding(check=f"extra {extra}", state="ok", message=f"installed, for {purpose}")


def _emulator() -> Finding:
    from runner import running_emulator
    from runner.state import emulator_directory

    found = running_emulator.find(emulator_directory())
    if found is None:
        return Finding(check="emulator", state="missing", message="does not run", fix="`runner emulator start`")
    if not (emulator_directory() / "environment.json").exists():
        message = f"runs at {found.url}, and no project is set up in it"
        return Finding(check="emulator", state="missing", message=message, fix="`runner emulator provision`")
    return Finding(check="emulator", state="ok", message=f"runs at {found.url}")


def _environment(environment: Environment) -> Finding:
    if not environment.project:
        fix = "`runner emulator start && runner emulator provision` for a local one, or --project and --location"
        return Finding(check="environment", state="failed", message="no project is set", fix=fix)
    absent = [kind for kind in ("datasets", "outputs") if not getattr(environment, f"{kind}_bucket")]
    message = f"project {environment.project}, location {environment.location}"
    if absent:
        message += f", no {' and no '.join(absent)} bucket"
        return Finding(check="environment", state="missing", message=message, fix="run `pulumi up` to create them")
    return Finding(check="environment", state="ok", message=message)


def _attempt(invocation: Invocation, check: str, success: str, action: Callable[[Session], object]) -> Finding:
    try:
        with invocation.session() as session:
            action(session)
    except RunnerError as error:
        return Finding(check=check, state="failed", message=error.message, fix=error.hint or "")
    return Finding(check=check, state="ok", message=success)


def _ask_vertex(session: Session) -> object:
    from runner.gcp import tuning_jobs

    return tuning_jobs.list_jobs(session, limit=1)


def _bucket_reader(bucket: str) -> Callable[[Session], object]:
    def read(session: Session) -> object:
        from runner.gcp import storage

        return storage.list_objects(session, f"gs://{bucket}/", limit=1)

    return read
