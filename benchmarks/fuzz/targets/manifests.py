"""Job manifests: YAML for `runner plan` and `apply`."""

from __future__ import annotations

import contextlib
import json
import random
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from benchmarks.fuzz.driver import Survive, Target
from benchmarks.fuzz.mutations import of_document
from runner.environment import Environment, service_agents_of
from runner.errors import RunnerError
from runner.jobs.manifests import reading

_EXAMPLES = Path(__file__).parents[3] / "examples" / "jobs"
_ENVIRONMENT = Environment(
    project="fuzzed",
    project_number="1",
    location="us-central1",
    datasets_bucket="d",
    images_bucket="i",
    outputs_bucket="o",
    service_agents=service_agents_of("1"),
)


class Manifests(Target):
    """Files of manifests."""

    name = "manifests"

    def seeds(self) -> list[bytes]:
        """Return the examples, and each of their documents."""
        whole = [path.read_bytes() for path in sorted(_EXAMPLES.glob("*.yaml"))]
        return [*whole, *(b"---\n" + part for file in whole for part in file.split(b"\n---\n"))]

    def broken(self, draw: random.Random, data: bytes) -> bytes:
        """Return the manifests with other values or bytes."""
        return of_document(draw, data, _read, lambda value: yaml.safe_dump_all(value).encode())

    @contextlib.contextmanager
    def opened(self) -> Iterator[Survive]:
        """Use a folder."""
        with tempfile.TemporaryDirectory() as name:
            yield lambda data: _survive(data, Path(name) / "jobs.yaml")


def _read(data: bytes) -> Any:
    return json.loads(json.dumps(list(yaml.safe_load_all(data)), default=str))


def _survive(data: bytes, path: Path) -> list[str]:
    path.write_bytes(data)
    loaded = reading.load([path])
    found = [*loaded.problems, *reading.check(loaded.jobs, _ENVIRONMENT)]
    for problem in found:
        assert not {"\n", "\x1b"} & set(problem.strip()), problem
    for job in loaded.jobs:
        try:
            reading.placeable(job)
        except RunnerError as error:
            found.append(type(error).__name__)
    # The message without its names and numbers.
    return [" ".join(word for word in text.split(": ")[-1].split() if word.isalpha())[:60] for text in found]
