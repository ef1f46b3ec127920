"""Datasets: check a file or an object for a model, and show which datasets jobs used."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from typing import Any

from starlette.datastructures import FormData
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from runner.catalog import find_model, models
from runner.console import following
from runner.console.checking import look
from runner.console.pages import address
from runner.console.state import Console, Uploads, text
from runner.errors import ConfigurationError, RunnerError
from runner.gcp.tuning_jobs import TuningJob
from runner.jobs.specification import default_mode


def page(console: Console, request: Request, given: Mapping[str, str], error: dict[str, Any]) -> Response:
    """Show the datasets of the jobs, and a form to check another."""
    used: dict[str, list[TuningJob]] = defaultdict(list)
    for job in following.jobs(console).value:
        for uri in (job.training_dataset_uri, job.validation_dataset_uri):
            if uri:
                used[uri].append(job)
    return console.pages.answer(
        request,
        "datasets/list.html",
        used=list(used.items())[:200],
        models=models(),
        bucket=console.session.environment.datasets_bucket,
        given=given,
        error=error,
    )


def upload(console: Console, request: Request, form: FormData) -> Response:
    """Store a file, and redirect to its check."""
    source = console.uploads.sent(form, "training_file") or text(form, "training_address")
    if not source:
        raise ConfigurationError("neither a file nor an object was chosen")
    return RedirectResponse(address("/datasets/check", training=source, base_model=text(form, "base_model")), 303)


def check(console: Console, request: Request) -> Response:
    """Show the result of a dataset check."""
    query = request.query_params
    source, name = query.get("training", ""), query.get("base_model", "")
    if not source:
        return RedirectResponse("/datasets", 303)
    looked, error = None, {}
    model = find_model(name) if name else None
    try:
        looked = look(
            console,
            source,
            "",
            model=model,
            mode=default_mode(model) if model else None,
            convert=query.get("convert") == "1",
        )
    except RunnerError as problem:
        error = problem.to_json()
    waiting = looked is None and not error
    return console.pages.answer(
        request,
        "datasets/check.html",
        part="create/parts/findings.html",
        looked=looked,
        error=error,
        waiting=waiting,
        name=console.uploads.path(source).name if Uploads.is_one(source) and not error else source,
        model=model,
        limit=None if model is None else model.modes[default_mode(model)].max_sequence_length,
        convert_link=address("/datasets/check", training=source, base_model=name, convert="1"),
        tune_link=address("/tuning/create/data" if name else "/tuning/create", base_model=name, training=source),
        every=1 if waiting else 0,
    )
