"""Configurations of stacks: `Pulumi.NAME.yaml`, and the program with valid ones."""

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
from infra import stack_files
from infra.evaluation import evaluate
from runner.errors import ConfigurationError


class Stacks(Target):
    """Files of stacks."""

    name = "stacks"
    seconds = 20.0

    def seeds(self) -> list[bytes]:
        """Return the stacks of the repository."""
        return [(stack_files.ROOT / f"Pulumi.{name}.yaml").read_bytes() for name in stack_files.stacks()]

    def broken(self, draw: random.Random, data: bytes) -> bytes:
        """Return the file with other values or bytes."""
        return of_document(draw, data, _read, lambda value: yaml.safe_dump(value).encode())

    @contextlib.contextmanager
    def opened(self) -> Iterator[Survive]:
        """Use a folder."""
        with tempfile.TemporaryDirectory() as name:
            yield lambda data: _survive(data, Path(name))


def _read(data: bytes) -> Any:
    return json.loads(json.dumps(yaml.safe_load(data), default=str))


def _survive(data: bytes, folder: Path) -> list[str]:
    (folder / "Pulumi.fuzzed.yaml").write_bytes(data)
    try:
        made = evaluate(stack_files.configuration("fuzzed", folder), stack="fuzzed")
    except ConfigurationError as error:
        said = error.problems or [error.message]
        return [" ".join(word for word in text.split(": ")[-1].split() if word.isalpha())[:60] for text in said]
    return sorted({resource.type for resource in made.resources})
