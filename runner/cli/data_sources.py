"""What the data commands read and write: files, objects in buckets, standard input and output."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from runner.cli.options import Invocation

if TYPE_CHECKING:
    from runner.catalog import Model
    from runner.datasets.sources import Source

    _PathType = click.ParamType[Any]
else:
    _PathType = click.ParamType  # not generic in every supported version of click

_BUCKETS = "gs://"


class DataFile(_PathType):
    """A file, a `gs://` object or `-`; becomes a Path, or a string for an object."""

    name = "file"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Path | str:
        """Return the path or the address."""
        text = str(value)
        return text if text.startswith(_BUCKETS) else Path(text)


@contextmanager
def sources(
    invocation: Invocation, first: Path | str, second: Path | str | None = None
) -> Iterator[tuple[Source, Source | None]]:
    """Yield what one or two arguments name, objects looked up; the connection stays open meanwhile.

    Raises:
        NotFoundError: there is no such object.
        ConfigurationError: an address is malformed, or no environment says where buckets are.
    """
    with ExitStack() as stack:
        client: Any = None

        def found(given: Path | str) -> Source:
            nonlocal client
            if not isinstance(given, str):
                return given
            from runner.datasets.remote import remote_object
            from runner.gcp.object_http import ObjectClient

            if client is None:
                client = stack.enter_context(ObjectClient(stack.enter_context(invocation.session())))
            return remote_object(client, given)

        yield found(first), found(second) if second is not None else None


def tokenizer_for(invocation: Invocation, model: Model | None, given: Path | None) -> Path | None:
    """Return the tokenizer to count with: the given one, else the model's where it is in Hugging Face's cache."""
    if given is not None:
        return given
    from runner.datasets.tokenizer_cache import find_tokenizer

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


def result(invocation: Invocation, given: Path | str, body: dict[str, Any], text: list[tuple[str, Any]]) -> None:
    """Print the outcome, on standard error where the data went to standard output."""
    if str(given) != "-":
        invocation.output.result(body, text, name=str(given))
        return
    for key, value in text:
        if value is not None:
            invocation.output.note(f"{key}: {value}")
