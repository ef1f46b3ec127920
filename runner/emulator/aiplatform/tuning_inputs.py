"""Prepare a training: check the accounts' permissions, then copy the inputs to the job's folder."""

from __future__ import annotations

import json
import shutil
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from runner.catalog import Model, find_model
from runner.datasets.tokens.hub_cache import find_tokenizer
from runner.emulator.aiplatform import access
from runner.emulator.aiplatform.access import Need
from runner.emulator.aiplatform.tuning_validation import split_uri
from runner.emulator.context import Emulator
from runner.emulator.engine.protocol import TrainingSpec
from runner.emulator.engine.sources import choose_source, describe, stand_in_card
from runner.emulator.errors import ApiError, invalid
from runner.emulator.iam import agents
from runner.emulator.storage import objects

MAX_VALIDATION_ROWS = 5000
MAX_VALIDATION_SHARE = 0.25
"""Maximum size of the validation file relative to the training file (Google's managed tuning guide, 2026-08)."""

_IMAGE_KEYS = frozenset({"url", "file_uri", "fileUri"})
WEIGHTS = (".safetensors", ".bin")


def principals(job: dict[str, Any], number: str) -> tuple[str, ...]:
    """Return the accounts of a job: its own service account, or the two service agents of the project."""
    if job.get("serviceAccount"):
        return (str(job["serviceAccount"]),)
    return (agents.tuning_agent(number), agents.aiplatform_agent(number))


def prepare(emulator: Emulator, job: dict[str, Any], work: dict[str, Any], directory: Path) -> dict[str, Any]:
    """Fill the folder of a job with the inputs of a training process. Blocks; repeating it starts again.

    Returns:
        A description of the weights for the job's `emulator` field.

    Raises:
        ApiError: a missing object, a denied permission, a dataset beyond the service's limits, unusable custom weights.
    """
    shutil.rmtree(directory, ignore_errors=True)
    inputs = directory / "inputs"
    inputs.mkdir(parents=True, mode=0o700)
    spec = job["supervisedTuningSpec"]
    accounts = principals(job, work["number"])
    emulator.store.read(lambda connection: access.require(connection, accounts, _needs(job)))
    training = inputs / "training.jsonl"
    _copy(emulator, spec["trainingDatasetUri"], training, "training_dataset_uri")
    validation: Path | None = None
    if "validationDatasetUri" in spec:
        validation = inputs / "validation.jsonl"
        _copy(emulator, spec["validationDatasetUri"], validation, "validation_dataset_uri")
        _check_validation(training, validation)
    model = find_model(work["model"])
    files = _images(emulator, accounts, [training, validation], inputs) if model.images else {}
    custom = _custom_base(emulator, job, inputs / "custom") if "customBaseModel" in job else None
    source = choose_source(model, emulator.settings, custom)
    _write_spec(emulator, job, work, model, directory / "job.json", training, validation, files, custom)
    return {"baseModel": model.id, **describe(source, model.id, work["mode"])}


def _needs(job: dict[str, Any]) -> Iterator[Need]:
    spec = job["supervisedTuningSpec"]
    for uri in (spec["trainingDatasetUri"], spec.get("validationDatasetUri")):
        if uri is not None:
            yield Need(*split_uri(uri, "dataset"), access.READ)
    if "customBaseModel" in job:
        yield Need(*split_uri(job["customBaseModel"], "custom_base_model"), access.READ)
    yield Need(*split_uri(job["outputUri"], "output_uri"), access.WRITE)


def _copy(emulator: Emulator, uri: str, target: Path, field: str) -> None:
    bucket, name = split_uri(uri, field)
    try:
        objects.materialize(emulator, bucket, name, target)
    except ApiError as error:
        raise ApiError(error.status, f"The file {uri} of {field} cannot be read: {error.message}") from error


def _check_validation(training: Path, validation: Path) -> None:
    share = validation.stat().st_size / max(1, training.stat().st_size)
    if share > MAX_VALIDATION_SHARE:
        raise invalid(
            f"The validation dataset is {share:.2%} of the training dataset's size; "
            f"at most {MAX_VALIDATION_SHARE:.0%} is allowed."
        )
    with validation.open("rb") as lines:
        rows = sum(1 for line in lines if line.strip())
    if rows > MAX_VALIDATION_ROWS:
        raise invalid(f"The validation dataset has {rows} rows; at most {MAX_VALIDATION_ROWS} are allowed.")


