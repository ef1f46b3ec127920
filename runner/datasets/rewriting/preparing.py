"""Prepares a dataset for its upload: plain JSON Lines in UTF-8, converted if requested."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from runner.datasets.reading.compression import open_source, spooled
from runner.datasets.reading.sources import STDIN, Source, plain_name, stem_of
from runner.datasets.records.recognising import ForeignError, plain_examples
from runner.datasets.rewriting.converting import convert_file
from runner.datasets.rewriting.outcome import Outcome


@contextmanager
def prepared(
    source: Source, *, convert: bool = False, converted: Callable[[Outcome, str], None] | None = None
) -> Iterator[Path]:
    """Yield a local file that can be uploaded: the source itself if it is plain, otherwise a temporary copy.

    Args:
        source: file, object or standard input.
        convert: convert layouts and shapes that the service does not accept.
        converted: called with the account of a conversion and the first line that it wrote.

    Raises:
        ForeignError: it must be converted, and `convert` is False.
        ConfigurationError, DatasetError, EngineMissingError, OSError: see `convert_file`.
    """
    with ExitStack() as stack:
        if convert and isinstance(source, Path) and (source == STDIN or not source.is_file()):
            with open_source(source) as stream:  # a pipe can be read only once
                source = spooled(stream, plain_name(source), stack)
        try:
            path = stack.enter_context(plain_examples(source))
        except ForeignError as error:
            if not convert:
                raise
            folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="runner-converted-"))
            path = Path(folder, f"{stem_of(source)}.jsonl")
            outcome = convert_file(source, path, error.foreign.form)
            if converted is not None:
                with path.open("rb") as stream:
                    converted(outcome, stream.readline().decode().rstrip())
        yield path
