"""`runner plan` and `runner drift`: what applying manifests would do, and whether anything has changed."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from runner import local_files
from runner.cli import commands
from runner.cli.options import Invocation, replace_output_option, together
from runner.cli.values import FILE, PATH, Count, OneOf
from runner.errors import ConfigurationError, RunnerError
from runner.prices import total

if TYPE_CHECKING:
    from runner.gcp.session import Session
    from runner.jobs.manifests.planning import Plan

CHANGES = 2
"""Exit code if something would change."""
MISTAKE = 1
"""Exit code for errors in manifests or settings, which is 2 for other commands."""


quota_option = click.option(
    "--quota", type=Count(0), help="Maximum number of concurrent jobs [default: the project's quota]."
)
fair_by_option = click.option(
    "--fair-by", default="", metavar="KEY", help="Label whose values share free slots fairly."
)
manifest_options = together(
    click.option(
        "-f",
        "--filename",
        "paths",
        multiple=True,
        type=PATH,
        metavar="PATH",
        help="Manifest, or folder of manifests; repeatable.",
    ),
    click.option("--prune", is_flag=True, help="Cancel running jobs whose manifest was removed or changed."),
    quota_option,
)
"""`paths`, `prune` and `quota`: the manifests, and the extent of the changes."""


@commands.command(
    name="plan",
    examples=(
        "runner plan -f jobs/",
        "runner plan -f jobs/ --out plan.json",
        "runner plan -f jobs/ --report markdown",
        "runner plan -f jobs/tone.yaml --format json",
    ),
)
@manifest_options
@replace_output_option
@click.option("--out", type=FILE, help="File to save the plan to, for `apply`.")
@click.option("--report", type=OneOf(["markdown"]), help="Format for a pull request comment.")
@click.option("--no-preflight", is_flag=True, help="Skip the checks of bucket locations and permissions.")
@click.pass_obj
def command(
    invocation: Invocation, /, out: Path | None, report: str | None, no_preflight: bool, **choices: Any
) -> None:
    """Show what `apply` would do with the manifests and what it would cost, without changing anything.

    Exit code 0: nothing would change; 2: something would change; 1: the manifests or the settings have errors.
    """
    with mistakes_are_failures():
        with invocation.session() as session:
            plan = planned(invocation, session, preflight=not no_preflight, **choices)
        if out is not None:
            _save(plan, out)
    show(invocation, plan, report)
    if out is not None:
        invocation.output.note(f"next: `runner apply {out}`")
    if plan.changes:
        click.get_current_context().exit(CHANGES)


@commands.command(
    name="drift",
    examples=(
        "runner drift -f jobs/",
        "runner drift -f jobs/ --report markdown",
        "runner drift -f jobs/ --format json",
    ),
)
@manifest_options
@click.option("--report", type=OneOf(["markdown"]), help="Format for an issue.")
@click.pass_obj
def drift(invocation: Invocation, /, report: str | None, **choices: Any) -> None:
    """Check whether manifests, records and jobs still agree, for example every night.

    In addition to the changes that `plan` finds, the command reports jobs that failed, disappeared, differ from their
    manifest, or run without a manifest. Exit code 0: all agree; 2: something differs; 1: the manifests or the settings
    have errors.
    """
    with mistakes_are_failures(), invocation.session() as session:
        plan = planned(invocation, session, preflight=False, **choices)
    show(invocation, plan, report)
    if plan.changes or plan.removed or any(job.drift or job.action in ("failed", "lost") for job in plan.jobs):
        click.get_current_context().exit(CHANGES)


def planned(invocation: Invocation, session: Session, *, paths: tuple[Path, ...], **choices: Any) -> Plan:
    """Return the plan of manifests, with the current hourly cost of serving; `choices` are those of `make_plan`.

    Raises:
        ConfigurationError: there are no `paths`.
    """
    from runner.jobs.manifests.planning import make_plan
    from runner.serving.manifests.deploying import foretell

    if not paths:
        raise ConfigurationError("no manifests were given", hint="give -f FILE or -f FOLDER")
    plan = make_plan(session, list(paths), progress=invocation.output.note, **choices)
    _add_serving(session, plan)
    with contextlib.suppress(RunnerError):  # a deployment reports it
        foretell(session, plan)
    return plan


def show(invocation: Invocation, plan: Plan, report: str | None = None) -> None:
    """Print a plan."""
    from runner.cli.manifests import report as plan_report

    names = "\n".join(job.name for job in plan.jobs if job.acts)
    if report == "markdown":
        invocation.output.text(plan_report.markdown(plan).rstrip("\n"))
    else:
        invocation.output.result(plan.to_json(), plan_report.text(plan), name=names)


@contextlib.contextmanager
def mistakes_are_failures() -> Iterator[None]:
    """Set the exit code for errors of commands in which 2 means that something would change."""
    try:
        yield
    except ConfigurationError as error:
        error.exit_code = MISTAKE  # type: ignore[misc]
        raise


def _add_serving(session: Session, plan: Plan) -> None:
    from runner.serving.listing import list_deployments

    with contextlib.suppress(RunnerError):  # a plan without the price of serving is still a plan
        billed = [item for item in list_deployments(session) if item.billed]
        plan.running_usd_per_hour = total(item.usd_per_hour for item in billed)
        plan.deployed_models = sum(len(item.endpoint.deployed_models) for item in billed)


def _save(plan: Plan, out: Path) -> None:
    local_files.replace(out, json.dumps(plan.to_json(), indent=2) + "\n", hint="nothing was changed")
