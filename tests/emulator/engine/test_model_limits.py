"""A model's folder leads nowhere else, and what it needs is known before anything is loaded."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from runner import model_files
from runner.emulator.engine.checkpoints import ModelError, check_checkpoint
from runner.emulator.engine.launcher import Launcher
from runner.emulator.engine.loading import load
from runner.emulator.engine.protocol import ModelSource
from runner.emulator.engine.tiny import prepare_tiny
from runner.errors import ModelLimitError
from tests.emulator.engine.serving_processes import chat, served
from tests.emulator.engine.training_processes import start

ENDLESS = "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}"
NAMING_KEYS = (
    *("vocab_file", "tokenizer_file", "added_tokens_file", "special_tokens_map_file", "chat_template_file"),
    *("fast_tokenizer_files", "merges_file", "spm_file", "audio_tokenizer_name_or_path", "base_model_name_or_path"),
    *("attn_implementation", "_attn_implementation", "experts_implementation", "backbone_config_path", "gguf_file"),
)
"""Keys with which configurations name files, models or kernels."""
CONFIGURATIONS = ("config.json", "generation_config.json", "tokenizer_config.json", "processor_config.json")
_opened: list[str] = []
sys.addaudithook(lambda event, values: _opened.append(str(values[0])) if event == "open" else None)


@pytest.fixture(scope="module")
def families(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Return the folder of a family's small model."""
    cache = tmp_path_factory.mktemp("families")
    return lambda family: prepare_tiny(family, cache)


@pytest.fixture
def folder(families: Callable[[str], Path], tmp_path: Path) -> Path:
    """A copy of a small model, to be changed."""
    return shutil.copytree(families("llama3"), tmp_path / "model")


@pytest.fixture
def canary(tmp_path: Path) -> Path:
    """A file that nothing may open from here on."""
    path = tmp_path / "canary.json"
    path.write_text("{}")
    _opened.clear()
    return path


def change(folder: Path, name: str, **values: Any) -> None:
    path = folder / name
    body = json.loads(path.read_text()) if path.exists() else {}
    path.write_text(json.dumps({**body, **values}))


def refused(folder: Path, reason: str) -> str:
    with pytest.raises(ModelError) as caught:
        check_checkpoint(folder)
    assert caught.value.reason == reason, caught.value.message
    return caught.value.message


@pytest.mark.parametrize("name", CONFIGURATIONS)
@pytest.mark.parametrize("key", NAMING_KEYS)
@pytest.mark.parametrize("nested", [False, True])
def test_no_key_names_a_file_elsewhere(folder: Path, canary: Path, name: str, key: str, nested: bool) -> None:
    for text in (str(canary), "../canary.json", "kernels-community/attention", "~/canary.json", r"..\canary.json"):
        value = {key: [text] if key.endswith("_files") else text}
        change(folder, name, **({"inner": value} if nested else value))
        assert f"{key} names" in refused(folder, "model_files")
        assert str(canary) not in _opened


@pytest.mark.training
@pytest.mark.parametrize("family", ["llama3", "llama4", "gemma3", "qwen3"])
def test_nothing_elsewhere_is_opened_whatever_names_it(
    families: Callable[[str], Path], tmp_path: Path, canary: Path, family: str
) -> None:
    """Each text of each configuration is replaced by the path of a file, one after another."""
    for name in CONFIGURATIONS:
        if not (families(family) / name).exists():
            continue
        body = json.loads((families(family) / name).read_text())
        for key in [key for key, value in body.items() if isinstance(value, str)] + ["_name_or_path", "name_or_path"]:
            folder = shutil.copytree(families(family), tmp_path / "copy")
            change(folder, name, **{key: str(canary)})
            source = ModelSource(kind="custom", directory=str(folder), family="llama3")
            with contextlib.suppress(ModelError):
                load(source, cache_directory="", threads=1)
            assert str(canary) not in _opened, (name, key)
            shutil.rmtree(folder)


@pytest.mark.parametrize(
    "named",
    ["/etc/passwd", "../other.safetensors", "pytorch_model.bin", "sub/a.safetensors", "..", "absent.safetensors"],
)
def test_an_index_names_safetensors_of_its_folder_only(folder: Path, named: str) -> None:
    (folder / "pytorch_model.bin").write_bytes(b"\x80\x04.")
    (folder / "model.safetensors").rename(folder / "model-00001-of-00002.safetensors")
    weights = {"a": "model-00001-of-00002.safetensors", "b": named}
    (folder / model_files.INDEX).write_text(json.dumps({"weight_map": weights}))
    assert named in refused(folder, "model_files")


@pytest.mark.parametrize("name", ["model.safetensors", "tokenizer.json", "config.json", "more/deep.txt"])
def test_links_stay_in_the_folder(folder: Path, tmp_path: Path, name: str) -> None:
    elsewhere = tmp_path / "elsewhere"
    path = folder / name
    path.parent.mkdir(exist_ok=True)
    elsewhere.write_bytes(path.read_bytes() if path.exists() else b"")
    path.unlink(missing_ok=True)
    path.symlink_to(elsewhere)
    assert f"{name} is a link that leads out" in refused(folder, "model_files")
    path.unlink()
    inside = folder / "inside"
    shutil.move(elsewhere, inside)
    path.symlink_to(inside)
    check_checkpoint(folder)


