"""The training process: reads `job.json`, trains, and writes events and artifacts. See `protocol`.

If it is started again on the same folder, it continues from its saved state and ends with the same weights as an
uninterrupted run on the same machine: the order of the examples depends only on the seed and the epoch, and nothing
else is random.
"""

from __future__ import annotations

import errno
import json
import math
import resource
import signal
import sys
import time
import traceback
from pathlib import Path
from typing import Any

import torch

from runner.emulator.engine.artifacts import ArtifactWriter, checkpoint_epochs
from runner.emulator.engine.batches import epoch_order, split
from runner.emulator.engine.billed_tokens import billed_dataset
from runner.emulator.engine.checkpoints import ModelError
from runner.emulator.engine.data_statistics import dataset_statistics
from runner.emulator.engine.dataset import TokenizedDataset, TokenizedExample, Tokenizer, read_dataset
from runner.emulator.engine.fused import fuse
from runner.emulator.engine.load_limit import loading_within, seconds_for
from runner.emulator.engine.loading import LoadedModel, load
from runner.emulator.engine.lora import add_adapters
from runner.emulator.engine.memory import lacking_memory
from runner.emulator.engine.packing import TrainingPass
from runner.emulator.engine.processors import multiplies_faster_in_bfloat16, preferred_dtype
from runner.emulator.engine.progress import EventLog, Progress, StateStore
from runner.emulator.engine.protocol import TrainingSpec
from runner.emulator.engine.sources import describe, effective_learning_rate
from runner.errors import ModelLimitError

WARM_UP = 0.05
"""Share of the steps in which the learning rate rises, before it falls along a cosine."""
CLIP = 1.0
"""Maximum norm of a step's gradient."""
SECONDS_BETWEEN_SAVES = 20.0
"""Adapters are small, so a kill costs at most this time. Full weights are saved once per epoch."""
TERMINATED = 143
"""Exit code after SIGTERM, as in a shell."""


class StoppedError(Exception):
    """The process was asked to stop; its state is saved."""


def main(directory: Path) -> int:
    """Run the job of a folder; return the exit code: 0 done, 1 failed, 143 stopped."""
    events = EventLog(directory)
    try:
        job = TrainingJob(directory, TrainingSpec.read(directory / "job.json"), events)
        signal.signal(signal.SIGTERM, lambda *_: job.stop())
        job.run()
    except StoppedError:
        return TERMINATED
    except Exception as error:
        traceback.print_exc()
        status, message = classify(error)
        reason = {"reason": error.reason} if isinstance(error, ModelError) and error.reason else {}
        events.write("failed", durable=True, status=status, message=message, **reason)
        return 1
    return 0


def classify(error: Exception) -> tuple[str, str]:
    """Return the google.rpc.Code name and the message of a failure."""
    if isinstance(error, ModelError):
        return error.status, error.message
    if (lacking := lacking_memory(error)) is not None:
        advice = "use a smaller batch, shorter examples or a smaller model, or tune an adapter (PEFT_ADAPTER)"
        return "RESOURCE_EXHAUSTED", f"The job does not fit into {lacking}; {advice}."
    if isinstance(error, OSError) and error.errno == errno.ENOSPC:
        return "RESOURCE_EXHAUSTED", "The disk is full."
    return "INTERNAL", f"{type(error).__name__}: {error}"


def rate_at(step: int, total: int, peak: float) -> float:
    """Return the learning rate of a step (from 0): a linear rise, then a cosine down to zero."""
    rise = max(1, round(total * WARM_UP))
    if step < rise:
        return peak * (step + 1) / rise
    return peak * 0.5 * (1 + math.cos(math.pi * (step - rise) / max(1, total - rise)))


