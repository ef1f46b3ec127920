"""Running resources, problems and costs."""

from __future__ import annotations

from dataclasses import dataclass

from starlette.requests import Request
from starlette.responses import Response

from runner.console import following
from runner.console.state import Console
from runner.gcp.endpoints import DeployedModel, Endpoint, bare_name
from runner.gcp.tuning_jobs import TuningJob
from runner.jobs.following.explaining import classify
from runner.jobs.following.progress import fraction_of
from runner.prices import from_a_cent
from runner.serving.leases import lease_of
from runner.serving.listing import ListedEndpoint
from runner.wording import counted, shortened

SOON_SECONDS = 3600.0
_RECENT_SECONDS = 7 * 86400.0
_SHOWN = 8


@dataclass(frozen=True, slots=True)
class Trouble:
    """Something that needs attention."""

    kind: str
    """`bad`, `waiting` or `money`."""
    title: str
    text: str
    link: str
    action: str


def page(console: Console, request: Request) -> Response:
    """Show the overview."""
    jobs = following.jobs(console)
    endpoints = following.endpoints(console)
    labels = following.model_labels(console)
    running = sorted((job for job in jobs.value if not job.ended), key=lambda job: job.waits)
    serving = [item for item in endpoints.value if item.billed]
    leaks = following.leaks(console)
    troubles = [*_of_jobs(console, jobs.value), *_of_leases(console, serving, labels)]
    if leaks:
        known = [leak.usd_per_day for leak in leaks if leak.usd_per_day is not None]
        title = f"{counted(len(leaks), 'thing')} no longer used"
        cost = f"Together {from_a_cent(sum(known))} a day."
        troubles.append(Trouble("money", title, cost, "/bill#leaks", "See what"))
    return console.pages.answer(
        request,
        "overview.html",
        part="parts/overview.html",
        running=[(job, fraction_of(job), following.spark(console, job)) for job in running[:_SHOWN]],
        more=len(running) - _SHOWN,
        serving=serving[:_SHOWN],
        more_serving=len(serving) - _SHOWN,
        troubles=troubles,
        recent=[job for job in jobs.value if job.succeeded][:4],
        bill=following.bill(console),
        empty=not jobs.value and not serving,
        problem=jobs.problem or endpoints.problem,
        seen=jobs.seen,
        under_way=console.changes.running(),
    )


def _first(found: list[Trouble], noun: str, link: str) -> list[Trouble]:
    """Return the most serious ones, and where the others are."""
    found.sort(key=lambda item: item.kind != "bad")
    left = len(found) - _SHOWN
    more = [Trouble(found[_SHOWN].kind, counted(left, f"more {noun}"), "", link, "All")] if left > 0 else []
    return found[:_SHOWN] + more


def _of_jobs(console: Console, jobs: list[TuningJob]) -> list[Trouble]:
    found = []
    for job in jobs:
        name = job.display_name or job.id
        link = f"/tuning/jobs/{job.id}"
        if job.waits:
            what = "the project's quota of concurrent jobs" if "QUOTA" in job.detail_state else "a machine"
            found.append(Trouble("waiting", f"{name} waits", f"For {what}; waiting is not charged.", link, "Why"))
        failed = job.ended and not job.succeeded and job.state != "JOB_STATE_CANCELLED"
        if failed and job.end_time and console.session.now() - job.end_time.timestamp() < _RECENT_SECONDS:
            cause = classify(job) or "platform"
            found.append(Trouble("bad", f"{name} failed ({cause})", shortened(job.error_message, 240), link, "Why"))
    return _first(found, "job", "/tuning")


def _of_leases(console: Console, serving: list[ListedEndpoint], labels: dict[str, dict[str, str]]) -> list[Trouble]:
    found = []
    minutes = console.session.environment.idle_guard_minutes
    after = (
        f"The idle guard, which looks every {minutes} min, undeploys it."
        if minutes
        else "Nothing here undeploys it: it is billed until you do."
    )
    for item in serving:
        for model in item.endpoint.deployed_models:
            until = lease_until(item.endpoint, model, labels)
            left = None if until is None else until - console.session.now()
            if left is None or left > SOON_SECONDS:
                continue
            name = model.display_name or item.endpoint.display_name or item.endpoint.id
            if left > 0:
                title, text = f"The lease of {name} ends soon", f"In {left / 60:.0f} minutes."
            else:
                title, text = f"The lease of {name} has ended", after
            found.append(Trouble("money", title, text, f"/endpoints/{item.endpoint.id}", "Extend or undeploy"))
    return _first(found, "lease", "/endpoints")


def lease_until(endpoint: Endpoint, model: DeployedModel, labels: dict[str, dict[str, str]]) -> float | None:
    """Return when the lease of a deployed model ends, in seconds since 1970."""
    own = labels.get(bare_name(model.model), {})
    return lease_of(endpoint, model, own).until
