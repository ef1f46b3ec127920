"""Training without this project: TRL's SFTTrainer, or a plain PyTorch loop with PEFT. Runs in any environment.

    python bare_training.py KIND MODEL WORK

KIND is `trl` or `plain`. WORK is a JSON file with batches of examples (tokens, labels), the learning rate of each
step, mode, rank, seed, dtype, threads and device. The program prints a JSON object with the loss and the seconds of
each step, and the peak memory. It computes the same as the project's training process: AdamW without decay, gradients
clipped to 1, and a loss that is the mean over the learned tokens of a batch.
"""

from __future__ import annotations

import json
import re
import resource
import sys
import time
from pathlib import Path
from typing import Any

import torch

IGNORED = -100


def load(directory: str, work: dict[str, Any]) -> Any:
    """Return the model with the same adapters as the project creates from this seed."""
    from transformers import AutoModelForCausalLM

    # With autocast, trained weights stay float32; frozen weights have the type of the computation.
    full = work["mode"] == "FULL"
    dtype = torch.float32 if full else getattr(torch, work["dtype"])
    model: Any = AutoModelForCausalLM.from_pretrained(directory, dtype=dtype).to(work["device"])
    torch.manual_seed(work["seed"])
    if not full:
        from peft import LoraConfig, get_peft_model

        rank = work["rank"]
        targets = r".*\.(q|k|v|o|gate|up|down)_proj"
        model = get_peft_model(
            model,
            LoraConfig(r=rank, lora_alpha=2 * rank, lora_dropout=0.0, target_modules=targets, task_type="CAUSAL_LM"),
        )
    return model


def collate(examples: list[dict[str, list[int]]], padding: int) -> dict[str, torch.Tensor]:
    """Pad on the right."""
    width = max(len(one["input_ids"]) for one in examples)

    def padded(name: str, filling: int) -> torch.Tensor:
        return torch.tensor([list(one[name]) + [filling] * (width - len(one[name])) for one in examples])

    ids = padded("input_ids", padding)
    mask = torch.tensor([[1] * len(one["input_ids"]) + [0] * (width - len(one["input_ids"])) for one in examples])
    return {"input_ids": ids, "attention_mask": mask, "labels": padded("labels", IGNORED)}


def plain(model: Any, work: dict[str, Any]) -> tuple[list[float], list[float]]:
    """Train with a straightforward loop."""
    device = torch.device(work["device"])
    trained = [one for one in model.parameters() if one.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=1.0, weight_decay=0.0, fused=True)
    model.train()
    losses, seconds = [], []
    for batch, rate in zip(work["batches"], work["rates"], strict=True):
        start = time.perf_counter()
        for group in optimizer.param_groups:
            group["lr"] = rate
        inputs = {name: value.to(device) for name, value in collate(batch, work["padding"]).items()}
        with torch.autocast(device.type, torch.bfloat16, enabled=work["dtype"] == "bfloat16"):
            loss = model(**inputs, use_cache=False).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        optimizer.zero_grad()
        losses.append(float(loss.detach()))
        seconds.append(time.perf_counter() - start)
    return losses, seconds


def trl(model: Any, work: dict[str, Any], directory: str) -> tuple[list[float], list[float]]:
    """Train with TRL's SFTTrainer."""
    from datasets import Dataset  # type: ignore[import-not-found]
    from transformers import AutoTokenizer, TrainerCallback
    from trl import SFTConfig, SFTTrainer  # type: ignore[import-not-found]

    losses: list[float] = []
    ends: list[float] = []

    class Watch(TrainerCallback):  # type: ignore[misc]
        def on_step_begin(self, *_arguments: Any, **_fields: Any) -> None:
            ends.append(time.perf_counter())

        def on_step_end(self, *_arguments: Any, **_fields: Any) -> None:
            ends.append(time.perf_counter())

        def on_log(self, _arguments: Any, _state: Any, _control: Any, logs: Any = None, **_fields: Any) -> None:
            if logs and "loss" in logs:
                losses.append(float(logs["loss"]))

    settings = SFTConfig(
        output_dir=str(Path(sys.argv[3]).with_suffix(".trl")),
        per_device_train_batch_size=max(map(len, work["batches"])),
        num_train_epochs=1,
        max_grad_norm=1.0,
        weight_decay=0.0,
        optim="adamw_torch_fused",
        bf16=work["dtype"] == "bfloat16",
        gradient_checkpointing=False,  # the default, which saves memory and takes a third more time
        use_cpu=work["device"] == "cpu",
        logging_steps=1,
        logging_strategy="steps",
        save_strategy="no",
        report_to="none",
        train_sampling_strategy="sequential",
        dataset_kwargs={"skip_prepare_dataset": True},
        max_length=None,
        seed=work["seed"],
    )
    examples = [one for batch in work["batches"] for one in batch]
    optimizer = torch.optim.AdamW(
        [one for one in model.parameters() if one.requires_grad], lr=1.0, weight_decay=0.0, fused=True
    )
    rates = [*work["rates"], 0.0]
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: rates[min(step, len(rates) - 1)])
    trainer = SFTTrainer(
        model=model,
        args=settings,
        train_dataset=Dataset.from_list(examples),
        processing_class=AutoTokenizer.from_pretrained(directory),
        data_collator=lambda rows: collate(rows, work["padding"]),
        optimizers=(optimizer, schedule),
        callbacks=[Watch()],
    )
    trainer.train()
    return losses, [late - early for early, late in zip(ends[::2], ends[1::2], strict=True)]


def main() -> None:
    """Train and print."""
    kind, directory, file = sys.argv[1:]
    work = json.loads(Path(file).read_text())
    torch.set_num_threads(work["threads"])
    model = load(directory, work)
    losses, seconds = trl(model, work, directory) if kind == "trl" else plain(model, work)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    device = torch.cuda.max_memory_allocated() / 2**20 if work["device"] == "cuda" else 0.0
    result = {"losses": losses, "seconds": seconds, "peakMegabytes": peak, "deviceMegabytes": device}
    print(re.sub(r"\s+", " ", json.dumps(result)), flush=True)


if __name__ == "__main__":
    main()
