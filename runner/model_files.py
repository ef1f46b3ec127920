"""The files of a model's folder: which may be opened, their maximum sizes, and the contents of the weights.

A folder of weights can come from anybody. All decisions use names, sizes, JSON and the headers of safetensors files,
including the required memory, before a library that loads models opens the folder. No pickle is opened, no file outside
the folder is referenced, and no code of its author is requested.
"""

from __future__ import annotations

import itertools
import math
import re
import stat
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from runner import json_text, local_files
from runner.errors import FileLimitError, ModelFilesError, ModelLimitError

INDEX = "model.safetensors.index.json"
SINGLE = "model.safetensors"
_MIB = 1 << 20
_LIMITS = {INDEX: 64 * _MIB, "tokenizer.json": 256 * _MIB, "tokenizer.model": 64 * _MIB, "tekken.json": 64 * _MIB}
"""Maximum size of single files. The largest known: 34 MB (tokenizer.json of Gemma 3), 30 MB (index of a 1-trillion
model)."""
_LIMITS_BY_ENDING = {".json": 4 * _MIB, ".jinja": _MIB, ".txt": 64 * _MIB, ".model": 64 * _MIB}
_VOCABULARIES = {"vocab.json": 64 * _MIB, "added_tokens.json": 64 * _MIB, "tokenizer_config.json": 16 * _MIB}
"""Old tokenizer configurations list every added token."""
_HEADER_BYTES = 32 * _MIB
"""Maximum size of the header of a safetensors file; 100,000 tensors take about 12 MB."""
_SHARDS = 2000
_DEEPEST = 32
"""Maximum depth of folders in a model's folder, and of nesting in its configurations."""
_CONFIGURATIONS = (
    "config.json",
    "generation_config.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "processor_config.json",
    "preprocessor_config.json",
    "image_processor_config.json",
    "video_preprocessor_config.json",
    "audio_tokenizer_config.json",
)
_REFERENCE = re.compile(r"(?:^|_)(?:files?|paths?|dirs?|director(?:y|ies)|folders?|urls?|repos?|name_or_path)\Z")
"""Keys with values that libraries open. `_name_or_path` contains a former path of the model, which is not read."""
_INFORMATION = frozenset({"_name_or_path", "name_or_path"})
_IMPLEMENTATION = re.compile(r"_implementation(?:_internal)?\Z")
"""Keys that select a kernel; a value with a slash is downloaded from a hub."""
_BITS = {"BOOL": 8, "F4": 4, "F6_E2M3": 6, "F6_E3M2": 6, "C64": 64}
_LAYER = re.compile(r"(?:^|\.)layers\.(\d+)\.")
_LAYERS_KEY = "num_hidden_layers"
_MODEL_TYPE = re.compile(r"(?:llama|gemma|qwen|siglip)[a-z0-9_]*\Z")
"""Architectures of the models that can be tuned, and of their parts."""


@dataclass(frozen=True, slots=True)
class Weights:
    """The contents of the headers of a folder's safetensors files."""

    files: tuple[str, ...]
    parameters: int
    """Number of elements in all tensors."""
    layers: dict[str, int]
    """Number of layers by stack: `text`, and `vision` if there is one."""


def check(folder: Path) -> dict[str, Any]:
    """Return a folder's `config.json` after a check that nothing in the folder leads out of it or requests code.

    Raises:
        ModelFilesError: a link or a key leads out, a key requests code, or JSON is damaged.
        FileLimitError: a file is too large to be read.
    """
    for path in _entries(folder):
        _check_entry(folder, path)
    for name in _CONFIGURATIONS:
        if (folder / name).is_file():
            _check_keys(folder, name, read_json(folder, name))
    if (folder / "adapter_config.json").exists() and (folder / "config.json").exists():
        raise ModelFilesError(
            "adapter_config.json beside config.json names another model to load in place of this one",
            hint="delete it: merged weights need no adapter",
        )
    config = read_json(folder, "config.json")
    for kind in _values(config, "model_type"):
        if not isinstance(kind, str) or not _MODEL_TYPE.match(kind):
            raise ModelFilesError(f"config.json: the model architecture {kind!r} is not supported")
    return config


def read_json(folder: Path, name: str) -> dict[str, Any]:
    """Return the JSON object of a file. Raises ModelFilesError, FileLimitError."""
    try:
        body = json_text.parsed(read(folder, name))
    except (ValueError, RecursionError) as error:
        raise ModelFilesError(f"{name} is not readable JSON: {error}") from error
    if not isinstance(body, dict):
        raise ModelFilesError(f"{name} is not a JSON object")
    return body


