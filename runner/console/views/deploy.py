"""Deploy custom weights from a job, a checkpoint or a folder to a new or an existing endpoint."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from typing import Any

from starlette.datastructures import FormData
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from runner.catalog import UnknownModelError, find_model, machines
from runner.console import following, state
from runner.console.changes import Change
from runner.console.elsewhere import call, in_lines, limit_of
from runner.console.pages import address
from runner.console.state import Console, agreed_terms
from runner.errors import ConfigurationError, gathered, require_sound
from runner.formatting import duration, seconds_of
from runner.jobs.outputs.checkpoints import Checkpoint
from runner.serving import deploying, leases
from runner.serving.labels import DEFAULT_IDLE_SECONDS, DEFAULT_LEASE_SECONDS
from runner.serving.plan import DeploymentPlan, plan_deployment

FIELDS = ("source", "checkpoint", "machine_type", "display_name", "endpoint", "percent", "lease", "idle")
LEASES = (("1h", "1 hour"), ("8h", "8 hours"), ("1d", "1 day"), ("7d", "7 days"), ("none", "No end"))
IDLES = (("30m", "30 minutes"), ("2h", "2 hours"), ("8h", "8 hours"), ("none", "No limit"))


def page(console: Console, request: Request, sent: Mapping[str, str], error: dict[str, Any]) -> Response:
    """Ask for the weights, the machine and the endpoint."""
    given = state.given(sent, FIELDS)
    jobs = [job for job in following.jobs(console).value if job.succeeded or job.checkpoints]
    source = given.get("source", "")
    checkpoints: list[Checkpoint] = []
    unread, recommended = "", None
    job = next((item for item in jobs if item.id == source or item.name == source), None)
    if job is not None:
        checkpoints, unread = following.checkpoints(console, job)
        try:
            recommended = find_model(job.base_model).serving
        except UnknownModelError:
            recommended = None
    return console.pages.answer(
        request,
        "deploy/form.html",
        given=dict.fromkeys(FIELDS, "") | given,
        error=error,
        jobs=jobs,
        job=job,
        checkpoints=checkpoints,
        unread=unread,
        machines=machines(),
        recommended=recommended,
        endpoints=following.endpoints(console).value,
        leases=LEASES,
        idles=IDLES,
        guard_minutes=console.session.environment.idle_guard_minutes,
    )


def _plan(console: Console, given: dict[str, str]) -> DeploymentPlan:
    problems: list[str] = []
    lease: float | None = DEFAULT_LEASE_SECONDS
    idle: float | None = DEFAULT_IDLE_SECONDS
    with gathered(problems):
        lease = _length(given, "lease", DEFAULT_LEASE_SECONDS)
    with gathered(problems):
        idle = _length(given, "idle", DEFAULT_IDLE_SECONDS)
    percent = state.whole(given.get("percent", "100"))
    if percent is None:
        problems.append(f"share of the traffic: {given['percent'][:20]!r} is not a whole number from 0 to 100")

    def planned() -> DeploymentPlan:
        return plan_deployment(
            console.session,
            given.get("source", ""),
            checkpoint=given.get("checkpoint", "final"),
            machine_type=given.get("machine_type"),
            display_name=given.get("display_name", ""),
            endpoint=given.get("endpoint"),
            lease_seconds=lease,
            idle_seconds=idle,
            percent=100 if percent is None else percent,
        )

    if problems:
        with gathered(problems):
            planned()
        require_sound(problems)
    return planned()


def _length(given: dict[str, str], name: str, default: float) -> float | None:
    if name not in given:
        return default
    try:
        return None if given[name] == "none" else seconds_of(given[name])
    except ValueError as error:
        raise ConfigurationError(f"{name}: {error}") from error


def review(console: Console, request: Request) -> Response:
    """Show the deployment and its price, and the button that starts it."""
    given = state.given(request.query_params, FIELDS)
    if not given.get("source"):
        return RedirectResponse("/models/deploy", 303)
    plan = _plan(console, given)
    now = following.bill(console).usd_per_hour
    return console.pages.answer(
        request,
        "deploy/review.html",
        given=given,
        plan=plan,
        now_per_hour=now,
        back=address("/models/deploy", **given),
        command=_command(given, plan.usd_per_hour),
        python=_python(given, plan.usd_per_hour),
        lease=None if plan.lease_seconds is None else duration(plan.lease_seconds),
        idle=None if plan.idle_seconds is None else duration(plan.idle_seconds),
        ending=_ending(console, plan.lease_seconds, plan.idle_seconds),
        once=console.changes.token("/models/deploy/review"),
    )


def _ending(console: Console, lease: float | None, idle: float | None) -> str:
    """Return what ends the billing of a deployment that begins now."""
    now = console.session.now()
    return leases.ending(console.session.environment, leases.starting(lease, idle, now=now), now=now)


def start(console: Console, request: Request, form: FormData) -> Response:
    """Deploy at the price on the review page."""
    given = state.given(form, FIELDS)
    if not given.get("source"):
        raise ConfigurationError("no job and no folder of weights is chosen")
    terms = agreed_terms(form)
    plan = _plan(console, given)

    def work(change: Change) -> str:
        found = deploying.deploy(console.session, plan, terms=terms, tell=change.tell)
        return f"/endpoints/{found.id}"

    back = address("/models/deploy/review", **given)
    return console.change(request, form, f"{plan.display_name} was deployed", work, back=back)


def _command(given: dict[str, str], usd: float | None) -> str:
    words = [f"runner endpoints deploy {shlex.quote(given.get('source', 'JOB'))}"]
    names = {"display_name": "--name", "lease": "--lease", "idle": "--idle-limit", "percent": "--percent"}
    for name in FIELDS[1:]:
        value = given.get(name)
        if not value or (name, value) in (("checkpoint", "final"), ("percent", "100")):
            continue
        option = names.get(name, f"--{name.replace('_', '-')}")
        words.append(f"{option} {shlex.quote(value)}")
    return in_lines(*words, f"--max-cost {limit_of(usd):.2f}")


def _python(given: dict[str, str], usd: float | None) -> str:
    lines = [repr(given.get("source", "latest"))]
    names = ("checkpoint", "machine_type", "display_name", "endpoint")
    lines += [f"{name}={given[name]!r}" for name in names if given.get(name)]
    lines += [f"traffic_percentage={given['percent']}"] if given.get("percent", "100") != "100" else []
    lengths = (("lease", "lease_seconds", DEFAULT_LEASE_SECONDS), ("idle", "idle_seconds", DEFAULT_IDLE_SECONDS))
    lines += [f"{option}={_length(given, name, default)}" for name, option, default in lengths if given.get(name)]
    return call("endpoint", "deploy", *lines, f"max_cost_per_hour={limit_of(usd):.2f}")
