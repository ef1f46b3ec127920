"""Input and output of the data commands: files, objects in buckets, standard input and output."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runner.cli.options import Invocation
from runner.cli.text import excerpt

if TYPE_CHECKING:
    from runner.catalog import Model
    from runner.datasets.reading.sources import Source
    from runner.datasets.rewriting.outcome import Outcome

_LOST_SHOWN = 10


def sources(
    invocation: Invocation, first: Path | str, second: Path | str | None = None
) -> AbstractContextManager[tuple[Source, Source | None]]:
    """Yield the sources that one or two arguments name; see `runner.datasets.named.sources`."""
    from runner.datasets import named

    return named.sources(invocation.session, first, second)


def tokenizer_for(invocation: Invocation, model: Model | None, given: Path | None) -> Path | None:
    """Return the tokenizer for counting; see `runner.datasets.named.tokenizer_for`."""
    from runner.datasets import named

    return named.tokenizer_for(model, given, invocation.output.note)


@contextmanager
def target(invocation: Invocation, given: Path | str) -> Iterator[Path]:
    """Yield the file to write. For an object, it is a temporary file, which is uploaded after success."""
    if not isinstance(given, str):
        yield given
        return
    from runner.gcp.storage import parse_gs_uri
    from runner.gcp.uploads import upload_file

    parse_gs_uri(given)
    with tempfile.TemporaryDirectory(prefix="runner-data-") as folder, invocation.session() as session:
        path = Path(folder, given.rsplit("/", 1)[-1] or "data.jsonl")
        yield path
        with invocation.output.progress(f"upload {path.name}") as progress:
            upload_file(session, path, given, progress=progress)


@contextmanager
def ready(invocation: Invocation, given: Source, *, convert: bool) -> Iterator[Path]:
    """Yield a plain file with a dataset, converted if requested; standard error describes the conversion."""
    from runner.datasets.rewriting.preparing import prepared

    def told(outcome: Outcome, first_line: str) -> None:
        tell_conversion(invocation, given, outcome, first_line)

    with prepared(given, convert=convert, converted=told) as path:
        yield path


def tell_conversion(invocation: Invocation, given: Source, outcome: Outcome, first_line: str) -> None:
    """Describe a conversion on standard error."""
    output = invocation.output
    output.note(f"{given} is {outcome.description}: converted to {outcome.format}")
    output.note(f"first row: {excerpt(first_line)}")
    for key, value in accounted(outcome):
        if value:
            output.note(f"{key}: {value}")


def accounted(outcome: Outcome) -> list[tuple[str, Any]]:
    """Describe the result of a rewriting for people."""
    from runner.wording import counted

    counts = outcome.counts
    pairs: list[tuple[str, Any]] = [
        ("read", f"{counted(outcome.read, 'row')} ({outcome.description})"),
        ("written", f"{counted(outcome.rows, 'row')} as {outcome.format}"),
        *((name, counts[name] or None) for name in sorted(counts) if name != "dropped"),
        ("left out", outcome.dropped or None),
    ]
    lost = list(outcome.lost.items())
    pairs += [
        ("not carried over" if not number else "", f"{path} ({item.count} x, first in {item.first}: {item.values[0]})")
        for number, (path, item) in enumerate(lost[:_LOST_SHOWN])
    ]
    if len(lost) > _LOST_SHOWN:
        pairs.append(("", f"… and {len(lost) - _LOST_SHOWN} more keys: --format json"))
    return pairs


def account(invocation: Invocation, given: Path | str, outcome: Outcome) -> None:
    """Print the result of a rewriting, on standard error if the data went to standard output."""
    pairs = [*accounted(outcome), *(("note", note) for note in outcome.notes), ("output", str(given))]
    if str(given) != "-":
        invocation.output.result({**outcome.to_json(), "output": str(given)}, pairs, name=str(given))
        return
    if invocation.output.is_json:
        invocation.output.record(outcome.to_json())
        return
    for key, value in pairs:
        if value is not None:
            invocation.output.note(f"{key}: {value}" if key else f"  {value}")
