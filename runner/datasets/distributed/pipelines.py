"""Pipelines of Apache Beam over the ranges of a dataset: where they run, what they read, and where results go."""

from __future__ import annotations

import contextlib
import hashlib
import io
import tempfile
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from runner.datasets.distributed.wheels import wheels
from runner.datasets.reading.compression import is_plain
from runner.datasets.reading.lines import BLOCK_BYTES
from runner.datasets.reading.sources import RemoteObject, Source, name_of
from runner.errors import ConfigurationError, RunnerError
from runner.installation import require

RANGE_BYTES = 64 << 20
MOST_RANGES = 10_000
"""Maximum number of ranges, so that their results fit here: in a larger file, ranges are longer."""
LOCAL_RUNNERS = frozenset({"DirectRunner", "FnApiRunner"})


@dataclass(frozen=True, slots=True)
class Range:
    """A part of a dataset, which is sent to workers."""

    address: str
    index: int
    start: int
    end: int
    place: str
    """Folder for the results."""

    def file(self, kind: str) -> str:
        """Return the address of a result file of this range."""
        return f"{self.place}/{kind}-{self.index:06}"


@dataclass(slots=True)
class Beam:
    """Where pipelines run. A context manager, which deletes the intermediate results at its end.

    Args:
        runner: name of a Beam runner, for example `DataflowRunner`.
        options: options of the pipeline, such as `--temp_location=gs://bucket/tmp`.
        range_bytes: size of a range, the unit of work, in bytes.

    Raises:
        EngineMissingError: Apache Beam is not installed.
        ConfigurationError: a remote runner has no writable `temp_location`.
    """

    runner: str = "DirectRunner"
    options: Sequence[str] = ()
    range_bytes: int = RANGE_BYTES
    _place: str = ""
    _stack: contextlib.ExitStack = field(default_factory=contextlib.ExitStack)

    def __post_init__(self) -> None:
        require("this engine", "beam", apache_beam="Apache Beam")
        if not self.is_local and not self.option("temp_location"):
            message = f"{self.runner} needs a place for its result that its workers reach"
            raise ConfigurationError(message, hint="--pipeline temp_location=gs://BUCKET/FOLDER")

    @property
    def is_local(self) -> bool:
        """Return whether the workers run on this machine."""
        return self.runner in LOCAL_RUNNERS

    def option(self, name: str) -> str:
        """Return the value of a pipeline option, or "" if it is not given."""
        found = [given.partition("=")[2] for given in self.options if given.partition("=")[0] == f"--{name}"]
        return found[-1] if found else ""

    def __enter__(self) -> Beam:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    @property
    def place(self) -> str:
        """Return the folder for results, which this machine and the workers can access."""
        if not self._place:
            root = self.option("temp_location")
            if root:
                self._place = f"{root.rstrip('/')}/runner-{uuid.uuid4().hex[:12]}"
                self._stack.callback(_delete, self._place)
            else:
                self._place = self._stack.enter_context(tempfile.TemporaryDirectory(prefix="runner-beam-"))
        return self._place

    def require_readable(self, source: Source) -> None:
        """Do nothing if workers can read a source at any place. Raises ConfigurationError."""
        if not is_plain(source):
            message = f"{source}: pipes and compressed files cannot be read at any place"
            raise ConfigurationError(message, hint="decompress it first, or omit --engine")
        if not self.is_local and not isinstance(source, RemoteObject):
            message = f"{source} is on this machine, where the workers of {self.runner} are not"
            raise ConfigurationError(message, hint="upload it with `runner data upload`, then use its gs:// address")

    def ranges(self, source: Source, name: str) -> list[Range]:
        """Return the ranges of a source; `name` is the name of the folder for their results."""
        self.require_readable(source)
        address = source.uri if isinstance(source, RemoteObject) else str(source.resolve())
        size = size_of(source)
        step = max(self.range_bytes, -(-size // MOST_RANGES))
        place = f"{self.place}/{name}"
        if "://" not in place:
            Path(place).mkdir(parents=True, exist_ok=True)
        return [
            Range(address, index, start, min(start + step, size), place)
            for index, start in enumerate(range(0, size or 1, step))
        ]

    @contextmanager
    def pipeline(self, what: str, source: Source) -> Iterator[Any]:
        """Yield a pipeline that runs when the context ends. Raises RunnerError with the workers' reason."""
        import apache_beam as beam
        from apache_beam.options.pipeline_options import PipelineOptions

        options = list(self.options)
        with contextlib.ExitStack() as stack:
            if not self.option("default_sdk_harness_log_level"):
                options.append("--default_sdk_harness_log_level=WARNING")
            if not self.is_local:
                options += self.staged(what, source, stack)
            try:
                with beam.Pipeline(runner=_runner(self.runner), options=PipelineOptions(options)) as running:
                    yield running
            except RunnerError:
                raise
            except Exception as error:  # runners report a worker's failure in different ways
                reason = str(error).strip().splitlines() or [repr(error)]
                raise RunnerError(
                    f"the pipeline that should {what} {name_of(source)} failed: {reason[-1][:500]}",
                    hint=f"see the log of the workers; to read {name_of(source)} on this machine, omit --engine",
                ) from error

    def staged(self, what: str, source: Source, stack: contextlib.ExitStack) -> list[str]:
        """Return options that send this package to the workers and name the job after its purpose."""
        added = []
        if not self.option("job_name"):
            # A second job with the same name is refused while the first runs: repeating a command starts nothing twice.
            known = f"{what}\0{source}\0{size_of(source)}".encode()
            added.append(f"--job_name=runner-{what}-{hashlib.sha256(known).hexdigest()[:16]}")
        if not self.option("extra_package") and not self.option("sdk_container_image"):
            folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="runner-wheels-"))
            added += [f"--extra_package={path}" for path in wheels(Path(folder))]
        return added