def test_a_snapshot_of_the_hubs_cache_is_a_folder_with_its_blobs(folder: Path, tmp_path: Path) -> None:
    repository = tmp_path / "models--x--y"
    snapshot = repository / "snapshots" / "abc"
    (repository / "blobs").mkdir(parents=True)
    snapshot.mkdir(parents=True)
    for file in folder.iterdir():
        shutil.copy(file, repository / "blobs" / file.name)
        (snapshot / file.name).symlink_to(f"../../blobs/{file.name}")
    check_checkpoint(snapshot)
    (snapshot / "notes.txt").symlink_to("../../../model/config.json")
    refused(snapshot, "model_files")


def test_pipes_and_adapters_and_strange_architectures_are_refused(folder: Path) -> None:
    os.mkfifo(folder / "merges.txt")
    refused(folder, "model_files")
    (folder / "merges.txt").unlink()
    (folder / "adapter_config.json").write_text('{"base_model_name_or_path": "/elsewhere"}')
    assert "names another model" in refused(folder, "model_files")
    (folder / "adapter_config.json").unlink()
    change(folder, "config.json", text_config={"model_type": "timm_wrapper"})
    assert "'timm_wrapper' is not supported" in refused(folder, "model_files")


@pytest.mark.parametrize(
    "name", ["config.json", "tokenizer.json", "chat_template.jinja", "tokenizer_config.json", model_files.INDEX]
)
def test_files_are_bounded_before_they_are_read(folder: Path, name: str) -> None:
    with (folder / name).open("ab") as stream:
        stream.truncate(300 << 20)  # sparse
    assert name in refused(folder, "file_limit")


def test_a_huge_header_is_not_read(folder: Path) -> None:
    with (folder / "model.safetensors").open("r+b") as stream:
        stream.write((1 << 30).to_bytes(8, "little"))
        stream.truncate(2 << 30)
    assert "header" in refused(folder, "file_limit")


@pytest.mark.training
@pytest.mark.parametrize(
    "values",
    [
        {"num_hidden_layers": 3000},
        {"num_hidden_layers": 10**12},
        {"num_hidden_layers": -1},
        {"vocab_size": 10**9},
        {"intermediate_size": 10**9},
        {"hidden_size": 10**7, "head_dim": 10**7},
    ],
)
def test_a_configuration_of_more_than_the_weights_takes_no_memory(folder: Path, values: dict[str, Any]) -> None:
    change(folder, "config.json", **values)
    with pytest.raises(ModelError) as caught:
        load(ModelSource(kind="custom", directory=str(folder)), cache_directory="", threads=1)
    assert caught.value.reason == "model_limit", caught.value.message


@pytest.mark.training
def test_memory_is_compared_before_loading(folder: Path) -> None:
    source = ModelSource(kind="custom", directory=str(folder))
    parameters = sum(one.numel() for one in load(source, cache_directory="", threads=1).model.parameters())
    load(source, cache_directory="", threads=1, memory=4 * parameters)
    for trained, memory in ((False, 4 * parameters - 1), (True, 16 * parameters - 1)):
        with pytest.raises(ModelError, match=r"need 0\.0 GiB") as caught:
            load(source, cache_directory="", threads=1, trained=trained, memory=memory)
        assert (caught.value.status, caught.value.reason) == ("RESOURCE_EXHAUSTED", "model_limit")
    with pytest.raises(ModelLimitError, match=r"1,000 parameters need"):
        model_files.check_memory(1000, 2, 1999)


@pytest.mark.training
def test_a_job_ends_at_the_limit_of_its_template(launcher: Launcher, folder: Path, tmp_path: Path) -> None:
    (folder / "chat_template.jinja").write_text(ENDLESS)
    source = ModelSource(kind="custom", directory=str(folder))
    job = start(launcher, tmp_path / "job", tmp_path, source=source).finish()
    assert job.code == 1
    failed = job.events()[-1]
    assert (failed["status"], failed["reason"]) == ("INVALID_ARGUMENT", "template_limit")
    assert "Line 1 cannot be rendered: the chat template takes more than" in failed["message"]


@pytest.mark.training
def test_one_chat_does_not_hold_up_the_others(launcher: Launcher, folder: Path, tmp_path: Path) -> None:
    """The template goes on for ever if a message says so."""
    template = (folder / "chat_template.jinja").read_text()
    (folder / "chat_template.jinja").write_text(
        "{% if 'for ever' in messages[0].content %}" + ENDLESS + "{% endif %}" + template
    )
    from concurrent.futures import ThreadPoolExecutor

    from tests.emulator.engine.serving_processes import client_of

    source = ModelSource(kind="custom", directory=str(folder))
    with served(launcher, source, tmp_path) as server, ThreadPoolExecutor(1) as pool, client_of(server.socket) as other:
        slow = pool.submit(other.post, "/chat/completions", json=chat("for ever", max_tokens=2))
        answered = 0
        while not slow.done():
            assert server.post("/chat/completions", chat("quick", max_tokens=2)).status_code == 200
            assert server.client.get("/health").status_code == 200
            answered += not slow.done()
        assert answered > 3
        answer = slow.result()
        assert answer.status_code == 400
        assert "the chat template takes more than" in answer.json()["error"]["message"]


def test_a_model_that_does_not_come_up_ends_its_job(launcher: Launcher, model_cache: Path, tmp_path: Path) -> None:
    job = start(launcher, tmp_path / "job", model_cache, load_seconds=0.0).finish()
    (failed,) = job.events("failed")
    assert (failed["status"], failed["reason"]) == ("DEADLINE_EXCEEDED", "model_limit")
    assert "start the job again" in failed["message"]
    assert job.code == 1
