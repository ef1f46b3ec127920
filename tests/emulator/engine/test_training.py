"""Real training of tiny models in real processes."""

from __future__ import annotations

import base64
import io
import json
import random
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from runner.emulator.engine.launcher import Launcher
from runner.emulator.engine.protocol import ModelSource
from tests.emulator.engine.training_processes import LLAMA4, Job, answers, chat, questions, start, write_lines

pytestmark = pytest.mark.training


@pytest.fixture(scope="module")
def lora(launcher: Launcher, model_cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Job:
    """An uninterrupted LoRA job."""
    job = start(launcher, tmp_path_factory.mktemp("lora"), model_cache, epochs=50).finish()
    assert job.code == 0, job.log
    return job


def tensors(file: Path) -> dict[str, Any]:
    from safetensors.torch import load_file

    return load_file(file)


def correct(job: Job, cache: Path) -> int:
    """Return how many of the 16 questions are answered as taught.

    Rounding differs between processors, so that one of them may still have the last digit wrong after as many epochs;
    what was not taught is never right.
    """
    pairs = questions()
    given = answers(job.final, [question for question, _ in pairs], cache)
    return sum(text == answer for text, (_, answer) in zip(given, pairs, strict=True))


def test_full_tuning_teaches_and_reports_what_it_did(launcher: Launcher, model_cache: Path, tmp_path: Path) -> None:
    validation = write_lines(tmp_path / "validation.jsonl", [chat(*pair) for pair in questions(4)])
    job = start(
        launcher,
        tmp_path / "job",
        model_cache,
        mode="FULL",
        epochs=40,
        validation_file=validation,
        export_last_checkpoint_only=False,
    ).finish()
    assert job.code == 0, job.log
    steps = job.events("step")
    assert len(steps) == steps[-1]["total_steps"] == 80
    assert steps[-1]["loss"] < 0.1 < 5 < steps[0]["loss"]
    assert max(step["learning_rate"] for step in steps) == pytest.approx(5e-3)
    checkpoints = job.events("checkpoint")
    assert [event["epoch"] for event in checkpoints] == [4, 8, 12, 16, 20, 24, 28, 32, 36, 40]
    assert [event["id"] for event in checkpoints] == [str(number) for number in range(1, 11)]
    assert all((job.directory / "output" / event["path"] / "model.safetensors").exists() for event in checkpoints)
    losses = [event["loss"] for event in job.events("evaluation")]
    assert len(losses) == 40
    assert losses[-1] < 0.1 < losses[0]
    assert job.events()[-1]["event"] == "done"
    assert not (job.final / "adapter").exists()
    assert correct(job, model_cache) >= 14
    facts = json.loads((job.final / "run.json").read_text())
    assert facts["standIn"] is True
    assert facts["learningRateScale"] == 25
    assert facts["steps"] == 80
    assert facts["validationLosses"] == losses


def test_lora_teaches_through_its_adapter_alone(lora: Job, model_cache: Path) -> None:
    from runner.emulator.engine.tiny import prepare_tiny

    assert correct(lora, model_cache) >= 14
    merged = tensors(lora.final / "model.safetensors")
    base = tensors(prepare_tiny("llama3", model_cache) / "model.safetensors")
    adapter = tensors(lora.final / "adapter" / "adapter_model.safetensors")
    config = json.loads((lora.final / "adapter" / "adapter_config.json").read_text())
    assert config["r"] == 16
    assert config["base_model_name_or_path"] == "meta/llama3_1@llama-3.1-8b-instruct"
    assert merged.keys() == base.keys()
    adapted = [name for name in base if f"base_model.model.{name.removesuffix('.weight')}.lora_A.weight" in adapter]
    assert len(adapted) == 2 * 7  # seven projections of each of two layers
    for name, weight in base.items():
        if name not in adapted:
            assert bool((merged[name] == weight).all()), name
            continue
        stem = f"base_model.model.{name.removesuffix('.weight')}"
        change = adapter[f"{stem}.lora_B.weight"] @ adapter[f"{stem}.lora_A.weight"] * config["lora_alpha"] / 16
        assert float(change.abs().max()) > 1e-3
        assert float((merged[name] - weight - change).abs().max()) < 1e-5


def test_the_untrained_model_knows_none_of_it(model_cache: Path) -> None:
    from runner.emulator.engine.tiny import prepare_tiny

    pairs = questions(4)
    given = answers(prepare_tiny("llama3", model_cache), [question for question, _ in pairs], model_cache)
    assert all(text != answer for text, (_, answer) in zip(given, pairs, strict=True))


def test_a_killed_job_resumes_and_ends_the_same(
    launcher: Launcher, model_cache: Path, tmp_path: Path, lora: Job
) -> None:
    first = start(launcher, tmp_path, model_cache, epochs=50)
    first.wait_for_step(21)
    first.process.kill()
    assert first.process.join(30) == -9
    assert not first.final.exists()
    second = Job(tmp_path, launcher.start_training(tmp_path)).finish()
    assert second.code == 0, second.log
    (resumed,) = second.events("resumed")
    assert 0 < resumed["step"] < 100
    uninterrupted = {event["step"]: event["loss"] for event in lora.events("step")}
    assert {event["step"]: event["loss"] for event in second.events("step")} == uninterrupted
    expected = tensors(lora.final / "model.safetensors")
    for name, weight in tensors(second.final / "model.safetensors").items():
        assert bool((weight == expected[name]).all()), name
    assert not (tmp_path / "state.pt").exists()


def test_a_finished_job_started_again_only_reports_its_end(launcher: Launcher, lora: Job) -> None:
    before = (lora.final / "model.safetensors").stat().st_mtime_ns
    steps = len(lora.events("step"))
    again = Job(lora.directory, launcher.start_training(lora.directory)).finish()
    assert again.code == 0
    assert len(again.events("step")) == steps
    first, second = again.events("done")
    assert first | {"time": 0} == second | {"time": 0}
    assert (lora.final / "model.safetensors").stat().st_mtime_ns == before


def test_a_stopped_job_saves_its_state_first(launcher: Launcher, model_cache: Path, tmp_path: Path) -> None:
    job = start(launcher, tmp_path, model_cache, mode="FULL", epochs=2000)
    job.wait_for_step(3)
    job.process.terminate()
    assert job.process.join(60) == 143
    stopped_at = job.events("step")[-1]["step"]
    again = Job(tmp_path, launcher.start_training(tmp_path))
    again.wait_for_step(stopped_at + 1)
    again.process.kill()
    assert again.events("resumed")[0]["step"] == stopped_at


def test_images_are_learned_from_both_kinds_of_reference(launcher: Launcher, model_cache: Path, tmp_path: Path) -> None:
    colours = {"red": (220, 30, 30), "green": (30, 180, 40), "blue": (40, 60, 220), "yellow": (230, 220, 40)}
    files, rows = {}, []
    for index, (name, colour) in enumerate(list(colours.items()) * 6):
        noise = random.Random(index)
        shade = tuple(min(255, max(0, value + noise.randint(-15, 15))) for value in colour)
        file = tmp_path / f"{index}.png"
        Image.new("RGB", (56, 56), shade).save(file)
        url = f"gs://pictures/{index}.png"
        if index % 2:
            url = "data:image/png;base64," + base64.b64encode(file.read_bytes()).decode()
        else:
            files[url] = str(file)
        picture = {"type": "image_url", "image_url": {"url": url}}
        rows.append(chat("", f"It is {name}."))
        rows[-1]["messages"][0]["content"] = [picture, {"type": "text", "text": "Which colour?"}]
    unreadable = json.loads(json.dumps(rows[0]))
    unreadable["messages"][0]["content"][0]["image_url"]["url"] = "gs://pictures/absent.png"
    rows += [unreadable, chat("Which colour is grass?", "Green.")]
    job = start(
        launcher,
        tmp_path / "job",
        model_cache,
        base_model=LLAMA4,
        source=ModelSource(kind="tiny", family="llama4"),
        training_file=write_lines(tmp_path / "train.jsonl", rows),
        learning_rate=2e-5,
        epochs=10,
        images=True,
        files=files,
    ).finish()
    assert job.code == 0, job.log
    statistics = job.events("dataset")[0]["statistics"]
    assert statistics["truncatedExampleIndices"] == ["25", "26"]
    assert "gs://pictures/absent.png could not be read" in statistics["droppedExampleReasons"][0]
    assert "no image" in statistics["droppedExampleReasons"][1]
    assert name_colours(job.final, colours, model_cache) == list(colours)
    assert {path.name for path in job.final.iterdir()} >= {"processor_config.json", "model.safetensors", "adapter"}


def name_colours(directory: Path, colours: dict[str, tuple[int, int, int]], cache: Path) -> list[str]:
    """Ask the tuned model about pictures that were in no dataset."""
    from runner.emulator.engine.loading import load

    loaded = load(ModelSource(kind="custom", directory=str(directory)), cache_directory=str(cache), threads=1)
    assert loaded.processor is not None
    content = [{"type": "image"}, {"type": "text", "text": "Which colour?"}]
    prompt = loaded.tokenizer.apply_chat_template(
        [{"role": "user", "content": content}], tokenize=False, add_generation_prompt=True
    )
    named = []
    for colour in colours.values():
        buffer = io.BytesIO()
        Image.new("RGB", (56, 56), colour).save(buffer, "JPEG")
        inputs = loaded.processor(
            text=[prompt], images=[Image.open(buffer)], add_special_tokens=False, return_tensors="pt"
        )
        inputs["pixel_values"] = inputs["pixel_values"].to(loaded.model.dtype)
        output = loaded.model.generate(**inputs, max_new_tokens=8, do_sample=False)
        text = loaded.tokenizer.decode(output[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True)
        named.append(text.removeprefix("It is ").removesuffix("."))
    return named


def test_a_checkpoint_of_ones_own_is_tuned_further(
    launcher: Launcher, model_cache: Path, tmp_path: Path, lora: Job
) -> None:
    rows = [chat(question, "all the same") for question, _ in questions(8)]
    job = start(
        launcher,
        tmp_path,
        model_cache,
        source=ModelSource(kind="custom", directory=str(lora.final)),
        training_file=write_lines(tmp_path / "train.jsonl", rows),
        epochs=40,
    ).finish()
    assert job.code == 0, job.log
    assert job.events("dataset")[0]["weights"].startswith("a checkpoint tuned from tiny")
    assert answers(job.final, [questions()[0][0]], model_cache) == ["all the same"]


@pytest.mark.parametrize(
    ("fields", "status", "words"),
    [
        ({"max_sequence_length": 4}, "INVALID_ARGUMENT", "all 16 were dropped"),
        ({"source": ModelSource(kind="custom", directory="/nowhere")}, "NOT_FOUND", "does not exist"),
        ({"learning_rate": float("inf")}, "FAILED_PRECONDITION", "lower learning rate"),
    ],
)
def test_a_failure_names_its_status_and_cause(
    launcher: Launcher, model_cache: Path, tmp_path: Path, fields: dict[str, Any], status: str, words: str
) -> None:
    if "learning_rate" in fields:  # a stand-in's limit would bound it, so take the stand-in's weights as one's own
        import shutil

        from runner.emulator.engine.tiny import prepare_tiny

        own = tmp_path / "own"
        shutil.copytree(prepare_tiny("llama3", model_cache), own, ignore=shutil.ignore_patterns("stand-in.json"))
        fields = {"source": ModelSource(kind="custom", directory=str(own)), "learning_rate": 1e30, "epochs": 5}
    job = start(launcher, tmp_path / "job", model_cache, **fields).finish()
    assert job.code == 1
    failed = job.events()[-1]
    assert (failed["event"], failed["status"]) == ("failed", status)
    assert words in failed["message"]
    assert not job.final.exists()
