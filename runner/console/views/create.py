"""Create a tuned model, in the service's steps."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import contextmanager
from typing import Any

from starlette.datastructures import FormData
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from runner.catalog import UnknownModelError, load_catalog
from runner.console import following
from runner.console.changes import Change
from runner.console.checking import LOOK_SECONDS, look
from runner.console.draft import STEPS, Draft
from runner.console.elsewhere import command_line, manifest, python
from runner.console.observing import SHORTEST_SECONDS, StillReadingError
from runner.console.state import Console, agreed_terms, text
from runner.datasets.checks import MAX_VALIDATION_ROWS, MAX_VALIDATION_SHARE
from runner.errors import ConfigurationError, RunnerError, gathered, require_sound
from runner.gcp import fleet, tuning_jobs
from runner.jobs.preflight.findings import PreflightFinding
from runner.jobs.repeating.cloning import specification_of
from runner.jobs.specification import ADAPTER_SIZES, DEFAULT_EPOCHS, MAX_EPOCHS
from runner.jobs.submitting.offers import Listener, Offer, carry_out, offered


def _step(
    console: Console,
    request: Request,
    number: int,
    draft: Draft,
    template: str,
    *,
    usd: float | None = None,
    **context: Any,
) -> Response:
    there = bool(draft.base_model)
    try:
        texts = [write(draft, console, usd) if there else "" for write in (command_line, python, manifest)]
    except RunnerError:
        texts = ["", "", ""]  # a deleted upload or an unknown model: the page reports it
    return console.pages.answer(
        request,
        template,
        draft=draft,
        step=number,
        steps=STEPS,
        command=texts[0],
        python=texts[1],
        manifest=texts[2],
        **context,
    )


def model(console: Console, request: Request, given: Mapping[str, str], error: dict[str, Any]) -> Response:
    """Select the base model and the method."""
    draft = Draft.of(given)
    chosen = None
    try:
        chosen = draft.model if draft.base_model else None
    except UnknownModelError as unknown:
        error = error or unknown.to_json()
    catalog = load_catalog()
    places = [place.id for place in catalog.locations]
    return _step(
        console,
        request,
        1,
        draft,
        "create/model.html",
        error=error,
        models=catalog.models,
        chosen=chosen,
        places=places,
        price_date=catalog.price_date,
        served=console.session.environment.location in places,
    )


def data(console: Console, request: Request, given: Mapping[str, str], refused: dict[str, Any]) -> Response:
    """Select the data, and show the result of its check."""
    draft = Draft.of(given)
    if not draft.base_model:
        return RedirectResponse("/tuning/create", 303)
    mode = draft.tuning_mode
    looked, error = None, {}
    if draft.training and not refused:
        try:
            looked = look(
                console,
                draft.training,
                draft.validation,
                model=draft.model,
                mode=mode,
                convert=draft.convert == "1",
            )
        except RunnerError as problem:
            error = problem.to_json()
    waiting = bool(draft.training) and looked is None and not (error or refused)
    return _step(
        console,
        request,
        2,
        draft,
        "create/data.html",
        part="create/parts/findings.html",
        looked=looked,
        error=error,
        refused=refused,
        given=given,
        waiting=waiting,
        limit=draft.model.modes[mode].max_sequence_length,
        share=MAX_VALIDATION_SHARE,
        rows=MAX_VALIDATION_ROWS,
        names={name: draft.name_of(console, name) for name in (draft.training, draft.validation) if name}
        if not error
        else {},
        action="/tuning/create/data",
        every=1 if waiting else 0,
    )


def upload(console: Console, request: Request, form: FormData) -> Response:
    """Store the files of the form, and return to the step."""
    draft = Draft.of(form)
    found: dict[str, str] = {}
    problems: list[str] = []
    for role in ("training", "validation"):
        with gathered(problems):
            if sent := console.uploads.sent(form, f"{role}_file"):
                found[role] = sent
            elif given := text(form, f"{role}_address"):
                found[role] = _address(given, role)
            elif text(form, f"{role}_none"):
                found[role] = ""
    if not (problems or draft.training or found.get("training")):
        problems.append("training dataset: neither a file nor an object was chosen")
    require_sound(problems)
    return RedirectResponse(draft.at("/tuning/create/data", **found), 303)


def _address(given: str, role: str) -> str:
    if given.startswith("gs://") and "/" in given.removeprefix("gs://"):
        return given
    message = f"{role} dataset: {given[:200]!r} is not the address of an object, such as gs://BUCKET/train.jsonl"
    raise ConfigurationError(message)


def parameters(console: Console, request: Request, given: Mapping[str, str], _: dict[str, Any]) -> Response:
    """Select the hyperparameters, with their defaults."""
    draft = Draft.of(given)
    if not (draft.base_model and draft.training):
        return RedirectResponse(draft.at("/tuning/create"), 303)
    mode = draft.tuning_mode
    return _step(
        console,
        request,
        3,
        draft,
        "create/parameters.html",
        limits=draft.model.modes[mode],
        mode=mode,
        sizes=ADAPTER_SIZES,
        default_epochs=DEFAULT_EPOCHS,
        most_epochs=MAX_EPOCHS,
        outputs=console.session.environment.outputs_bucket,
    )


def review(console: Console, request: Request) -> Response:
    """Show the price and obstacles of the job, and the button that starts it."""
    draft = Draft.of(request.query_params)
    if not (draft.base_model and draft.training):
        return RedirectResponse(draft.at("/tuning/create"), 303)
    error, waiting = {}, False
    offer: Offer | None = None
    obstacles: list[PreflightFinding] = []

    try:
        wanted = draft.wanted(console)

        def load() -> tuple[Offer, list[PreflightFinding]]:
            with offered(console.session, wanted) as found:
                return found, found.obstacles()

        key = ("review", *draft.values.items())
        reading = console.observer.read(key, load, keep=SHORTEST_SECONDS, patience=LOOK_SECONDS)
        offer, obstacles = reading.value
        error = {"message": reading.problem} if reading.problem else {}
    except StillReadingError:
        waiting = True
    except RunnerError as problem:
        error = problem.to_json()
    jobs = following.jobs(console).value
    quota = console.observer.read("quota", lambda: fleet.tuning_quota(console.session), keep=60.0).value
    running = sum(not (job.ended or job.waits) for job in jobs)
    return _step(
        console,
        request,
        4,
        draft,
        "create/review.html",
        part="create/parts/review.html",
        waiting=waiting,
        every=1 if waiting else 0,
        usd=offer.estimate.high if offer is not None else None,
        offer=offer,
        error=error,
        obstacles=obstacles,
        blocked=bool(error) or any(item.severity == "error" for item in obstacles),
        quota=quota,
        running=running,
        once=console.changes.token("/tuning/create/review"),
    )


def start(console: Console, request: Request, form: FormData) -> Response:
    """Submit the job at the price on the review page."""
    draft = Draft.of(form)
    terms = agreed_terms(form)
    wanted = draft.wanted(console)

    def work(change: Change) -> str:
        heard = _Teller(change)
        change.tell("Checking the dataset")
        with offered(console.session, wanted, heard) as offer:
            change.tell("Looking for obstacles")
            submission = carry_out(offer, terms=terms, listener=heard)
        if not submission.created:
            change.title = "This job exists already: nothing was submitted"
        return f"/tuning/jobs/{submission.job.id}"

    title = f"Tuning of {draft.display_name or draft.base_model} was submitted"
    return console.change(request, form, title, work, back=draft.at("/tuning/create/review"))


class _Teller(Listener):
    """Reports the progress of a submission to a change."""

    def __init__(self, change: Change) -> None:
        self._change = change

    def warned(self, message: str) -> None:
        self._change.tell(f"Warning: {message}")

    def converted(self, source: Any, outcome: Any, first_line: str) -> None:
        self._change.tell(f"Converted {source.name}")

    @contextmanager
    def uploading(self, name: str) -> Any:
        self._change.tell(f"Uploading {name}")
        told: Callable[[int, int], None] = self._change.sent
        yield told


def clone(console: Console, request: Request) -> Response:
    """Redirect to the form with the values of a job."""
    job = tuning_jobs.get(console.session, request.path_params["id"])
    draft = Draft.of_specification(specification_of(console.session, job))
    return RedirectResponse(draft.at("/tuning/create"), 303)