class TrainingJob:
    """One job from its spec to its artifacts."""

    def __init__(self, directory: Path, spec: TrainingSpec, events: EventLog) -> None:
        self.directory = directory
        self.spec = spec
        self.events = events
        self.states = StateStore(directory)
        self.stopping = False
        self.started = time.monotonic()

    def stop(self) -> None:
        """Ask the job to save its state and end after the current step."""
        self.stopping = True

    def run(self) -> None:
        """Run the whole job.

        Raises:
            StoppedError: `stop` was called.
            ModelError: the weights or the dataset cannot be used.
        """
        spec = self.spec
        if self._already_done():
            return
        loaded = self._load()
        training, validation = self._read(loaded)
        lengths = [len(example.tokens) for example in training.examples]
        billed = billed_dataset(spec)
        total = spec.epochs * math.ceil(len(lengths) / spec.batch_size)
        description = describe(spec.source, spec.base_model, spec.mode)
        self.peak = effective_learning_rate(spec.source, spec.base_model, spec.mode, spec.learning_rate)
        self.events.write(
            "dataset",
            durable=True,
            statistics=dataset_statistics(billed or training, steps=total),
            ownTokenizer=billed is not None or not description["standIn"],
            baseModel=spec.base_model,
            peakLearningRate=self.peak,
            **description,
        )
        model, optimizer, progress = self._prepare(loaded)
        # Each share of the examples has its own gradients until they are added; those of adapters are small.
        shared = spec.mode == "PEFT_ADAPTER" and self.device.type == "cpu"
        passes = TrainingPass(
            model,
            loaded.tokenizer.pad_token_id,
            autocast=self.autocast,
            threads=torch.get_num_threads() if shared else None,
        )
        writer = ArtifactWriter(self.directory / "output", loaded, spec.source, spec.mode, spec.base_model)
        kept = checkpoint_epochs(spec.epochs, last_only=spec.export_last_checkpoint_only)
        per_epoch = math.ceil(len(lengths) / spec.batch_size)
        for epoch in range(progress.step // per_epoch, spec.epochs):
            order = epoch_order(lengths, spec.batch_size, seed=spec.seed, epoch=epoch)
            model.train()
            for batch in order[progress.step - epoch * per_epoch :]:
                self._step(model, passes, optimizer, progress, [training.examples[index] for index in batch], total)
            self._finish_epoch(model, passes, progress, epoch + 1, validation, writer if epoch + 1 in kept else None)
            if epoch + 1 < spec.epochs:
                self._save(progress, model, optimizer)
        self._write_final(model, writer, progress, training, description)

    def _already_done(self) -> bool:
        """Report a job again whose result was not read because the emulator was killed."""
        try:
            facts = json.loads((self.directory / "output" / "final" / "run.json").read_text())
        except OSError:
            return False
        self._report_done(facts["steps"], facts["trainingLosses"][-1])
        return True

    def _report_done(self, step: int, loss: float) -> None:
        self.events.write("done", durable=True, step=step, epoch=self.spec.epochs, train_loss=loss)

    def _load(self) -> LoadedModel:
        spec = self.spec
        # Small updates vanish in bfloat16, so trained weights are float32; frozen ones need not be.
        full = spec.mode == "FULL"
        # On a CPU, they are bfloat16 only if this is faster.
        narrow = not full and (torch.cuda.is_available() or multiplies_faster_in_bfloat16())
        limit = seconds_for(spec.source.directory) if spec.load_seconds is None else spec.load_seconds
        with loading_within(limit, self._not_loaded):
            loaded = load(
                spec.source,
                cache_directory=spec.cache_directory,
                threads=spec.threads,
                dtype=None if narrow else torch.float32,
                trained=full,
            )
        self.autocast = loaded.model.dtype == torch.bfloat16 or (
            loaded.model.device.type == "cuda" and preferred_dtype("cuda") == torch.bfloat16
        )
        return loaded

    def _not_loaded(self, why: str) -> None:
        self.events.write("failed", durable=True, status="DEADLINE_EXCEEDED", message=why, reason=ModelLimitError.code)

    def _read(self, loaded: LoadedModel) -> tuple[TokenizedDataset, TokenizedDataset | None]:
        spec = self.spec
        tokenizer = Tokenizer(
            loaded.tokenizer,
            loaded.processor if spec.images else None,
            max_length=spec.max_sequence_length,
            files=spec.files,
        )
        training = read_dataset(Path(spec.training_file), tokenizer, images=spec.images)
        if not training.examples:
            raise ModelError("INVALID_ARGUMENT", f"The training dataset has {_nothing_usable(training)}")
        if spec.validation_file is None:
            return training, None
        validation = read_dataset(Path(spec.validation_file), tokenizer, images=spec.images)
        if not validation.examples:
            raise ModelError("INVALID_ARGUMENT", f"The validation dataset has {_nothing_usable(validation)}")
        return training, validation

    def _prepare(self, loaded: LoadedModel) -> tuple[Any, torch.optim.Optimizer, Progress]:
        torch.manual_seed(self.spec.seed)
        self.device, self.dtype = loaded.model.device, loaded.model.dtype
        model = loaded.model
        if self.spec.mode == "PEFT_ADAPTER":
            model = add_adapters(model, self.spec.adapter_size)
        if self.device.type == "cpu" and self.dtype == torch.float32 and not self.autocast:
            fuse(model)
        trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
        optimizer = torch.optim.AdamW(trained, lr=self.peak, weight_decay=0.0, fused=True)
        progress = self.states.restore(model, optimizer)
        if progress is None:
            return model, optimizer, Progress()
        self.events.write("resumed", durable=True, step=progress.step)
        return model, optimizer, progress

    def _step(
        self,
        model: Any,
        passes: TrainingPass,
        optimizer: torch.optim.Optimizer,
        progress: Progress,
        examples: list[TokenizedExample],
        total: int,
    ) -> None:
        if self.stopping:
            self._save(progress, model, optimizer)
            raise StoppedError
        began = time.monotonic()
        rate = rate_at(progress.step, total, self.peak)
        for group in optimizer.param_groups:
            group["lr"] = rate
        rows = [row for example in examples for row in example.rows]
        learned = sum(row.learned for row in rows)
        loss = 0.0
        for part in split(rows):
            loss += passes.backward(part, learned)
        if not math.isfinite(loss):
            raise ModelError(
                "FAILED_PRECONDITION",
                f"The loss is no longer a number at step {progress.step + 1}; use a lower learning rate.",
            )
        torch.nn.utils.clip_grad_norm_([p for p in model.parameters() if p.requires_grad], CLIP)
        optimizer.step()
        optimizer.zero_grad()
        progress.step += 1
        progress.tokens += sum(len(example.tokens) for example in examples)
        progress.epoch_loss += loss
        progress.epoch_learned += learned
        progress.seconds += time.monotonic() - began
        self.events.write(
            "step",
            step=progress.step,
            total_steps=total,
            epoch=progress.step * self.spec.epochs / total,
            loss=loss / learned,
            learning_rate=rate,
            tokens=progress.tokens,
        )
        if self.spec.mode == "PEFT_ADAPTER" and time.monotonic() - self.started > SECONDS_BETWEEN_SAVES:
            self._save(progress, model, optimizer)

    def _finish_epoch(
        self,
        model: Any,
        passes: TrainingPass,
        progress: Progress,
        epoch: int,
        validation: TokenizedDataset | None,
        writer: ArtifactWriter | None,
    ) -> None:
        progress.losses.append(progress.epoch_loss / progress.epoch_learned)
        progress.epoch_loss, progress.epoch_learned = 0.0, 0
        if validation is not None:
            loss = self._evaluate(model, passes, validation.examples)
            progress.validation_losses.append(loss)
            self.events.write("evaluation", step=progress.step, epoch=epoch, loss=loss)
        if writer is not None:
            path = writer.write(f"checkpoint-{epoch}", model, adapter=False)
            number = len(list(path.parent.glob("checkpoint-*")))
            self.events.write(
                "checkpoint", durable=True, id=str(number), epoch=epoch, step=progress.step, path=path.name
            )

    def _evaluate(self, model: Any, passes: TrainingPass, examples: list[TokenizedExample]) -> float:
        model.eval()
        total = 0.0
        for part in split(examples):
            for start in range(0, len(part), self.spec.batch_size):
                total += passes.loss(part[start : start + self.spec.batch_size])
        return total / sum(example.learned for example in examples)

    def _save(self, progress: Progress, model: Any, optimizer: torch.optim.Optimizer) -> None:
        self.states.save(progress, model, optimizer)
        self.started = time.monotonic()

    def _write_final(
        self,
        model: Any,
        writer: ArtifactWriter,
        progress: Progress,
        training: TokenizedDataset,
        description: dict[str, Any],
    ) -> None:
        spec = self.spec
        facts = {
            "baseModel": spec.base_model,
            **description,
            "tuningMode": spec.mode,
            "epochs": spec.epochs,
            "steps": progress.step,
            "batchSize": spec.batch_size,
            "adapterSize": spec.adapter_size if spec.mode == "PEFT_ADAPTER" else None,
            "requestedLearningRate": spec.learning_rate,
            "peakLearningRate": self.peak,
            "maxSequenceLength": spec.max_sequence_length,
            "seed": spec.seed,
            "examples": len(training.examples),
            "droppedExamples": len(training.dropped),
            "trainedTokens": progress.tokens,
            "trainingLosses": progress.losses,
            "validationLosses": progress.validation_losses,
            "trainingSeconds": round(progress.seconds, 3),
            "device": str(self.device),
            "dtype": str(self.dtype).removeprefix("torch."),
            "threads": torch.get_num_threads(),
            **_memory(self.device),
            "versions": _versions(),
        }
        writer.write("final", model, adapter=True, facts=facts)
        self._report_done(progress.step, progress.losses[-1])
        self.states.remove()


def _nothing_usable(dataset: TokenizedDataset) -> str:
    if not dataset.dropped:
        return "no examples."
    line, reason = dataset.dropped[0]
    return f"no usable example: all {len(dataset.dropped)} were dropped. Line {line}: {reason}"


def _memory(device: torch.device) -> dict[str, int]:
    """Return the peak memory of this process in megabytes, and on the GPU if there is one."""
    unit = 2**20 if sys.platform == "darwin" else 2**10
    peak = {"peakMemoryMegabytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // unit}
    if device.type == "cuda":
        peak["peakDeviceMegabytes"] = torch.cuda.max_memory_allocated(device) >> 20
    return peak


def _versions() -> dict[str, str]:
    import peft
    import transformers

    python = ".".join(str(part) for part in sys.version_info[:3])
    return {
        "python": python,
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "peft": peft.__version__,
    }
