"""A training file, on this machine or in Cloud Storage, checked and turned into what an estimate needs."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runner.cli.data import checked, print_findings
from runner.cli.options import Invocation

if TYPE_CHECKING:
    from runner.datasets.report import Report
    from runner.gcp.session import Session
    from runner.jobs.estimate import DatasetStatistics


def is_remote(address: str | None) -> bool:
    """Tell an address in Cloud Storage from a file."""
    return address is not None and address.startswith("gs://")


def sound_report(
    invocation: Invocation,
    session: Session | None,
    training: str,
    validation: str | None,
    *,
    model: str,
    mode: Any,
    tokenizer: Path | None,
) -> Report:
    """Return the report on a dataset without errors; objects are read for it into a folder that is removed again.

    Raises:
        DatasetError: it has errors, which have been listed on standard error.
        NotFoundError: an object does not exist.
    """
    with contextlib.ExitStack() as stack:
        paths = [
            stack.enter_context(local_copy(session, address)) if address is not None else None
            for address in (training, validation)
        ]
        report = checked(invocation, paths[0] or Path(training), paths[1], model, mode, tokenizer)
    if report.errors and not invocation.output.is_json:
        print_findings(invocation, report, 20, error=True)
    report.raise_for_errors()
    return report


def statistics_of(report: Report) -> DatasetStatistics:
    """Return what the estimate needs to know of the training file."""
    from runner.jobs.estimate import DatasetStatistics

    file = report.training
    tokens = file.tokens.total if report.tokens_exact else None
    return DatasetStatistics(examples=file.kept, characters=file.characters, tokens=tokens, images=file.with_images)


@contextlib.contextmanager
def local_copy(session: Session | None, address: str) -> Iterator[Path]:
    """Yield a file: the one that is named, or a copy of the object, removed afterwards. Raises NotFoundError."""
    if not is_remote(address):
        yield Path(address)
        return
    if session is None:
        raise AssertionError("an object needs a session to be read")
    from runner.gcp import storage

    with tempfile.TemporaryDirectory(prefix="runner-dataset-") as folder:
        path = Path(folder) / (address.rsplit("/", 1)[-1] or "dataset.jsonl")
        path.write_bytes(storage.read_bytes(session, address))
        yield path