def read(folder: Path, name: str) -> bytes:
    """Return the bytes of a small file of a folder. Raises ModelFilesError, FileLimitError."""
    path = folder / name
    try:
        _check_entry(folder, path)
        return path.read_bytes()
    except OSError as error:
        raise ModelFilesError(f"{name}: {local_files.reason(error)}") from error


def weights(folder: Path, config: dict[str, Any]) -> Weights:
    """Return the contents of a folder's weights, from their index and headers only.

    Args:
        folder: the model's folder, which `check` has accepted.
        config: its `config.json`.

    Raises:
        ModelFilesError: the index names other files than safetensors files of this folder, or a header is damaged.
        ModelLimitError: `config.json` has other layers than the weights.
        FileLimitError: an index or a header is too large.
    """
    files = _shards(folder)
    parameters = 0
    last = {"text": -1, "vision": -1}
    for name in files:
        for tensor, count in tensors(folder / name):
            parameters += count
            found = _LAYER.search(tensor)
            if found is not None:
                stack = "vision" if "vision" in tensor else "text"
                last[stack] = max(last[stack], int(found[1]))
    held = {stack: number + 1 for stack, number in last.items() if number >= 0}
    _check_layers(config, held)
    return Weights(files, parameters, held)


def check_memory(parameters: int, bytes_each: float, free: int) -> None:
    """Return normally if a model fits into memory.

    Args:
        parameters: number of parameters.
        bytes_each: bytes for each parameter, including gradients and optimizer for training.
        free: bytes of free memory.

    Raises:
        ModelLimitError: it does not fit.
    """
    needed = math.ceil(parameters * bytes_each)
    if needed > free:
        raise ModelLimitError(
            f"the model's {parameters:,} parameters need {needed / 2**30:.1f} GiB of memory; "
            f"{free / 2**30:.1f} GiB are free",
            hint="use a smaller model, or a machine with more memory",
        )


def _entries(folder: Path, depth: int = 0) -> Iterator[Path]:
    for path in sorted(folder.iterdir()):
        yield path
        if path.is_dir() and not path.is_symlink():
            if depth == _DEEPEST:
                raise ModelFilesError(f"{path.name} is nested too deeply")
            yield from _entries(path, depth + 1)


def _check_entry(folder: Path, path: Path) -> None:
    """Refuse links that lead out, special files, and files that are too large. Raises ModelFilesError and others."""
    name = path.relative_to(folder).as_posix()
    if path.is_symlink() and not _stays(folder, path):
        raise ModelFilesError(f"{name} is a link that leads out of the folder")
    details = path.stat()
    if stat.S_ISDIR(details.st_mode):
        return
    if not stat.S_ISREG(details.st_mode):
        raise ModelFilesError(f"{name} is not a regular file")
    limit = _LIMITS.get(path.name) or _VOCABULARIES.get(path.name) or _LIMITS_BY_ENDING.get(path.suffix)
    if limit is not None and details.st_size > limit:
        raise FileLimitError(
            f"{name} has {details.st_size:,} bytes; at most {limit:,} are read",
            hint="use the file that the model came with",
        )


def _stays(folder: Path, path: Path) -> bool:
    """Return whether a link stays in the folder, or leads to the blobs of the hub cache that contains the snapshot."""
    root = folder.resolve()
    try:
        target = path.resolve(strict=True)
    except (OSError, RuntimeError):
        return False
    roots = [root, root.parent.parent / "blobs"] if root.parent.name == "snapshots" else [root]
    return any(target.is_relative_to(one) for one in roots)


def _check_keys(folder: Path, name: str, body: dict[str, Any]) -> None:
    for path, key, value in _pairs(body, name):
        if key == "auto_map" and value:
            raise ModelFilesError(
                f"{path} asks for code of its own (auto_map), which is never run", hint="use a plain model"
            )
        if key == "quantization_config" and value:
            raise ModelFilesError(f"{path}: the weights are quantised", hint="save them in bfloat16 or float32")
        refers = _REFERENCE.search(key) and key not in _INFORMATION
        for text in _texts(value) if refers or _IMPLEMENTATION.search(key) else ():
            if not _is_name(text) or (refers and not (folder / text).is_file()):
                raise ModelFilesError(
                    f"{path} names {text[:200]!r}, which is no file of this folder", hint=f"delete the key {key}"
                )


def _is_name(text: str) -> bool:
    return not re.search(r"[/\\:\0]", text) and text not in {".", ".."} and not text.startswith("~")


