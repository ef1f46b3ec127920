"""Continuous batching with only transformers, in one process: `python bare_batching.py MODEL WORK DEVICE`."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, ContinuousBatchingConfig, GenerationConfig


def main() -> None:
    """Generate, and print the tokens per second of each round."""
    directory, file, device = sys.argv[1:]
    work = json.loads(Path(file).read_text())
    tokenizer: Any = AutoTokenizer.from_pretrained(directory)
    model: Any = AutoModelForCausalLM.from_pretrained(directory, dtype=torch.bfloat16, attn_implementation="sdpa")
    model.to(device).eval()
    # On a CPU, its cache would otherwise use all memory.
    small = {"page_size": 32, "num_blocks": 512, "max_batch_tokens": 512} if device == "cpu" else {}
    batching = ContinuousBatchingConfig(**small)
    settings = GenerationConfig(max_new_tokens=work["tokens"], do_sample=False, eos_token_id=-1, pad_token_id=0)
    rates = []
    for start in range(0, len(work["questions"]), work["clients"]):
        prompts = [
            tokenizer.apply_chat_template(one, add_generation_prompt=True, return_dict=True)["input_ids"]
            for one in work["questions"][start : start + work["clients"]]
        ]
        began = time.perf_counter()
        outputs = model.generate_batch(inputs=prompts, generation_config=settings, continuous_batching_config=batching)
        seconds = time.perf_counter() - began
        made = sum(len(one.generated_tokens) for one in outputs.values())
        rates.append(made / seconds)
    print(json.dumps({"rates": rates}))


if __name__ == "__main__":
    main()
