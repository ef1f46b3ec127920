"""Nothing that a checkpoint brings along is ever run."""

from __future__ import annotations

import json
import pickle
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from runner.emulator.engine.checkpoints import ModelError, check_checkpoint
from runner.emulator.engine.launcher import Launcher
from runner.emulator.engine.loading import load
from runner.emulator.engine.protocol import ModelSource
from runner.emulator.engine.tiny import prepare_tiny
from tests.emulator.engine.training_processes import start

EMPTY = "\x02\0\0\0\0\0\0\0{}"
"""A safetensors file without tensors."""
PLAIN: dict[str, Any] = {"config.json": {"model_type": "llama"}, "tokenizer.json": {}, "model.safetensors": EMPTY}


def write(folder: Path, files: dict[str, Any]) -> None:
    for name, content in files.items():
        (folder / name).write_text(content if isinstance(content, str) else json.dumps(content))


def test_a_plain_checkpoint_passes(tmp_path: Path) -> None:
    write(tmp_path, PLAIN)
    assert check_checkpoint(tmp_path)[0] == {"model_type": "llama"}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"model.safetensors": None, "pytorch_model.bin": ""}, "pytorch_model.bin, a pickle"),
        ({"model.safetensors": None}, "no .safetensors"),
        ({"model.safetensors": None, "adapter_model.safetensors": ""}, "no .safetensors"),
        ({"config.json": None}, "no config.json"),
        ({"tokenizer.json": None}, "no tokenizer.json"),
        ({"config.json": None, "adapter_config.json": {}, "adapter_model.safetensors": ""}, "LoRA adapter only"),
        ({"config.json": {"auto_map": {"AutoModel": "evil.Model"}}}, "config.json auto_map asks for code"),
        ({"tokenizer_config.json": {"auto_map": {"a": "b"}}}, "tokenizer_config.json auto_map asks for code"),
        (
            {"processor_config.json": {"x": [{"auto_map": {"a": "b"}}]}},
            "x auto_map asks for code",
        ),
        ({"config.json": "{"}, "not readable JSON"),
        ({"config.json": "[]"}, "not a JSON object"),
        ({"config.json": {"quantization_config": {"bits": 4}}}, "quantised"),
    ],
)
def test_what_cannot_be_loaded_safely_is_refused_with_the_reason(
    tmp_path: Path, change: dict[str, Any], words: str
) -> None:
    write(tmp_path, {name: content for name, content in (PLAIN | change).items() if content is not None})
    with pytest.raises(ModelError, match=words) as caught:
        check_checkpoint(tmp_path)
    assert caught.value.status == "INVALID_ARGUMENT"


class Bomb:
    """Unpickling it writes a file."""

    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (Path(self.path),))


@pytest.mark.training
def test_a_pickle_is_refused_by_a_real_job_and_never_opened(
    launcher: Launcher, model_cache: Path, tmp_path: Path
) -> None:
    from runner.emulator.engine.tiny import prepare_tiny

    own = tmp_path / "own"
    own.mkdir()
    for file in prepare_tiny("llama3", model_cache).iterdir():
        if file.suffix != ".safetensors":
            (own / file.name).write_bytes(file.read_bytes())
    (own / "pytorch_model.bin").write_bytes(pickle.dumps(Bomb(str(tmp_path / "exploded"))))
    job = start(launcher, tmp_path / "job", model_cache, source=ModelSource(kind="custom", directory=str(own))).finish()
    assert job.code == 1
    assert "a pickle, which can run code" in job.events()[-1]["message"]
    assert not (tmp_path / "exploded").exists()


@pytest.mark.training
def test_damaged_weights_fail_with_a_sentence(launcher: Launcher, model_cache: Path, tmp_path: Path) -> None:
    from runner.emulator.engine.tiny import prepare_tiny

    own = tmp_path / "own"
    own.mkdir()
    for file in prepare_tiny("llama3", model_cache).iterdir():
        data = file.read_bytes()
        (own / file.name).write_bytes(data[: len(data) // 2] if file.suffix == ".safetensors" else data)
    job = start(launcher, tmp_path / "job", model_cache, source=ModelSource(kind="custom", directory=str(own))).finish()
    assert job.code == 1
    assert job.events()[-1]["status"] == "INVALID_ARGUMENT"
    assert "model.safetensors is damaged" in job.events()[-1]["message"]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with weights that load."""
    return prepare_tiny("llama3", tmp_path_factory.mktemp("weights"))


def _changed(whole: Path, folder: Path, change: Callable[[dict[str, Any]], None]) -> ModelSource:
    """Return the weights in another folder, with changed tensors."""
    copied = shutil.copytree(whole, folder / "changed")
    tensors = load_file(copied / "model.safetensors")
    change(tensors)
    save_file(tensors, copied / "model.safetensors", {"format": "pt"})
    return ModelSource(kind="custom", family="llama3", directory=str(copied))


_NORM = "model.layers.0.input_layernorm.weight"


@pytest.mark.training
@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda tensors: tensors.pop(_NORM), f"it lacks {_NORM}"),
        (lambda tensors: tensors.update({"model.layers.0.extra.weight": torch.ones(2)}), "model.layers.0.extra.weight"),
        (lambda tensors: tensors.update({_NORM: torch.ones(3)}), f"in another shape {_NORM}"),
    ],
)
def test_weights_that_do_not_fit_are_named(
    whole: Path, tmp_path: Path, change: Callable[[dict[str, Any]], None], words: str
) -> None:
    with pytest.raises(ModelError, match=re.escape(words)) as caught:
        load(_changed(whole, tmp_path, change), cache_directory=str(tmp_path), threads=1)
    assert caught.value.status == "INVALID_ARGUMENT"


@pytest.mark.training
def test_weights_that_fit_load(whole: Path, tmp_path: Path) -> None:
    source = _changed(whole, tmp_path, lambda tensors: None)
    assert load(source, cache_directory=str(tmp_path), threads=1).model.config.model_type == "llama"
