"""Checks that a folder is a checkpoint that can be loaded: only safetensors and data, nothing that runs code."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from runner import model_files
from runner.errors import ConfigurationError, ModelLimitError

_PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle")


class ModelError(Exception):
    """Weights that cannot be used.

    Args:
        status: google.rpc.Code name.
        message: the reason, for the user.
        reason: code of the limit or rule, as in docs/errors.md; "" if there is none.
    """

    def __init__(self, status: str, message: str, *, reason: str = "") -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.reason = reason


@contextlib.contextmanager
def refusing(what: str = "The checkpoint cannot be used") -> Iterator[None]:
    """Convert errors of this package about files, limits and templates into a ModelError with the same code."""
    try:
        yield
    except ConfigurationError as error:
        status = "RESOURCE_EXHAUSTED" if isinstance(error, ModelLimitError) else "INVALID_ARGUMENT"
        said = f"{what}: {error.message}" + (f" ({error.hint})" if error.hint else "")
        raise ModelError(status, f"{said}.", reason=error.code) from error


def check_checkpoint(directory: Path) -> tuple[dict[str, Any], model_files.Weights]:
    """Return the folder's `config.json` and the contents of its weights, after checking that it can be loaded.

    Loading runs no code of its author, opens no other file and no pickle, and needs no more memory than the weights.

    Raises:
        ModelError: files are missing, damaged, too large, lead out of the folder, or would run code.
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
                reason="model_files",
            )
        raise ModelError("INVALID_ARGUMENT", "The checkpoint has no .safetensors weights.")
    with refusing():
        config = model_files.check(directory)
        return config, model_files.weights(directory, config)
