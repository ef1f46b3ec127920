"""Whether a folder is a checkpoint that may be loaded: safetensors and data only, nothing that runs code."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

_PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle")
_CONFIGURATIONS = (
    "config.json",
    "tokenizer_config.json",
    "processor_config.json",
    "preprocessor_config.json",
    "generation_config.json",
)


class ModelError(Exception):
    """Weights that cannot be used. `status` is a google.rpc.Code name."""

    def __init__(self, status: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message


def check_checkpoint(directory: Path) -> dict[str, Any]:
    """Return the folder's `config.json` after making sure that loading it runs no code of its author.

    Raises:
        ModelError: files are missing, damaged, or would run code.
    """
    if not directory.is_dir():
        raise ModelError("NOT_FOUND", f"The checkpoint folder {directory.name} does not exist.")
    names = sorted(path.name for path in directory.iterdir())
    weights = [name for name in names if name.endswith(".safetensors") and not name.startswith("adapter_")]
    if "config.json" not in names and "adapter_config.json" in names:
        raise ModelError(
            "INVALID_ARGUMENT",
            "The folder holds a LoRA adapter only. Give the folder with the merged weights, the parent of adapter/.",
        )
    for needed in ("config.json", "tokenizer.json"):
        if needed not in names and not (needed == "tokenizer.json" and "tokenizer.model" in names):
            raise ModelError("INVALID_ARGUMENT", f"The checkpoint has no {needed}.")
    if not weights:
        pickles = [name for name in names if name.endswith(_PICKLES)]
        if pickles:
            raise ModelError(
                "INVALID_ARGUMENT",
                f"The weights are in {pickles[0]}, a pickle, which can run code. Convert them to .safetensors.",
            )
        raise ModelError("INVALID_ARGUMENT", "The checkpoint has no .safetensors weights.")
    for name in _CONFIGURATIONS:
        if name in names and "auto_map" in _read(directory / name):
            raise ModelError(
                "INVALID_ARGUMENT",
                f"{name} asks for code of its own (auto_map), which is never run. Use a plain model.",
            )
    config = _read(directory / "config.json")
    if "quantization_config" in config:
        raise ModelError("INVALID_ARGUMENT", "The checkpoint is quantised. Give the weights in bfloat16 or float32.")
    return config


def _read(file: Path) -> dict[str, Any]:
    try:
        body = json.loads(file.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise ModelError("INVALID_ARGUMENT", f"{file.name} of the checkpoint is not readable JSON: {error}.") from error
    if not isinstance(body, dict):
        raise ModelError("INVALID_ARGUMENT", f"{file.name} of the checkpoint is not a JSON object.")
    return body
