"""A training file, on this machine or in Cloud Storage, checked and turned into what an estimate needs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from runner.cli.data.group import checked
from runner.cli.options import Invocation

if TYPE_CHECKING:
    from runner.datasets.reports.report import Report


def is_remote(address: str | None) -> bool:
    """Tell an address in Cloud Storage from a file."""
    from runner.datasets import named

    return named.is_remote(address)


def sound_report(
    invocation: Invocation, training: str, validation: str | None, *, model: str, mode: Any, tokenizer: Path | None
) -> Report:
    """Return the report on a dataset without errors; objects are read as streams.

    Raises:
        DatasetError: it has errors.
        NotFoundError: an object does not exist.
    """
    first, second = (
        address if address is None or is_remote(address) else Path(address) for address in (training, validation)
    )
    report = checked(invocation, first or Path(training), second, model, mode, tokenizer, as_stored=True)
    report.raise_for_errors()
    return report
