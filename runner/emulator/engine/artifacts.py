"""The results of a job: folders that transformers, vLLM and the emulator's own endpoints load."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import torch

from runner.emulator.engine.loading import LoadedModel
from runner.emulator.engine.lora import merged_state
from runner.emulator.engine.protocol import ModelSource, TuningMode
from runner.emulator.engine.sources import stand_in_card
from runner.emulator.engine.tokenizer_files import save_tokenizer

MAX_CHECKPOINTS = 10
"""Maximum number of checkpoints that the service keeps."""


def checkpoint_epochs(epochs: int, *, last_only: bool) -> list[int]:
    """Return the epochs (from 1) whose checkpoints are kept: all, or ten distributed evenly, including the last."""
    if last_only:
        return []
    if epochs <= MAX_CHECKPOINTS:
        return list(range(1, epochs + 1))
    return sorted({round(number * epochs / MAX_CHECKPOINTS) for number in range(1, MAX_CHECKPOINTS + 1)})


class ArtifactWriter:
    """Writes the checkpoints of one job. Each gets its name only when it is complete."""

    def __init__(
        self, output: Path, loaded: LoadedModel, source: ModelSource, mode: TuningMode, base_model: str
    ) -> None:
        self.output = output
        self.loaded = loaded
        self.card = stand_in_card(source)
        self.mode = mode
        self.base_model = base_model
        config = json.loads(Path(loaded.card["directory"], "config.json").read_text())
        name = config.get("dtype") or config.get("torch_dtype") or config.get("text_config", {}).get("dtype")
        # The type of the stored base model: a model that trains in float32 need not be published in it.
        self.dtype: torch.dtype = getattr(torch, str(name), loaded.model.dtype)

    def write(self, name: str, model: Any, *, adapter: bool, facts: dict[str, Any] | None = None) -> Path:
        """Write the model to `output/name`, with `adapter/` beside the merged weights if requested."""
        target = self.output / name
        folder = self.output / f".{name}.writing"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        base = model if self.mode == "FULL" else model.get_base_model()
        state = model.state_dict() if self.mode == "FULL" else merged_state(model)
        stored = {key: value.to(self.dtype) if value.is_floating_point() else value for key, value in state.items()}
        del state
        kept = base.config.dtype
        base.config.dtype = self.dtype
        base.save_pretrained(folder, state_dict=stored, save_peft_format=False)
        base.config.dtype = kept
        save_tokenizer(self.loaded.processor or self.loaded.tokenizer, folder)
        if self.card is not None:
            self.card.write(folder)
        if adapter and self.mode == "PEFT_ADAPTER":
            self._write_adapter(folder / "adapter", model)
        if facts is not None:
            (folder / "run.json").write_text(json.dumps(facts, indent=1))
        shutil.rmtree(target, ignore_errors=True)
        folder.rename(target)
        return target

    def _write_adapter(self, folder: Path, model: Any) -> None:
        model.save_pretrained(folder, safe_serialization=True)
        (folder / "README.md").unlink(missing_ok=True)
        config = folder / "adapter_config.json"
        body = json.loads(config.read_text())
        body["base_model_name_or_path"] = self.base_model  # not a path of this machine
        config.write_text(json.dumps(body, indent=1))
