"""Check that a folder contains weights that a job can continue from."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from runner.errors import GoogleApiError
from runner.gcp import downloads, storage
from runner.gcp.session import Session
from runner.jobs.preflight.findings import PreflightFinding, error
from runner.json_text import parsed

INDEX = "model.safetensors.index.json"
MAX_INDEX_BYTES = 64 * 1024 * 1024
TOKENIZERS = frozenset({"tokenizer.json", "tokenizer.model", "tekken.json", "vocab.json"})
_MERGE = "merge the adapter into its base, or name the folder of the merged weights"


def weights(session: Session, folder: str) -> Iterator[PreflightFinding]:
    """Yield what is missing in a folder of weights."""
    base = folder.rstrip("/") + "/"
    try:
        sizes = {item.uri.removeprefix(base): item.size for item in storage.list_objects(session, base)}
        yield from _contents(session, base, sizes)
    except GoogleApiError as caught:
        yield error("denied", caught.message, caught.hint or "")


def _contents(session: Session, base: str, sizes: dict[str, int]) -> Iterator[PreflightFinding]:
    direct = {name for name in sizes if "/" not in name}
    nested = sorted({name.rpartition("/")[0] for name in sizes if name.endswith("/config.json")})
    tensors = {name for name in direct if name.endswith(".safetensors")}
    if "adapter_config.json" in direct and not tensors - {"adapter_model.safetensors"}:
        yield error("weights", f"{base} holds only an adapter, not a model's weights", _MERGE)
        return
    if not sizes:
        yield error("object_missing", f"there are no files in {base}")
        return
    if not tensors and nested:
        yield error("weights", f"{base} holds no weights itself", f"name the folder itself: {base}{nested[0]}")
        return
    if not tensors:
        binary = any(name.endswith((".bin", ".pt", ".pth")) for name in direct)
        what = "only pickled weights (.bin, .pt)" if binary else "no .safetensors weights"
        fix = "save them with `model.save_pretrained(FOLDER, safe_serialization=True)`" if binary else ""
        yield error("weights", f"{base} holds {what}", fix)
    if "config.json" not in direct:
        yield error("weights", f"{base} has no config.json", "copy the one of the model beside the weights")
    elif not isinstance(_json(session, base, "config.json", sizes), dict):
        yield error("weights", f"{base}config.json is not a JSON object")
    if not direct & TOKENIZERS:
        yield error("weights", f"{base} has no tokenizer", "copy the tokenizer's files beside the weights")
    if INDEX in direct:
        yield from _shards(session, base, sizes)
    for name in sorted(tensors):
        if not sizes[name]:
            yield error("weights", f"{base}{name} is empty")


def _shards(session: Session, base: str, sizes: dict[str, int]) -> Iterator[PreflightFinding]:
    index = _json(session, base, INDEX, sizes)
    named = index.get("weight_map") if isinstance(index, dict) else None
    if not isinstance(named, dict) or not all(isinstance(name, str) for name in named.values()):
        yield error("weights", f"{base}{INDEX} has no valid weight_map")
        return
    shards = sorted(set(named.values()))
    strange = [name for name in shards if "/" in name or not name.endswith(".safetensors")]
    absent = [name for name in shards if name not in sizes and name not in strange]
    for what, names in (
        ("names files that are not safetensors files of this folder", strange),
        ("lacks shards", absent),
    ):
        if names:
            more = f" and {len(names) - 3} more" if len(names) > 3 else ""
            yield error("weights", f"{base}{INDEX} {what}: {', '.join(names[:3])}{more}", "upload the whole folder")


def _json(session: Session, base: str, name: str, sizes: dict[str, int]) -> Any:
    if sizes[name] > MAX_INDEX_BYTES:
        return None
    try:
        return parsed(downloads.read_bytes(session, base + name))
    except ValueError:
        return None