def _pairs(value: Any, path: str, depth: int = 0) -> Iterator[tuple[str, str, Any]]:
    if depth > _DEEPEST:
        raise ModelFilesError(f"{path[:200]} is nested too deeply")
    if isinstance(value, dict):
        for key, inner in value.items():
            yield f"{path} {key}"[:400], key, inner
            yield from _pairs(inner, f"{path} {key}"[:400], depth + 1)
    elif isinstance(value, list):
        for inner in value:
            yield from _pairs(inner, path, depth + 1)


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, list | dict):
        for inner in value.values() if isinstance(value, dict) else value:
            yield from _texts(inner)


def _values(config: dict[str, Any], wanted: str) -> list[Any]:
    return [value for _, key, value in _pairs(config, "config.json") if key == wanted]


def _shards(folder: Path) -> tuple[str, ...]:
    """Return the names of the safetensors files that are loaded. Raises ModelFilesError."""
    if (folder / SINGLE).is_file() or not (folder / INDEX).is_file():
        names = [SINGLE] if (folder / SINGLE).is_file() else sorted(path.name for path in folder.glob("*.safetensors"))
        return tuple(name for name in names if not name.startswith("adapter_"))
    named = read_json(folder, INDEX).get("weight_map")
    if not isinstance(named, dict) or not named or not all(isinstance(name, str) for name in named.values()):
        raise ModelFilesError(f"{INDEX} has no valid weight_map")
    shards = sorted(set(named.values()))
    for name in shards:
        if not _is_name(name) or not name.endswith(".safetensors"):
            raise ModelFilesError(
                f"{INDEX} names {name[:200]!r}, which is no safetensors file of this folder",
                hint="save the model again with safe_serialization=True",
            )
        if not (folder / name).is_file():
            raise ModelFilesError(f"{INDEX} names {name[:200]}, which is not there", hint="upload the whole folder")
    if len(shards) > _SHARDS:
        raise FileLimitError(f"{INDEX} names {len(shards):,} files; at most {_SHARDS:,} are read")
    return tuple(shards)


def tensors(path: Path) -> Iterator[tuple[str, int]]:
    """Yield the name and the number of elements of each tensor of a safetensors file, from its header.

    Raises:
        ModelFilesError: the file is truncated, or its header is damaged: a tensor is outside of the file, or overlaps
            another one.
        FileLimitError: the header is too large.
    """
    damaged = f"{path.name} is damaged"
    size = path.stat().st_size
    with path.open("rb") as stream:
        head = stream.read(8)
        length = struct.unpack("<Q", head)[0] if len(head) == 8 else size
        if length > size - 8:
            raise ModelFilesError(f"{damaged}: its header does not fit into {size:,} bytes")
        if length > _HEADER_BYTES:
            raise FileLimitError(f"{path.name} has a header of {length:,} bytes; at most {_HEADER_BYTES:,} are read")
        text = stream.read(length)
    try:
        header = json_text.parsed(text)
        if not isinstance(header, dict):
            raise ValueError("no object")
        places: list[tuple[int, int]] = []
        for name, tensor in header.items():
            if name == "__metadata__":
                continue
            count = _elements(tensor)
            begin, end = tensor["data_offsets"]
            if not 0 <= begin <= end <= size - 8 - length or (end - begin) * 8 != count * _bits(tensor["dtype"]):
                raise ValueError(f"{name[:200]} does not fit")
            places.append((begin, end))
            yield name, count
        if any(left[1] > right[0] for left, right in itertools.pairwise(sorted(places))):
            raise ValueError("tensors overlap")
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ModelFilesError(f"{damaged}: its header is not readable ({error})") from error


def _elements(tensor: dict[str, Any]) -> int:
    shape = tensor["shape"]
    if not isinstance(shape, list) or not all(type(one) is int and one >= 0 for one in shape):
        raise ValueError("a shape is no list of sizes")
    return math.prod(shape)


def _bits(dtype: str) -> int:
    """Return the number of bits of an element, for `BF16`, `F8_E4M3`, `I64` and others."""
    known = _BITS.get(dtype)
    if known is not None:
        return known
    found = re.match(r"(?:F|BF|I|U)(8|16|32|64)(?:_|\Z)", dtype)
    if found is None:
        raise ValueError(f"the type {dtype[:20]!r} is unknown")
    return int(found[1])


def _check_layers(config: dict[str, Any], held: dict[str, int]) -> None:
    """Refuse a configuration with other layers than the weights. Raises ModelLimitError."""
    text = config.get("text_config", config)
    parts = {"text": text, "vision": config.get("vision_config")}
    for stack, part in parts.items():
        asked = part.get(_LAYERS_KEY) if isinstance(part, dict) else None
        if asked is not None and asked != held.get(stack, 0):
            raise ModelLimitError(
                f"config.json describes {str(asked)[:30]} {stack} layers, the weights have {held.get(stack, 0)}",
                hint="use the config.json that belongs to the weights",
            )
