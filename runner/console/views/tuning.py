"""Managed tuning: the list of jobs, and several beside one another."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from runner.catalog import models
from runner.console import following
from runner.console.drawing import Line, line
from runner.console.pages import STATES, address
from runner.console.state import Console
from runner.errors import ConfigurationError
from runner.gcp.tuning_jobs import TuningJob
from runner.jobs.following.progress import Billed, billed, fraction_of

PAGE_ROWS = 25
MOST_COMPARED = 8
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
    """Show the jobs that the filters of the address choose."""
    reading = following.jobs(console)
    query = request.query_params
    chosen = {name: query.get(name, "").strip() for name in ("state", "model", "mode", "q")}
    found = [job for job in reading.value if _fits(job, chosen)]
    pages = max(1, math.ceil(len(found) / PAGE_ROWS))
    number = min(pages, max(1, int(query["page"]) if query.get("page", "").isdecimal() else 1))
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
    kind = STATES.get(job.state, ("waiting", ""))[0]
    return "waiting" if kind == "running" and "WAITING" in job.detail_state else kind


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

    job: TuningJob
    colour: int
    training: Line | None
    last_loss: float | None
    validation_loss: float | None
    """The best one; jobs are ranked by it."""
    billed: Billed | None


def compare(console: Console, request: Request) -> Response:
    """Show the losses of several jobs in one picture, and their parameters, the best first."""
    wanted = list(dict.fromkeys(request.query_params.getlist("job")))
    if not wanted:
        message = "no job is chosen to compare"
        raise ConfigurationError(message, problems=[message], hint="choose jobs in the list of tuning jobs")
    known = {job.id: job for job in following.jobs(console).value}
    chosen = [known[identifier] for identifier in wanted if identifier in known][:MOST_COMPARED]
    curves = {}
    for job in chosen:
        results = following.measured_now(console, job)
        steps = [item for item in results.measurements if item.kind == "step"]
        curves[job.id] = ([(float(item.step), item.loss) for item in steps if item.loss is not None], results)
    every = [point for points, _ in curves.values() for point in points]
    rows = []
    for colour, job in enumerate(chosen):
        points, results = curves[job.id]
        summary = results.summary()
        rows.append(
            Compared(
                job,
                colour,
                line(points, *PICTURE, within=every),
                summary.get("lastLoss"),
                summary.get("bestValidationLoss"),
                billed(job),
            )
        )
    rows.sort(key=lambda row: _rank(row))
    return console.pages.answer(
        request, "tuning/compare.html", rows=rows, parameters=_parameters(chosen), missing=len(wanted) - len(chosen)
    )


def _rank(row: Compared) -> tuple[float, float]:
    infinite = float("inf")
    loss = row.validation_loss if row.validation_loss is not None else row.last_loss
    return (infinite if loss is None else loss, row.billed.usd or infinite if row.billed else infinite)


def _parameters(jobs: list[TuningJob]) -> list[tuple[str, list[Any], bool]]:
    """Return name, a value for each job, and whether they differ; parameters that no job has are left out."""
    names = {
        "Base model": "base_model",
        "Mode": "mode",
        "Epochs": "epochs",
        "Learning rate": "learning_rate",
        "Adapter size": "adapter_size",
        "Batch size": "batch_size",
        "Training dataset": "training_dataset_uri",
        "Validation dataset": "validation_dataset_uri",
        "Start weights": "custom_base_model",
    }
    found = []
    for title, name in names.items():
        values = [getattr(job, name) for job in jobs]
        if any(value not in (None, "") for value in values):
            found.append((title, values, len(set(map(str, values))) > 1))
    return found
