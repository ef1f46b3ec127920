"""A tuning job: its measurements, data, details and events."""

from __future__ import annotations

import json
import math
from functools import partial
from typing import Any

from starlette.datastructures import FormData
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from runner import times
from runner.console import following
from runner.console.changes import Change
from runner.console.drawing import HIGHEST_SMOOTHING, line, smoothed
from runner.console.following import Followed
from runner.console.observing import Reading
from runner.console.pages import money, plain
from runner.console.state import Console
from runner.errors import RunnerError
from runner.gcp import tuning_jobs
from runner.gcp.events import job_log
from runner.gcp.tuning_jobs import TuningJob
from runner.jobs.following.complaints import complaints
from runner.jobs.following.event_texts import event_text
from runner.jobs.following.progress import fraction_of, price_of
from runner.jobs.following.results import Measurement, Results, curve
from runner.jobs.following.results import export as exported
from runner.jobs.repeating import reproduction
from runner.jobs.repeating.cloning import specification_of
from runner.wording import state_words

PICTURE = (720.0, 260.0)
TABLE_ROWS = 200
_OTHERS = 50
"""Number of jobs that are proposed for a comparison; the list of jobs contains all."""
AXES = {"step": "Step", "epoch": "Epoch", "tokens": "Tokens", "seconds": "Seconds"}


def _shown(console: Console, request: Request, tab: str) -> tuple[Reading[Followed], dict[str, Any]]:
    reading = following.follow(console, request.path_params["id"])
    job = reading.value.job
    needs = (job.ended and not job.succeeded) or job.waits
    told = following.why(console, job) if needs else None
    progress = reading.value.progress
    context = {
        "job": job,
        "tab": tab,
        "followed": reading.value,
        "progress": progress,
        "fraction": progress.fraction if progress.fraction is not None else fraction_of(job),
        "billed": progress.billed,
        "price": price_of(job),
        "why": told,
        "problem": reading.problem,
        "seen": reading.seen,
        "every": 0 if job.ended else 2,
        "over": job.ended,
    }
    return reading, context


def monitor(console: Console, request: Request) -> Response:
    """Show the losses, updated live."""
    reading, context = _shown(console, request, "monitor")
    measured = reading.value.measurements
    training = curve(measured)
    validation = curve(measured, "evaluation")
    options = _options(request)
    every = [*training, *validation]
    return console.pages.answer(
        request,
        "tuning/monitor.html",
        part="tuning/parts/job_state.html",
        picture=PICTURE,
        training=line(training, *PICTURE, within=every),
        validation=line(validation, *PICTURE, within=every),
        validation_points=validation,
        rows=_table(measured),
        options=options,
        axes=AXES,
        steps=len(training),
        **context,
    )


def _table(measured: tuple[Measurement, ...]) -> list[Measurement]:
    """Return rows for the table beside the chart: some evenly distributed steps, and every evaluation."""
    stride = max(1, math.ceil(sum(item.kind == "step" for item in measured) / TABLE_ROWS))
    steps = 0
    found = []
    for item in measured:
        steps += item.kind == "step"
        if item.kind == "evaluation" or steps % stride == 1 or stride == 1:
            found.append(item)
    return found


def _options(request: Request) -> dict[str, Any]:
    query = request.query_params
    try:
        weight = float(query.get("smoothing", "0"))
    except ValueError:
        weight = 0.0
    weight = min(max(weight, 0.0), HIGHEST_SMOOTHING) if math.isfinite(weight) else 0.0
    axis = query.get("x", "step")
    return {
        "smoothing": weight,
        "x": axis if axis in AXES else "step",
        "log": query.get("log") == "1",
        "outliers": query.get("outliers") == "1",
    }


def metrics(console: Console, request: Request) -> Response:
    """Return the measurements: `json` for the chart, `csv` and `jsonl` for download."""
    form = request.path_params["form"]
    followed = following.follow(console, request.path_params["id"]).value
    job = followed.job
    if form in ("csv", "jsonl"):
        kept = exported(Results(measurements=list(followed.measurements)), "csv" if form == "csv" else "jsonl")
        name = f"{''.join(sign for sign in job.id if sign.isalnum())}.{form}"
        headers = {"content-disposition": f'attachment; filename="{name}"'}
        return Response(kept, headers=headers, media_type="text/csv" if form == "csv" else "application/jsonl")
    if form != "json":
        raise HTTPException(404)
    options = _options(request)
    steps = [item for item in followed.measurements if item.kind == "step"]
    tests = [item for item in followed.measurements if item.kind == "evaluation"]
    losses = [item.loss for item in steps]
    start = times.seconds_of(steps[0].time) if steps else None
    body = {
        "x": [_along(item, options["x"], start) for item in steps],
        "step": [item.step for item in steps],
        "loss": [_finite(loss) for loss in losses],
        "smooth": [_finite(loss) for loss in smoothed(losses, options["smoothing"])],
        "marks": [index for index, loss in enumerate(losses) if loss is None or not math.isfinite(loss)],
        "learning_rate": [_finite(item.learning_rate) for item in steps],
        "tokens_per_second": [_finite(rate) for rate in following.token_rates(steps)],
        "validation": {
            "x": [_along(item, options["x"], start) for item in tests],
            "loss": [_finite(item.loss) for item in tests],
        },
        "options": options,
        "running": not job.ended,
    }
    return Response(json.dumps(body, allow_nan=False, separators=(",", ":")), media_type="application/json")


