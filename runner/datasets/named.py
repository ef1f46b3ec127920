"""Datasets by the names that users give them: a path, a `gs://` address or `-`, with a model's ID."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runner.datasets.reading.sources import STDIN, Source
from runner.errors import ConfigurationError

if TYPE_CHECKING:
    from runner.catalog import Model
    from runner.catalog.models import TuningMode
    from runner.datasets.reports.report import Report
    from runner.gcp.session import Session

Connect = Callable[[], AbstractContextManager["Session"]]
"""Opens the connection, which only names in buckets need."""


def is_remote(given: Path | str | None) -> bool:
    """Return whether a name is an address in Cloud Storage."""
    return isinstance(given, str) and given.startswith("gs://")


def source_of(session: Session, given: Path | str) -> Source:
    """Return the source that a name means, after checking that an object exists.

    Raises:
        NotFoundError: the object does not exist.
        ConfigurationError: the address is invalid.
    """
    if not is_remote(given):
        return Path(given)
    from runner.datasets.reading.remote import remote_object

    return remote_object(session, str(given))


@contextmanager
def sources(
    connect: Connect, first: Path | str, second: Path | str | None = None
) -> Iterator[tuple[Source, Source | None]]:
    """Yield the sources for one or two names, after checking objects; the connection stays open meanwhile.

    Raises:
        NotFoundError: the object does not exist.
        ConfigurationError: an address is invalid, or no environment determines the buckets.
    """
    if first == second == STDIN:
        raise ConfigurationError("standard input can contain only one dataset", hint="use a file for one of them")
    with ExitStack() as stack:
        session: Any = None

        def found(given: Path | str) -> Source:
            nonlocal session
            if not is_remote(given):
                return Path(given)
            if session is None:
                session = stack.enter_context(connect())
            return source_of(session, given)

        yield found(first), found(second) if second is not None else None


def check(
    connect: Connect,
    training: Path | str,
    validation: Path | str | None = None,
    *,
    model: str | None = None,
    mode: TuningMode | None = None,
    tokenizer: Path | None = None,
    tell: Callable[[str], None] | None = None,
    **options: Any,
) -> Report:
    """Return the report on a dataset.

    Args:
        connect: opens the connection for objects.
        training: file, object or standard input.
        validation: the same.
        model: ID of the base model, for its limits.
        mode: see `check_files`.
        tokenizer: folder of the tokenizer; None uses the model's if it is in Hugging Face's cache.
        tell: called with a line if a tokenizer was found there.
        options: the other arguments of `check_files`.

    Raises:
        UnknownModelError: the model does not exist.
        ConfigurationError, NotFoundError: see `sources` and `check_files`.
    """
    from runner.catalog import find_model
    from runner.datasets.checks import check_files

    found = find_model(model) if model else None
    if options.get("engine") is None:  # the workers of an engine can be on other machines
        tokenizer = tokenizer_for(found, tokenizer, tell)
    with sources(connect, training, validation) as (first, second):
        return check_files(first, second, model=found, mode=mode, tokenizer=tokenizer, **options)


def tokenizer_for(model: Model | None, given: Path | None, tell: Callable[[str], None] | None = None) -> Path | None:
    """Return the tokenizer for counting: the given one, or the model's if it is in Hugging Face's cache."""
    if given is not None:
        return given
    from runner.datasets.tokens.hub_cache import find_tokenizer

    found = find_tokenizer(model)
    if found is not None and model is not None and tell is not None:
        tell(f"counting with the tokenizer of {model.hub} in Hugging Face's cache")
    return found
