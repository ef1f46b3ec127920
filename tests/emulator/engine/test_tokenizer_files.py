"""What a job leaves is read by both Transformers 4 and Transformers 5, with the same tokens."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from runner.emulator.engine import tiny
from tests.made_environments import python_with

TEXTS = ["What is a car?", "<|im_start|>user\nHi<|im_end|>", "größer\n\n  3.14"]
READ = """
import json, os, sys
from transformers import AutoTokenizer
folders, texts = json.loads(sys.argv[1])
found = {}
for folder in folders:
    tokenizer = AutoTokenizer.from_pretrained(folder)
    chat = [{"role": "user", "content": "Hi"}]
    found[folder] = [tokenizer(texts)["input_ids"], tokenizer.apply_chat_template(chat, tokenize=False)]
print(json.dumps(found))
"""


def _read(python: str | Path, folders: list[str]) -> object:
    command = [str(python), "-c", READ, json.dumps([folders, TEXTS])]
    environment = {"PATH": "/usr/bin", "HF_HUB_OFFLINE": "1", "TRANSFORMERS_VERBOSITY": "error"}
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, env=environment, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout)


@pytest.mark.training
def test_transformers_4_reads_the_same_tokens(tmp_path: Path) -> None:
    folders = [str(tiny.prepare_tiny(family, tmp_path)) for family in ("llama3", "llama4")]
    older = python_with("transformers4", ["transformers==4.57.1", "jinja2"])
    assert _read(older, folders) == _read(sys.executable, folders)