def _along(item: Measurement, axis: str, start: float | None) -> float:
    if axis == "epoch":
        return item.epoch or 0.0
    if axis == "tokens":
        return float(item.tokens or 0)
    if axis == "seconds":
        moment = times.seconds_of(item.time)
        return 0.0 if moment is None or start is None else moment - start
    return float(item.step)


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None


def dataset(console: Console, request: Request) -> Response:
    """Show the service's statistics of the data, and the dropped examples."""
    _, context = _shown(console, request, "dataset")
    job = context["job"]
    told = following.why(console, job)
    lines, unread = [], ""
    if told.dropped_total or told.cause == "data":
        key = ("complaints", job.name, job.state)
        try:
            lines = console.observer.read(key, lambda: list(complaints(console.session, told)), keep=3600.0).value
        except RunnerError as error:
            unread = error.message
    return console.pages.answer(
        request,
        "tuning/dataset.html",
        part="tuning/parts/job_state.html",
        statistics=job.data_stats,
        dropped=told.dropped,
        dropped_total=told.dropped_total,
        lines=lines,
        unread=unread,
        **context,
    )


def details(console: Console, request: Request) -> Response:
    """Show the tuned model, its checkpoints, and the job's specification."""
    _, context = _shown(console, request, "details")
    job = context["job"]
    checkpoints, unread = following.checkpoints(console, job)
    others = [item for item in following.jobs(console).value if item.id != job.id][:_OTHERS]
    return console.pages.answer(
        request,
        "tuning/details.html",
        part="tuning/parts/job_state.html",
        others=others,
        manifest=_run_manifest(console, job),
        checkpoints=checkpoints,
        unread=unread,
        specification=plain(specification_of(console.session, job).to_json()),
        document=plain(job.raw),
        **context,
    )


def _run_manifest(console: Console, job: TuningJob) -> str:
    """Return the contents of a job's run manifest; "" if it has none that can be read."""
    if not (job.ended and job.output_uri):
        return ""
    try:
        load = partial(reproduction.read_manifest, console.session, job)
        return plain(console.observer.read(("manifest", job.name), load, keep=following.ENDED_SECONDS).value)
    except RunnerError:
        return ""


def events(console: Console, request: Request) -> Response:
    """Show the events, and the end of the log."""
    reading, context = _shown(console, request, "events")
    job = context["job"]
    log = console.observer.read(("log", job.name, job.ended), lambda: job_log(console.session, job.name), keep=2.0)
    return console.pages.answer(
        request,
        "tuning/events.html",
        part="tuning/parts/events.html",
        events=[(event, event_text(event)) for event in reversed(reading.value.events)],
        log=log.value,
        **context,
    )


def ask_cancel(console: Console, request: Request) -> Response:
    """Ask for confirmation before a job is cancelled."""
    _, context = _shown(console, request, "")
    job, used = context["job"], context["billed"]
    if job.ended:
        return RedirectResponse(f"/tuning/jobs/{job.id}", 303)  # which says how it ended
    so_far = f"{money(used.usd)} for {used.tokens:,} tokens" if used else "nothing was counted yet"
    return console.confirmation(
        request,
        title=f"Cancel {job.display_name or job.id}?",
        button="Cancel the job",
        back=f"/tuning/jobs/{job.id}",
        price=f"Billed so far: {so_far}. What was trained stays billed; checkpoints that are saved stay.",
        facts=[("Job", job.id), ("Base model", job.base_model), ("State", state_words(job.state))],
        danger=True,
    )


def cancel(console: Console, request: Request, form: FormData) -> Response:
    """Cancel a job."""
    identifier = request.path_params["id"]

    def work(change: Change) -> str:
        tuning_jobs.cancel(console.session, identifier)
        return f"/tuning/jobs/{identifier}"

    return console.change(request, form, f"Cancelled job {identifier}", work, back=f"/tuning/jobs/{identifier}")