def _images(emulator: Emulator, accounts: tuple[str, ...], files: list[Path | None], inputs: Path) -> dict[str, str]:
    """Copy every image in a dataset; missing images are skipped, and their examples are dropped later."""
    uris = sorted({uri for file in files if file is not None for uri in _image_uris(file)})
    found: dict[str, str] = {}
    named: dict[str, list[str]] = {}
    for uri in uris:
        try:
            bucket, name = split_uri(uri, "dataset")
        except ApiError:
            continue
        named.setdefault(bucket, []).append(name)
    needs = [Need(bucket, names[0], ("storage.objects.get",)) for bucket, names in named.items()]
    emulator.store.read(lambda connection: access.require(connection, accounts, needs))
    (inputs / "images").mkdir()
    pairs = [(bucket, name) for bucket, names in named.items() for name in names]
    for number, (bucket, name) in enumerate(pairs):
        target = inputs / "images" / str(number)
        try:
            objects.materialize(emulator, bucket, name, target)
        except ApiError:
            continue
        found[f"gs://{bucket}/{name}"] = str(target)
    return found


def _image_uris(file: Path) -> Iterator[str]:
    with file.open("rb") as lines:
        for line in lines:
            if b"gs://" not in line:
                continue
            try:
                yield from _uris_in(json.loads(line))
            except (ValueError, RecursionError):
                continue  # the training process reports it


def _uris_in(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        for key, inner in value.items():
            if key in _IMAGE_KEYS and isinstance(inner, str) and inner.startswith("gs://"):
                yield inner
            else:
                yield from _uris_in(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _uris_in(inner)


def checkpoint_names(connection: sqlite3.Connection, uri: str, field: str) -> tuple[str, str, list[str]]:
    """Return the bucket, the prefix (with slash) and the objects directly in a checkpoint's folder.

    Raises:
        ApiError: INVALID_ARGUMENT if it lacks config.json or weights.
    """
    bucket, folder = split_uri(uri, field)
    prefix = f"{folder.rstrip('/')}/" if folder.strip("/") else ""
    names = [name for name in objects.list_names(connection, bucket, prefix) if "/" not in name[len(prefix) :]]
    names = [name for name in names if name != prefix]
    plain = {name[len(prefix) :] for name in names}
    if not plain:
        raise invalid(f"There are no files in {uri} ({field}). It must be a folder with a model's safetensors weights.")
    if "config.json" not in plain:
        hint = " It looks like an adapter: use the merged weights beside it." if "adapter_config.json" in plain else ""
        raise invalid(f"The folder {uri} ({field}) does not contain a config.json file.{hint}")
    if not any(name.endswith(WEIGHTS) for name in plain):
        raise invalid(f"The folder {uri} ({field}) does not contain model weights (*.safetensors).")
    return bucket, prefix, names


def copy_checkpoint(emulator: Emulator, uri: str, field: str, target: Path) -> None:
    """Copy a checkpoint's folder atomically. Blocks. Raises ApiError like `checkpoint_names`."""
    bucket, prefix, names = emulator.store.read(lambda connection: checkpoint_names(connection, uri, field))
    aside = target.with_name(target.name + ".partial")
    shutil.rmtree(aside, ignore_errors=True)
    aside.mkdir(parents=True, mode=0o700)
    for name in names:
        plain = name[len(prefix) :]
        if plain in (".", "..") or "\0" in plain:
            continue
        objects.materialize(emulator, bucket, name, aside / plain)
    shutil.rmtree(target, ignore_errors=True)
    aside.rename(target)


def _custom_base(emulator: Emulator, job: dict[str, Any], target: Path) -> str:
    copy_checkpoint(emulator, job["customBaseModel"], "custom_base_model", target)
    return str(target)


def _write_spec(
    emulator: Emulator,
    job: dict[str, Any],
    work: dict[str, Any],
    model: Model,
    path: Path,
    training: Path,
    validation: Path | None,
    files: dict[str, str],
    custom: str | None,
) -> None:
    spec = job["supervisedTuningSpec"]
    parameters = spec["hyperParameters"]
    optional = {"batch_size": int(parameters["batchSize"])} if "batchSize" in parameters else {}
    source = choose_source(model, emulator.settings, custom)
    own = find_tokenizer(model) if stand_in_card(source) is not None else None
    TrainingSpec(
        base_model=model.id,
        source=source,
        billing_tokenizer="" if own is None else str(own),
        mode=work["mode"],
        training_file=str(training),
        validation_file=None if validation is None else str(validation),
        files=files,
        max_sequence_length=model.modes[work["mode"]].max_sequence_length,
        epochs=int(parameters["epochCount"]),
        learning_rate=float(parameters["learningRate"]),
        adapter_size=work["rank"],
        export_last_checkpoint_only=bool(spec.get("exportLastCheckpointOnly")),
        images=model.images,
        threads=emulator.settings.training_threads,
        cache_directory=str(emulator.settings.model_cache),
        **optional,
    ).write(path)
