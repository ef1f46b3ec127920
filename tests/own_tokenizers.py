"""A base model's own tokenizer, where Hugging Face's tools would have left it: it cuts unlike the stand-in's."""

from __future__ import annotations

import shutil
from pathlib import Path

from runner.catalog import find_model
from runner.emulator.engine.tiny import prepare_tiny


def place_tokenizer(home: Path, cache: Path, base_model: str) -> Path:
    """Put a tokenizer for a model into the hub's cache below `home`, at `hub` (HF_HUB_CACHE), and return its folder."""
    hub = find_model(base_model).hub
    assert hub is not None
    snapshot = home / "hub" / f"models--{hub.replace('/', '--')}" / "snapshots" / "aaaa"
    # Another family's: its counts are not those of the stand-in for this one.
    shutil.copytree(prepare_tiny("qwen3", cache), snapshot)
    for weights in snapshot.glob("*.safetensors"):
        weights.unlink()
    return snapshot
