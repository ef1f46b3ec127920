"""The interface of the emulator and its training and serving processes: files in a folder; JSON over a Unix socket.

A training process reads `job.json` (a `TrainingSpec`), appends one JSON object per line to `events.jsonl`, writes its
checkpoints under `output/` and exits with 0, or with 1 after a `failed` event. If it is started again on the same
folder after a kill, it resumes from its last saved state.

Events, each with `"event"` and `"time"` (seconds since the epoch):
  dataset    statistics (the API's SupervisedTuningDataStats), baseModel, peakLearningRate (as used), and the
             description of the weights: standIn, weights, learningRateScale, ownTokenizer (whether the
             base model's own tokenizer counted the statistics)
  resumed    step: the process continues from there after a kill; later steps may have been reported before
  step       step, total_steps, epoch (float), loss, learning_rate, tokens (trained so far)
  evaluation step, epoch, loss (of the validation file)
  checkpoint id (text, "1"..), epoch, step, path (folder name under output/)
  done       step, epoch, train_loss (mean of the last epoch)
  failed     status (google.rpc.Code name), message; reason, the code of a limit or rule (docs/errors.md)

Exit codes: 0 done, 1 failed, 143 stopped by SIGTERM with its state saved.

Output folder, published by the emulator under `<output_uri>/postprocess/node-0/checkpoints/`:
  output/checkpoint-N/   after epoch N, at most 10 (Hugging Face safetensors, tokenizer, config); absent with
                         export_last_checkpoint_only
  output/final/          merged weights and run.json (the settings and losses of the training); for PEFT_ADAPTER also
                         final/adapter/
All weights that were tuned from a stand-in have its stand-in.json beside them.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal, Self

TuningMode = Literal["FULL", "PEFT_ADAPTER"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelSource:
    """The weights that a process loads."""

    kind: Literal["local", "custom", "smollm2", "tiny"]
    """`local`: the catalog's own model from a directory; `custom`: a checkpoint of the user; the others are stand-ins.
    `local`: the catalog's own model from a directory; `custom`: a checkpoint of the user; the others are stand-ins."""
    directory: str | None = None
    """Hugging Face folder for `local` and `custom`; stand-ins are built or converted when first used, and cached."""
    family: Literal["llama3", "llama4", "gemma3", "qwen3"] = "llama3"
    """Architecture, for the tiny stand-ins; `Model.family` of the catalog."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Spec:
    """The task of a process, which is passed in a file."""

    source: ModelSource
    threads: int = 1
    cache_directory: str = ""
    """The folder for converted and built stand-ins, shared by all jobs."""

    def write(self, path: Path) -> None:
        """Write the spec as JSON."""
        path.write_text(json.dumps(asdict(self), indent=1))

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read the result of `write`."""
        body: dict[str, Any] = json.loads(path.read_text())
        return cls(**{**body, "source": ModelSource(**body["source"])})


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingSpec(_Spec):
    """One complete tuning job: the process needs nothing else and opens no socket."""

    base_model: str
    mode: TuningMode
    training_file: str
    """Local JSONL, in any of the documented formats."""
    validation_file: str | None = None
    files: dict[str, str] = field(default_factory=dict)
    """Maps the gs:// URI of each image in the dataset to its local path; images that could not be read are missing."""
    max_sequence_length: int
    """Tokens; longer examples are dropped and counted."""
    epochs: int = 1
    learning_rate: float
    """The requested rate; a stand-in multiplies it by its own documented factor and reports both."""
    batch_size: int = 8
    adapter_size: int = 4
    """LoRA rank."""
    export_last_checkpoint_only: bool = False
    images: bool = False
    """Whether the base model accepts images."""
    billing_tokenizer: str = ""
    """Folder with the base model's own tokenizer, which counts billed tokens; "" uses the tokenizer of the weights."""
    seed: int = 0
    load_seconds: float | None = None
    """Maximum time to load the model; None derives it from the size of its weights."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ServingSpec(_Spec):
    """One deployed model.

    The process listens on `socket` (HTTP over a Unix socket) once the weights are loaded and answers
      GET  /health                {"status":"ok","standIn":…,"engine":"torch" or "vllm"}; 503 when the engine is dead
      POST /predict               {"instances":[…],"parameters":{…}} as Model Garden's vLLM container does
      POST /chat/completions      OpenAI's chat completions, `stream` included
      POST /completions           OpenAI's completions of plain prompts, likewise
      GET  /metrics               counters as JSON
    Errors are {"error":{"status","message"}} with google.rpc.Code names and matching HTTP numbers; a full queue is 429.
    When the engine dies the process ends with 2, and is to be started again.
    """

    socket: str
    name: str
    """Model name in chat completions."""
    max_model_length: int = 8192
    max_batch: int = 64
    max_queue: int = 256
