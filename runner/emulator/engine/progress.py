"""The files of the training process in the job's folder: its events and its saved state."""

from __future__ import annotations

import json
import os
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

EVENTS_FILE = "events.jsonl"
STATE_FILE = "state.pt"


class EventLog:
    """Appends events, one JSON object per line.

    Each line is written with one call, so readers never see a part of it.
    """

    def __init__(self, directory: Path) -> None:
        path = directory / EVENTS_FILE
        self._descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        if path.stat().st_size and not _ends_with_newline(path):
            os.write(self._descriptor, b"\n")  # the incomplete line of a killed process stays separate

    def write(self, event: str, *, durable: bool = False, **fields: Any) -> None:
        """Append an event; with `durable`, wait until it is on disk."""
        line = json.dumps({"event": event, "time": time.time(), **fields}, ensure_ascii=False) + "\n"
        os.write(self._descriptor, line.encode())
        if durable:
            os.fsync(self._descriptor)


def _ends_with_newline(path: Path) -> bool:
    with path.open("rb") as stream:
        stream.seek(-1, os.SEEK_END)
        return stream.read(1) == b"\n"


@dataclass(slots=True, kw_only=True)
class Progress:
    """The progress of a job; resuming needs only this, the weights and the optimizer's state."""

    step: int = 0
    """Number of completed optimizer steps."""
    tokens: int = 0
    """Number of trained tokens, over all epochs."""
    epoch_loss: float = 0.0
    """Sum of the losses of the learned tokens in the current epoch."""
    epoch_learned: int = 0
    """Number of those tokens."""
    losses: list[float] = field(default_factory=list)
    """Mean training loss of each completed epoch."""
    validation_losses: list[float] = field(default_factory=list)
    seconds: float = 0.0
    """Training time in seconds, over all starts."""


class StateStore:
    """Saves and restores the progress, the trainable weights and the optimizer, atomically."""

    def __init__(self, directory: Path) -> None:
        self._path = directory / STATE_FILE

    def save(self, progress: Progress, model: Any, optimizer: torch.optim.Optimizer) -> None:
        """Replace the saved state; a crash leaves the old one."""
        body = {
            "progress": {name: getattr(progress, name) for name in Progress.__dataclass_fields__},
            "weights": {name: value.detach() for name, value in model.named_parameters() if value.requires_grad},
            "optimizer": optimizer.state_dict(),
        }
        temporary = self._path.with_suffix(".writing")
        with temporary.open("wb") as stream:
            torch.save(body, stream)
            stream.flush()
            os.fsync(stream.fileno())
        temporary.replace(self._path)

    def restore(self, model: Any, optimizer: torch.optim.Optimizer) -> Progress | None:
        """Load the saved state into the model and the optimizer; None if there is none."""
        if not self._path.exists():
            return None
        # weights_only: reads only tensors and plain containers, no pickled code.
        body = torch.load(self._path, map_location="cpu", weights_only=True)
        parameters = dict(model.named_parameters())
        with torch.no_grad():
            for name, value in body["weights"].items():
                parameters[name].copy_(value)
        optimizer.load_state_dict(body["optimizer"])
        return Progress(**body["progress"])

    def remove(self) -> None:
        """Delete the saved state of a completed job."""
        self._path.unlink(missing_ok=True)
