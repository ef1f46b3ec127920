"""The page of a dataset: findings, lengths with the limit, first rows as the model sees them."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass

from runner.catalog.models import Model, TuningMode
from runner.console.observing import StillReadingError
from runner.console.state import Console, Uploads
from runner.datasets.checks import check_files
from runner.datasets.reading.remote import remote_object
from runner.datasets.reading.sources import Source
from runner.datasets.reports import html
from runner.datasets.reports.preview import Preview, preview_line
from runner.datasets.reports.report import Report
from runner.datasets.rewriting.outcome import Outcome
from runner.datasets.rewriting.preparing import prepared
from runner.datasets.tokens.counters import open_counter, ratio_of
from runner.datasets.tokens.hub_cache import find_tokenizer
from runner.design.elements import Html
from runner.errors import RunnerError
from runner.wording import counted

PREVIEWS = 3
LOOK_SECONDS = 3.0
"""Maximum time that a page waits for a check; a longer check is shown when it is complete."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Looked:
    """A checked dataset."""

    report: Report
    verdict: Html
    sections: Html
    """Everything below the verdict."""
    convertible: bool
    """Whether a conversion makes it usable."""
    converted: str = ""
    """The result of the conversion, if there was one."""


def look(
    console: Console, training: str, validation: str, *, model: Model | None, mode: TuningMode | None, convert: bool
) -> Looked | None:
    """Return the result of a check; None while it is running. Raises RunnerError if the dataset cannot be read."""
    sources = [_source(console, name) for name in (training, validation) if name]

    def load() -> Looked:
        return _look(sources, model=model, mode=mode, convert=convert)

    key = ("check", training, validation, model.id if model else "", mode, convert)
    uploaded = Uploads.is_one(training) and (not validation or Uploads.is_one(validation))
    keep = 3600.0 if uploaded else 20.0
    try:
        return console.observer.read(key, load, keep=keep, patience=LOOK_SECONDS).value
    except StillReadingError:
        return None


def _source(console: Console, name: str) -> Source:
    return console.uploads.path(name) if Uploads.is_one(name) else remote_object(console.session, name)


def _look(sources: list[Source], *, model: Model | None, mode: TuningMode | None, convert: bool) -> Looked:
    tokenizer = find_tokenizer(model) if model else None
    said: list[str] = []
    with contextlib.ExitStack() as stack:
        ready: list[Source] = []
        for source in sources:
            if not convert:
                ready.append(source)
                continue
            ready.append(
                stack.enter_context(
                    prepared(source, convert=True, converted=lambda outcome, line: said.append(_account(outcome)))
                )
            )
        report = check_files(
            ready[0],
            ready[1] if len(ready) > 1 else None,
            model=model,
            mode=mode,
            tokenizer=tokenizer,
            as_stored=not convert,
        )
        limit = report.max_sequence_length
        counter = open_counter(ratio_of(model, mode), tokenizer)
        previews: list[Preview] = []
        for line in range(1, 12):
            if len(previews) == PREVIEWS or report.training.conversion is not None:
                break
            with contextlib.suppress(RunnerError):
                previews.append(preview_line(ready[0], line, counter, limit=limit))
        verdict, body = html.verdict(report), html.sections(report, previews)
    conversions = [file.conversion for file in report.files if file.conversion is not None]
    return Looked(
        report=report,
        verdict=verdict,
        sections=body,
        convertible=bool(conversions) and all(item.first_row for item in conversions),
        converted="; ".join(said),
    )


def _account(outcome: Outcome) -> str:
    left = f", {counted(outcome.dropped, 'row')} left out" if outcome.dropped else ""
    return f"{outcome.description}: {counted(outcome.rows, 'example')} from {counted(outcome.read, 'row')}{left}"
