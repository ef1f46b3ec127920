"""Models of a given shape with random weights, and processes with too little memory."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from runner.emulator.engine.protocol import ModelSource, ServingSpec

_STARVED = """
import sys
from pathlib import Path
from runner.emulator.engine import zygote
zygote.preload()
import torch
role, folder, device = sys.argv[1], Path(sys.argv[2]), sys.argv[3]
if device == "cuda":
    free, _ = torch.cuda.mem_get_info()
    held = torch.empty(max(0, free - (600 << 20)), dtype=torch.uint8, device="cuda")
else:
    import resource
    torch.ones(64, 64) @ torch.ones(64, 64)
    size = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (size + ROOM, size + ROOM))
sys.exit(zygote.run(role, folder))
"""
_ROOM = {"training": 400 << 20, "serving": 24 << 20}
"""Bytes that a process on the CPU can still allocate."""


def random_llama(folder: Path, *, tiny: bool) -> Path:
    """Create a Llama model with the shape of Llama 3.2 1B, or a small one, and return its folder."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    from runner.emulator.engine.tiny import prepare_tiny

    shape = (
        {"hidden_size": 256, "intermediate_size": 512, "num_hidden_layers": 2, "num_attention_heads": 8}
        if tiny
        else {"hidden_size": 2048, "intermediate_size": 8192, "num_hidden_layers": 16, "num_attention_heads": 32}
    )
    vocabulary = 65536 if tiny else 128256
    config = LlamaConfig(
        **shape,
        num_key_value_heads=shape["num_attention_heads"] // 4,
        vocab_size=vocabulary,
        max_position_embeddings=8192,
        tie_word_embeddings=True,
        dtype="bfloat16",
    )
    stand_in = prepare_tiny("llama3", folder.parent / "models")
    torch.manual_seed(0)
    # This takes a second on a GPU, and a minute on a CPU.
    with torch.device("cuda" if torch.cuda.is_available() else "cpu"):
        model = LlamaForCausalLM(config).to(torch.bfloat16)
    model.save_pretrained(folder)
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja", "generation_config.json"):
        if (stand_in / name).exists():
            (folder / name).write_bytes((stand_in / name).read_bytes())
    del model
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    return folder


def serving_spec(weights: Path, folder: Path) -> ServingSpec:
    """Return the spec of a server for the weights in a folder."""
    return ServingSpec(
        source=ModelSource(kind="custom", directory=str(weights)),
        socket=str(folder / "model.sock"),
        name="model",
        threads=2,
        cache_directory=str(folder / "models"),
    )


def starved(device: str, role: str, folder: Path) -> int:
    """Run a worker with almost no memory left, and return its exit code."""
    code = _STARVED.replace("ROOM", str(_ROOM[role]))
    done = subprocess.run(
        [sys.executable, "-c", code, role, str(folder), device], capture_output=True, text=True, timeout=300
    )
    (folder / "worker.log").write_text(done.stdout + done.stderr)
    return done.returncode
