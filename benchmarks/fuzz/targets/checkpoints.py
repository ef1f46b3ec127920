"""Folders of weights: an input is a JSON object of files that replace those of a small model.

An object or a list is written as JSON, a text as bytes; a value for `model.safetensors` is its header. Folders that
pass the check are also loaded. Nothing outside the folder may be opened.
"""

from __future__ import annotations

import contextlib
import json
import random
import re
import shutil
import struct
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.fuzz.driver import Survive, Target
from benchmarks.fuzz.mutations import of_document
from runner.emulator.engine.checkpoints import ModelError, check_checkpoint
from runner.emulator.engine.protocol import ModelSource
from runner.emulator.engine.tiny import prepare_tiny

_FAMILIES = ("llama3", "llama4", "gemma3", "qwen3")
_WEIGHTS = "model.safetensors"
_NAME = re.compile(r"[A-Za-z0-9_.-]{1,60}\Z")
_INDEX = {"metadata": {"total_size": 1}, "weight_map": {"a": _WEIGHTS, "b": "../other.safetensors"}}
_CHECKOUT = f"{Path(__file__).resolve().parents[3]}/"
_ALLOWED = ("/usr/", "/proc/", "/dev/", "/etc/", "/sys/", sys.prefix, sys.base_prefix)
_opened: list[str] = []


class Checkpoints(Target):
    """Models' folders."""

    name = "checkpoints"
    seconds = 20.0

    def seeds(self) -> list[bytes]:
        """Return the configurations and the header of each family's small model."""
        with tempfile.TemporaryDirectory() as name:
            found = []
            for family in _FAMILIES:
                folder = prepare_tiny(family, Path(name))
                files = {
                    path.name: json.loads(path.read_bytes())
                    for path in folder.glob("*.json")
                    if path.name != "tokenizer.json"
                }
                found += [{"": family, file: body} for file, body in files.items()]
                found.append({"": family, _WEIGHTS: _header(folder / _WEIGHTS)})
        found.append({"": "llama3", "model.safetensors.index.json": _INDEX})
        found.append({"": "llama3", "chat_template.jinja": "{{ messages }}"})
        return [json.dumps(one).encode() for one in found]

    def broken(self, draw: random.Random, data: bytes) -> bytes:
        """Return the files with other values or bytes."""
        return of_document(draw, data, json.loads, lambda value: json.dumps(value).encode())

    @contextlib.contextmanager
    def opened(self) -> Iterator[Survive]:
        """Create the small models."""
        sys.addaudithook(lambda event, values: _opened.append(str(values[0])) if event == "open" else None)
        with tempfile.TemporaryDirectory() as name:
            cache = Path(name)
            yield lambda data: _survive(data, cache)


def _header(path: Path) -> Any:
    with path.open("rb") as stream:
        return json.loads(stream.read(struct.unpack("<Q", stream.read(8))[0]))


def _survive(data: bytes, cache: Path) -> list[str]:
    from runner.emulator.engine.loading import load

    try:
        files = json.loads(data)
    except (ValueError, RecursionError):
        files = {"config.json": data.decode("latin-1")}
    if not isinstance(files, dict):
        files = {"config.json": files}
    family = files.pop("", "llama3")
    whole = prepare_tiny(family if family in _FAMILIES else "llama3", cache)
    folder = cache / "changed"
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(whole, folder)
    for name, content in files.items():
        if _NAME.match(name) and name not in {".", ".."}:
            _write(folder / name, content, whole)
    _opened.clear()
    try:
        check_checkpoint(folder)
        load(ModelSource(kind="custom", directory=str(folder)), cache_directory="", threads=1)
    except ModelError as error:
        return [error.reason or error.status]
    finally:
        strange = [path for path in _opened if path.startswith("/") and not _is_known(path, cache)]
        assert not strange, strange
    return ["loads"]


def _is_known(path: str, cache: Path) -> bool:
    return path.startswith((str(cache), _CHECKOUT, *_ALLOWED)) or ".cache" in path or path == "/"


def _write(path: Path, content: Any, whole: Path) -> None:
    if path.name == _WEIGHTS and not isinstance(content, str):
        text = json.dumps(content).encode()
        with (whole / _WEIGHTS).open("rb") as stream:
            stream.seek(struct.unpack("<Q", stream.read(8))[0], 1)
            path.write_bytes(struct.pack("<Q", len(text)) + text + stream.read())
        return
    path.write_bytes(
        content.encode("utf-8", "surrogatepass") if isinstance(content, str) else json.dumps(content).encode()
    )
