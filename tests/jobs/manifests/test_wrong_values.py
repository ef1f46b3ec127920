"""Every field of a manifest with every kind of wrong value: said at its line, in words, beside every other mistake."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from runner.environment import Environment
from runner.jobs.manifests import reading
from tests.jobs.manifests.folder import MODEL

ENVIRONMENT = Environment(project="p", location="us-central1", outputs_bucket="outputs")
WHOLE: dict[str, Any] = {
    "apiVersion": "open-model-tuning/v1",
    "kind": "TuningJob",
    "metadata": {"name": "tone", "labels": {"team": "a"}, "revision": 1},
    "spec": {
        "baseModel": MODEL,
        "customBaseModel": "gs://bucket/weights",
        "mode": "PEFT_ADAPTER",
        "hyperparameters": {"epochs": 1, "learningRate": 1e-4, "adapterSize": 8, "batchSize": 4},
        "data": {"train": "gs://bucket/train.jsonl", "validation": "gs://bucket/validation.jsonl"},
        "output": "gs://bucket/output",
        "exportLastCheckpointOnly": False,
        "description": "words",
        "serviceAccount": "a@b.example.com",
        "kmsKey": "projects/p/locations/us-central1/keyRings/r/cryptoKeys/k",
        "maxCost": 5,
        "priority": 0,
        "retry": {"attempts": 1, "on": "any"},
        "deploy": {
            "maxCostPerHour": 5,
            "machineType": "g2-standard-12",
            "acceleratorType": "NVIDIA_L4",
            "acceleratorCount": 1,
            "endpoint": "1",
        },
        "evaluation": {
            "metric": "chrF",
            "questions": "gs://bucket/questions.jsonl",
            "baseModel": "m",
            "require": "better",
            "limit": 10,
            "maxTokens": 10,
        },
    },
}
SWEPT: dict[str, Any] = {
    **WHOLE,
    "spec": {
        "data": WHOLE["spec"]["data"],
        "sweep": {
            "maxCost": 5,
            "grid": {"baseModel": [MODEL], "mode": ["PEFT_ADAPTER"], "epochs": [1], "learningRate": [1e-4]},
            "paired": {"adapterSize": [8], "batchSize": [4]},
        },
    },
}
WRONG: tuple[Any, ...] = ([], [None], {"COLOR": "red"}, -(10**17), 1e300, "\u202e\n\x00", "x" * 5000)
FREE = {"description"}
"""Fields that take any text."""


def places(value: dict[str, Any], at: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    for key, item in value.items():
        yield (*at, key)
        if isinstance(item, dict):
            yield from places(item, (*at, key))


def cases() -> Iterator[tuple[dict[str, Any], tuple[str, ...], Any]]:
    for whole in (WHOLE, SWEPT):
        for at, value in itertools.product(places(whole), WRONG):
            if at[-1] in FREE and isinstance(value, str) and len(value) < 1000:
                continue
            body = json.loads(json.dumps(whole))
            here = body
            for key in at[:-1]:
                here = here[key]
            here[at[-1]] = value
            yield body, at, value


def problems_of(path: Path, *bodies: dict[str, Any]) -> list[str]:
    path.write_text("\n---\n".join(json.dumps(body, indent=1) for body in bodies))
    loaded = reading.load([path])
    return [*loaded.problems, *reading.check(loaded.jobs, ENVIRONMENT)]


def test_the_whole_manifest_is_sound(tmp_path: Path) -> None:
    assert problems_of(tmp_path / "m.yaml", WHOLE) == []
    assert problems_of(tmp_path / "m.yaml", SWEPT) == []


def test_every_field_with_every_wrong_value(tmp_path: Path) -> None:
    path = tmp_path / "m.yaml"
    for body, at, value in cases():
        problems = problems_of(path, body)
        what = (".".join(at), str(value)[:40], problems)
        assert problems, what
        assert any(".".join(at) in problem for problem in problems), what
        for problem in problems:
            assert problem.startswith(f"{path}:"), what
            assert len(problem) < len(str(path)) + 350, what
            assert problem.isprintable(), what
            assert not any(word in problem for word in ("None", "True", "False", "Input should", "String should")), what


@pytest.mark.parametrize("at", [at for at in places(WHOLE) if len(at) > 2 and at[:2] != ("spec", "data")], ids=".".join)
def test_one_mistake_hides_no_other(at: tuple[str, ...], tmp_path: Path) -> None:
    body = json.loads(json.dumps(WHOLE))
    here = body
    for key in at[:-1]:
        here = here[key]
    here[at[-1]] = [{}]
    body["spec"]["data"]["train"] = "absent.jsonl"
    body["spec"]["serviceAccount"] = "nobody"
    found = [problem.split(": ")[1] for problem in problems_of(tmp_path / "m.yaml", body)]
    assert ".".join(at) in found
    assert {"spec.data.train", "spec.serviceAccount"} <= set(found)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("baseModel: ''", "spec.baseModel: is empty"),
        ("hyperparameters: {adapterSize: true}", "spec.hyperparameters.adapterSize: true is not a whole number"),
        ("hyperparameters: {adapterSize: 8.0}", "spec.hyperparameters.adapterSize: 8 is not a whole number"),
        ("mode: FULLY", "spec.mode: 'FULLY' is not 'FULL' or 'PEFT_ADAPTER'"),
        ("mode:", "spec.mode"),
        ("output: bucket/x", "spec.output: 'bucket/x' is not an address in Cloud Storage: gs://BUCKET/PATH"),
    ],
)
def test_what_is_said(text: str, said: str, tmp_path: Path) -> None:
    path = tmp_path / "m.yaml"
    model = "" if text.startswith("baseModel") else f"  baseModel: {MODEL}\n"
    path.write_text(
        "apiVersion: open-model-tuning/v1\nkind: TuningJob\nmetadata: {name: tone}\nspec:\n"
        f"{model}  {text}\n  data: {{train: 'gs://bucket/x.jsonl'}}\n"
    )
    loaded = reading.load([path])
    problems = [*loaded.problems, *reading.check(loaded.jobs, ENVIRONMENT)]
    if said == "spec.mode":
        assert problems == [], "nothing is as good as left out"
    else:
        assert problems == [f"{path}:{5 + bool(model)}: {said}"]


def test_a_mistake_in_a_sweep_is_found_in_the_sweep(tmp_path: Path) -> None:
    body = json.loads(json.dumps(SWEPT))
    body["spec"]["sweep"]["grid"]["baseModel"] = ["meta/llama9"]
    [problem] = problems_of(tmp_path / "m.yaml", body)
    assert "spec.sweep.grid.baseModel: 'meta/llama9' is not in the catalog" in problem
