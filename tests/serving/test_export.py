"""Exported weights: what is refused, and that the instructions work when they are copied."""

from __future__ import annotations

import json
import os
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from runner.errors import ConfigurationError, ModelFilesError
from runner.model_files import tensors
from runner.serving.export import inspect
from tests.cli.invocation import process
from tests.projects import Tuned
from tests.serving.test_leases import _variables


def _weights(path: Path, header: Any, data: bytes = b"", length: int | None = None) -> Path:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(struct.pack("<Q", len(text) if length is None else length) + text + data)
    return path


def _tensor(start: int, end: int, shape: list[int], dtype: str = "F32") -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": [start, end]}


def test_a_sound_file(tmp_path: Path) -> None:
    header = {"a": _tensor(0, 8, [2]), "b": _tensor(8, 10, [1, 1], "BF16"), "__metadata__": {"format": "pt"}}
    assert list(tensors(_weights(tmp_path / "x", header, b"0" * 10))) == [("a", 2), ("b", 1)]


@pytest.mark.parametrize(
    ("header", "data", "length", "message"),
    [
        ({"a": _tensor(0, 8, [2])}, b"0" * 7, None, "does not fit"),
        ({"a": _tensor(0, 8, [3])}, b"0" * 8, None, "does not fit"),
        ({"a": _tensor(-4, 4, [2])}, b"0" * 8, None, "does not fit"),
        ({"a": _tensor(0, 8, [2]), "b": _tensor(4, 12, [2])}, b"0" * 12, None, "overlap"),
        ({"a": _tensor(0, 8, [2], "F3")}, b"0" * 8, None, "type 'F3' is unknown"),
        ({"a": _tensor(0, 8, [2])}, b"0" * 8, 10**9, "does not fit into"),
        ({"a": 5}, b"", None, "not readable"),
        ({"a": {"dtype": "F32", "shape": 2, "data_offsets": [0, 8]}}, b"0" * 8, None, "no list of sizes"),
        ([1], b"", None, "no object"),
        (b"{no", b"", None, "not readable"),
        (b"", b"", None, "not readable"),
    ],
)
def test_torn_files_are_refused(header: Any, data: bytes, length: int | None, message: str, tmp_path: Path) -> None:
    with pytest.raises(ModelFilesError, match=message):
        list(tensors(_weights(tmp_path / "x", header, data, length)))


def test_everything_wrong_with_a_folder_is_listed(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"auto_map": {"AutoModel": "evil.Model"}}')
    (tmp_path / "evil.py").write_text("")
    (tmp_path / "old").mkdir()
    (tmp_path / "old" / "weights.BIN").write_text("")
    (tmp_path / "short.safetensors").write_bytes(b"123")
    with pytest.raises(ConfigurationError) as caught:
        inspect(tmp_path)
    for part in ("evil.py", "weights.BIN", "auto_map", "tokenizer.json", "short.safetensors is damaged"):
        assert any(part in problem for problem in caught.value.problems), (part, caught.value.problems)


RUN = """
import contextlib, io, os, sys
from pathlib import Path

from runner.emulator.engine import loading  # repairs what keeps transformers 5.24 from running Llama 4
from runner.emulator.engine.tiny import prepare_tiny
from runner.serving.export import inspect, instructions

exported, cache = map(Path, sys.argv[1:])
loading._repair_llama4()
pictures = prepare_tiny("llama4", cache)
texts = [(exported, (exported / "HOW-TO-RUN.md").read_text())]
texts.append((pictures, instructions(inspect(pictures), base_model="llama4", job="1")))
for folder, guide in texts:
    [snippet] = [part.split("```")[0] for part in guide.split("```python\\n")[1:]]
    os.chdir(folder)
    with contextlib.redirect_stdout(io.StringIO()) as said:
        exec(snippet, {"__name__": "__main__"})
    print(repr(said.getvalue()))
"""
"""Runs the Transformers part of two guides: of an export as it lies there, and of weights that take pictures."""


@pytest.mark.training
def test_the_instructions_work_when_they_are_copied(tuned: Tuned, state: Path, tmp_path: Path) -> None:
    target = tmp_path / "tuned"
    words = ["checkpoints", "export", tuned.job.id, "--to", str(target), "--format", "json"]
    outcome = process(*words, stdin="", timeout=120, **_variables(tuned, state))
    assert outcome.code == 0, outcome.err
    assert outcome.document["architecture"] == "LlamaForCausalLM"
    assert outcome.document["parameters"] > 100_000
    guide = (target / "HOW-TO-RUN.md").read_text()
    assert "vllm serve" in guide
    assert "convert_hf_to_gguf.py" in guide
    done = subprocess.run(
        [sys.executable, "-c", RUN, str(target), str(tmp_path / "cache")],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        timeout=240,
        env={**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"},
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    answers = done.stdout.splitlines()
    assert len(answers) == 2
    assert all(len(answer) > 4 for answer in answers), answers
