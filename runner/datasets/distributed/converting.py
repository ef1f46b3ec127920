"""A conversion in a pipeline, with the same lines, order and account as on one machine."""

from __future__ import annotations

from operator import itemgetter
from pathlib import Path
from typing import Any

from runner.datasets.distributed import pipelines
from runner.datasets.distributed.pipelines import Beam, Range, shared
from runner.datasets.distributed.transport import decode, encode, read, write
from runner.datasets.examples import Format
from runner.datasets.reading.lines import raw_lines
from runner.datasets.reading.opening import OpenedDataset, open_dataset
from runner.datasets.reading.sources import RemoteObject, Source, name_of
from runner.datasets.records.adapting import Columns
from runner.datasets.records.lines import LineMaker
from runner.datasets.records.local_images import image_reader
from runner.datasets.rewriting.converting import convert_range, reshaper_for
from runner.datasets.rewriting.outcome import Outcome
from runner.datasets.rewriting.targets import open_target, refuse_existing
from runner.errors import ConfigurationError


def convert_file(
    beam: Beam,
    path: Source,
    output: Path,
    form: Format | None = None,
    *,
    columns: Columns | None = None,
    compiled: bool = True,
) -> Outcome:
    """Write a dataset of JSON Lines as lines of a documented format; see `rewriting.converting.convert_file`.

    Raises:
        ConfigurationError: a file does not exist, or the output exists, or workers cannot read the source at any place.
        DatasetError: nothing would be written.
        RunnerError: the pipeline failed.
    """
    refuse_existing(output)
    with open_dataset(path) as opened:
        if opened.layout != "json-lines" or opened.encoding not in {"utf-8", "utf-8-sig"}:
            message = f"{name_of(path)} is {opened.description}: only JSON Lines in UTF-8 are read at any place"
            raise ConfigurationError(message, hint="omit --engine")
        beam.require_readable(path)
        outcome = Outcome(output=output, description=opened.description, notes=opened.notes)
        first = form or _form(opened, path, columns)
    ranges = beam.ranges(path, "convert")
    place = ranges[0].place
    # A worker on another machine has no file with images beside it.
    root = str(path.resolve()) if isinstance(path, Path) else ""
    with beam.pipeline("convert", path) as pipeline:
        _steps(pipeline, ranges, (first, form is not None and compiled, columns, root))
    accounts = read(f"{place}/accounts", list[tuple[int, int, bytes]])
    before = 0
    for index, lines, account in sorted(accounts, key=itemgetter(0)):
        outcome.add(decode(account, Outcome), before - (1 if index else 0))
        before += lines
    with open_target(output) as target:
        outcome.finish(name_of(path))
        for one in ranges:
            pipelines.copy_into(one.file("part"), target.write)
    outcome.format = first
    return outcome


def _form(opened: OpenedDataset, path: Source, columns: Columns | None) -> Format | None:
    """Return the format of the first record that becomes an example; all records are written in it."""
    maker = LineMaker(None, image_reader(path), columns=columns)
    for raw in raw_lines(opened.lines()):
        maker.of_text(raw)
        if maker.form is not None:
            break
    return maker.form


def _steps(pipeline: Any, ranges: list[Range], how: tuple[Format | None, bool, Columns | None, str]) -> None:
    import apache_beam as beam

    _ = (
        shared(pipeline, ranges)
        | "convert" >> beam.Map(_part, how)
        | "accounts" >> beam.combiners.ToList()
        | "write" >> beam.Map(write, f"{ranges[0].place}/accounts")
    )


def _part(one: Range, how: tuple[Format | None, bool, Columns | None, str]) -> tuple[int, int, bytes]:
    """Convert a range, on the worker that runs this; return its number, its lines and the account."""
    form, compiled, columns, root = how
    reader = image_reader(Path(root) if root else RemoteObject(one.address, 0, _unopened))
    maker = LineMaker(form, reader, columns=columns)
    reshaper = reshaper_for(form, compiled=compiled)
    with pipelines.opened(one.address) as stream, pipelines.created(one.file("part")) as target:
        account, lines = convert_range(stream, one.start, one.end, target, maker, reshaper)
    return one.index, lines, encode(account)


def _unopened() -> Any:
    raise AssertionError("images are not read from here")
