"""Managed tuning: the list of jobs, and comparisons."""

from __future__ import annotations

import math
from dataclasses import dataclass

from starlette.requests import Request
from starlette.responses import Response

from runner.catalog import models
from runner.console import following
from runner.console.drawing import Line, line
from runner.console.pages import STATES, address
from runner.console.state import Console, whole
from runner.errors import ConfigurationError
from runner.gcp.tuning_jobs import TuningJob
from runner.jobs.following.progress import Billed, billed, fraction_of
from runner.jobs.following.ranking import Ranked, jobs_of_sweep, parameters, ranked
from runner.jobs.following.results import curve

PAGE_ROWS = 25
MOST_COMPARED = 24
"""The number of jobs in a sweep of two parameters; after the eighth, colors are repeated."""
COLOURS = 8
KINDS = {"running": "Running", "waiting": "Waiting", "good": "Succeeded", "bad": "Failed", "over": "Cancelled"}
PICTURE = (720.0, 260.0)


@dataclass(frozen=True, slots=True)
class Row:
    """A job of the list."""

    job: TuningJob
    fraction: float | None
    billed: Billed | None
    spark: Line | None


def page(console: Console, request: Request) -> Response:
    """Show the jobs that match the filters in the address."""
    reading = following.jobs(console)
    query = request.query_params
    chosen = {name: query.get(name, "").strip() for name in ("state", "model", "mode", "q")}
    found = [job for job in reading.value if _fits(job, chosen)]
    pages = max(1, math.ceil(len(found) / PAGE_ROWS))
    number = min(pages, max(1, whole(query.get("page", "")) or 1))
    shown = found[(number - 1) * PAGE_ROWS : number * PAGE_ROWS]
    counts = dict.fromkeys(KINDS, 0)
    for job in reading.value:
        counts[_kind(job)] += 1
    return console.pages.answer(
        request,
        "tuning/list.html",
        part="tuning/parts/list.html",
        rows=[Row(job, fraction_of(job), billed(job), following.spark(console, job)) for job in shown],
        total=len(found),
        everything=len(reading.value),
        counts=counts,
        kinds=KINDS,
        chosen=chosen,
        models=models(),
        names={model.id: model.name for model in models()},
        page_number=number,
        pages=pages,
        at=lambda page: address("/tuning", **chosen, page=page if page > 1 else None),
        problem=reading.problem,
        seen=reading.seen,
        every=3,
    )


def _kind(job: TuningJob) -> str:
    return "waiting" if job.waits else STATES.get(job.state, ("waiting", ""))[0]


def _fits(job: TuningJob, chosen: dict[str, str]) -> bool:
    words = chosen["q"].lower().split()
    about = " ".join((job.display_name, job.training_dataset_uri, *job.labels.values())).lower()
    return (
        (not chosen["state"] or _kind(job) == chosen["state"])
        and (not chosen["model"] or job.base_model == chosen["model"])
        and (not chosen["mode"] or job.mode == chosen["mode"])
        and all(word in about or word == job.id for word in words)
    )


@dataclass(frozen=True, slots=True)
class Compared:
    """A job beside others."""

    ranked: Ranked
    colour: int
    training: Line | None


def compare(console: Console, request: Request) -> Response:
    """Show the losses of several jobs in one chart, and their parameters, the best first."""
    wanted = list(dict.fromkeys(request.query_params.getlist("job")))
    sweep = request.query_params.get("sweep", "").strip()
    every_job = following.jobs(console).value
    if sweep:
        wanted += [job.id for job in jobs_of_sweep(every_job, sweep)]
    if not wanted:
        message = f"no job belongs to a sweep {sweep!r}" if sweep else "no job is chosen to compare"
        raise ConfigurationError(message, hint="choose jobs in the list of tuning jobs")
    known = {job.id: job for job in every_job}
    chosen = [known[identifier] for identifier in dict.fromkeys(wanted) if identifier in known][:MOST_COMPARED]
    results = {job.id: following.measured_now(console, job) for job in chosen}
    curves = {job.id: curve(results[job.id].measurements) for job in chosen}
    every = [point for points in curves.values() for point in points]
    colours = {job.id: colour % COLOURS for colour, job in enumerate(chosen)}
    rows = [
        Compared(item, colours[item.job.id], line(curves[item.job.id], *PICTURE, within=every))
        for item in ranked(chosen, results)
    ]
    return console.pages.answer(
        request,
        "tuning/compare.html",
        rows=rows,
        chosen=chosen,
        parameters=parameters(chosen),
        missing=len(dict.fromkeys(wanted)) - len(chosen),
        most=MOST_COMPARED,
    )