def size_of(source: Source) -> int:
    """Return the size of a source in bytes."""
    return source.size if isinstance(source, RemoteObject) else source.stat().st_size


def shared(pipeline: Any, items: Iterable[Any]) -> Any:
    """Return a collection of items, distributed to all workers."""
    import apache_beam as beam

    return pipeline | "items" >> beam.Create(list(items)) | "share" >> beam.Reshuffle()


_AS_IT_IS = {"compression_type": "uncompressed"}
"""Compression type: otherwise Beam would decompress files according to their names."""


@contextmanager
def opened(address: str) -> Iterator[Any]:
    """Open a file or an object for reading at any place, on the worker that runs this."""
    with _files().open(address, **_AS_IT_IS) as found:
        yield found if isinstance(found, io.BufferedIOBase) else io.BufferedReader(found, BLOCK_BYTES)


def created(address: str) -> AbstractContextManager[BinaryIO]:
    """Open a file or an object for writing; a repeated write replaces it."""
    made: AbstractContextManager[BinaryIO] = _files().create(address, **_AS_IT_IS)
    return made


def copy_into(address: str, write: Callable[[bytes], object]) -> None:
    """Yield a file's bytes, one block at a time."""
    with opened(address) as stream:
        while block := stream.read(BLOCK_BYTES):
            write(block)


def read(address: str) -> bytes:
    """Return a file's bytes."""
    with opened(address) as stream:
        found: bytes = stream.read()
        return found


def write(address: str, content: bytes) -> None:
    """Write a file."""
    with created(address) as stream:
        stream.write(content)


def _delete(place: str) -> None:
    with contextlib.suppress(Exception):  # files that remain cost a little; the command has done its work
        _files().delete([f"{place}/"])


def _files() -> Any:
    from apache_beam.io.filesystems import FileSystems

    return FileSystems


def _runner(name: str) -> Any:
    if name not in LOCAL_RUNNERS:
        return name
    # The runner behind `DirectRunner` may download a program; this one is part of the package.
    from apache_beam.runners.portability.fn_api_runner import FnApiRunner

    return FnApiRunner()
