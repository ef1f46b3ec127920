"""What the data commands read and write: files, objects in buckets, standard input and output."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runner.cli.options import Invocation
from runner.cli.text import excerpt

if TYPE_CHECKING:
    from runner.catalog import Model
    from runner.datasets.reading.sources import Source
    from runner.datasets.rewriting.outcome import Outcome

_LOST_SHOWN = 10


@contextmanager
def sources(
    invocation: Invocation, first: Path | str, second: Path | str | None = None
) -> Iterator[tuple[Source, Source | None]]:
    """Yield what one or two arguments name, objects looked up; the connection stays open meanwhile.

    Raises:
        NotFoundError: there is no such object.
        ConfigurationError: an address is malformed, or no environment says where buckets are.
    """
    from runner.datasets.reading.sources import STDIN
    from runner.errors import ConfigurationError

    if first == second == STDIN:
        raise ConfigurationError("standard input can contain only one dataset", hint="name a file for one of them")
    with ExitStack() as stack:
        client: Any = None

        def found(given: Path | str) -> Source:
            nonlocal client
            if not isinstance(given, str):
                return given
            from runner.datasets.reading.remote import remote_object
            from runner.gcp.object_http import ObjectClient

            if client is None:
                client = stack.enter_context(ObjectClient(stack.enter_context(invocation.session())))
            return remote_object(client, given)

        yield found(first), found(second) if second is not None else None


def tokenizer_for(invocation: Invocation, model: Model | None, given: Path | None) -> Path | None:
    """Return the tokenizer to count with: the given one, else the model's where it is in Hugging Face's cache."""
    if given is not None:
        return given
    from runner.datasets.tokens.hub_cache import find_tokenizer

    found = find_tokenizer(model)
    if found is not None and model is not None:
        invocation.output.note(f"counting with the tokenizer of {model.hub} in Hugging Face's cache")
    return found


@contextmanager
def target(invocation: Invocation, given: Path | str) -> Iterator[Path]:
    """Yield the file to write. An object is written to a temporary file and uploaded when all went well."""
    if not isinstance(given, str):
        yield given
        return
    from runner.gcp.bulk_uploads import Item, upload_one
    from runner.gcp.object_http import ObjectClient
    from runner.gcp.storage import parse_gs_uri

    parse_gs_uri(given)
    with tempfile.TemporaryDirectory(prefix="runner-data-") as folder, invocation.session() as session:
        path = Path(folder, given.rsplit("/", 1)[-1] or "data.jsonl")
        yield path
        with ObjectClient(session) as client, invocation.output.progress(f"upload {path.name}") as progress:
            upload_one(client, Item(path=path, uri=given), progress=progress)


@contextmanager
def ready(invocation: Invocation, given: Source, *, convert: bool) -> Iterator[Path]:
    """Yield a plain file with a dataset, converted if that is wanted; a conversion is told on standard error."""
    from runner.datasets.rewriting.preparing import prepared

    def told(outcome: Outcome, first_line: str) -> None:
        tell_conversion(invocation, given, outcome, first_line)

    with prepared(given, convert=convert, converted=told) as path:
        yield path


def tell_conversion(invocation: Invocation, given: Source, outcome: Outcome, first_line: str) -> None:
    """Say on standard error what became of data of another format."""
    output = invocation.output
    output.note(f"{given} is {outcome.description}: converted to {outcome.format}")
    output.note(f"first row: {excerpt(first_line)}")
    for key, value in accounted(outcome):
        if value:
            output.note(f"{key}: {value}")


def accounted(outcome: Outcome) -> list[tuple[str, Any]]:
    """Return the account of a rewriting for people."""
    from runner.datasets.examples import counted

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
    """Print the account of a rewriting, on standard error where the data went to standard output."""
    pairs = [*accounted(outcome), *(("note", note) for note in outcome.notes), ("output", str(given))]
    if str(given) != "-":
        invocation.output.result({**outcome.to_json(), "output": str(given)}, pairs, name=str(given))
        return
    if invocation.output.is_json:
        invocation.output.note(json.dumps(outcome.to_json(), ensure_ascii=False))
        return
    for key, value in pairs:
        if value is not None:
            invocation.output.note(f"{key}: {value}" if key else f"  {value}")
