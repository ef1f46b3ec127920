"""The lines of a training file for which the job or the checks report problems."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runner import local_files
from runner.catalog import UnknownModelError, find_model
from runner.errors import ConfigurationError, RunnerError
from runner.gcp import storage
from runner.gcp.session import Session
from runner.jobs.following.explaining import Explanation
from runner.waiting import silent

if TYPE_CHECKING:
    from runner.datasets.reading.sources import Source

_EXCERPT = 60


@dataclass(frozen=True, slots=True, kw_only=True)
class Complaint:
    """One line."""

    line: int
    index: int | None
    """Position among the examples, from 1, if the service dropped this example; None if only the checks report it."""
    reason: str
    """The service's message."""
    findings: list[dict[str, Any]]
    """Errors from the checks, as JSON values."""
    excerpt: str
    """The start of the first message."""

    def to_json(self) -> dict[str, Any]:
        """Return the stable JSON form."""
        return dataclasses.asdict(self)


def complaints(
    session: Session, found: Explanation, *, file: Path | None = None, warn: Callable[[str], None] | None = None
) -> list[Complaint]:
    """Return the lines that caused a data failure or were dropped, in order; [] for other causes.

    Args:
        session: the project and location.
        found: the explanation from `explain`.
        file: a copy of the training file; None reads the job's object.
        warn: called with a line if the file cannot be read, or differs from the object.

    Raises:
        ConfigurationError: the file does not exist.
    """
    if file is not None and (problem := local_files.missing(file)):
        raise ConfigurationError(problem)
    if found.cause != "data" and not found.dropped_total:
        return []
    from runner.datasets.named import sources  # most jobs have no such lines

    warn = warn or silent
    uri = found.job.training_dataset_uri
    try:
        with sources(lambda: contextlib.nullcontext(session), file or uri) as (source, _):
            if file is not None and not _same(session, file, uri):
                warn(f"{file} differs from the job's object: its line numbers may differ too")
            return _joined(found, source)
    except RunnerError as error:
        warn(f"the training file cannot be read: {error.message}")
        return []


def _joined(found: Explanation, source: Source) -> list[Complaint]:
    from runner.datasets.records.recognising import read_examples  # the parser is not needed for most jobs

    try:
        images = find_model(found.job.base_model).images
    except UnknownModelError:
        images = True
    reasons = {item.index: item.reason for item in found.dropped}
    lines: list[Complaint] = []
    for index, parsed in enumerate(read_examples(source, images=images), start=1):
        errors = [finding for finding in parsed.findings if finding.severity == "error"]
        if index not in reasons and not (errors and found.cause == "data"):
            continue
        excerpt = parsed.example.messages[0].text if parsed.example else ""
        lines.append(
            Complaint(
                line=parsed.line,
                index=index if index in reasons else None,
                reason=reasons.get(index) or "",
                findings=[finding.to_json() for finding in errors],
                excerpt=excerpt[:_EXCERPT],
            )
        )
    return lines


def _same(session: Session, file: Path, uri: str) -> bool:
    info = storage.stat(session, uri)
    return info is None or info.crc32c == storage.crc32c_of(file)
