"""`runner open`: the page of a job, an endpoint or a project."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from runner.cli import commands
from runner.cli.completing import completed
from runner.cli.jobs.group import found_job
from runner.cli.options import Invocation
from runner.errors import NotFoundError, RunnerError

if TYPE_CHECKING:
    from runner.gcp.session import Session

_CONSOLE = "https://console.cloud.google.com/vertex-ai"


@commands.command(
    name="open", examples=("runner open", "runner open latest", "runner open production", "runner open latest --print")
)
@click.argument("what", metavar="[JOB|ENDPOINT]", required=False, shell_complete=completed("jobs", "endpoints"))
@click.option("--print", "only_print", is_flag=True, help="Print the address without opening it.")
@click.pass_obj
def command(invocation: Invocation, what: str | None, only_print: bool) -> None:
    """Open the page of a job, an endpoint, or all tuning jobs in Google's console.

    Without a graphical session, the command prints the address. The emulator has one page, which describes it; `runner
    console` shows jobs and endpoints.
    """
    import os
    import sys

    with invocation.session() as session:
        environment = session.environment
        environment.require("project")
        kind, name = _found(session, what) if what else ("jobs", "")
    if environment.target.free and name:
        page = f"/{'tuning/jobs' if kind == 'jobs' else kind}/{name}"
        raise RunnerError(
            f"the emulator has no page of {'job' if kind == 'jobs' else 'endpoint'} {name}",
            hint=f"run `runner console --open`, then open {page} there",
        )
    if environment.target.free:
        address = environment.vertex_base
    elif name:
        inner = "tuningJob" if kind == "jobs" else "endpoints"
        section = "tuning" if kind == "jobs" else "online-prediction"
        address = f"{_CONSOLE}/{section}/locations/{environment.location}/{inner}/{name}?project={environment.project}"
    else:
        address = f"{_CONSOLE}/tuning?project={environment.project}"
    shown = only_print or invocation.output.is_json or invocation.output.quiet
    graphical = sys.platform == "darwin" or bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))
    opened = not shown and graphical and _open(address)
    invocation.output.result({"url": address, "opened": opened}, address, name=address)


def _found(session: Session, what: str) -> tuple[str, str]:
    """Return whether it is a job or an endpoint, and its ID. Raises NotFoundError."""
    from runner.serving.prediction import resolve_endpoint

    try:
        return "jobs", found_job(session, what).id
    except NotFoundError:
        pass
    try:
        return "endpoints", resolve_endpoint(session, what).id
    except NotFoundError as error:
        message = f"no job and no endpoint in {session.environment.location} is called {what!r}"
        raise NotFoundError(message, hint="`runner jobs ls` and `runner endpoints ls` list them") from error


def _open(address: str) -> bool:
    import webbrowser

    return webbrowser.open(address)
