"""After the training: publish the weights, and create the tuned model."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import sqlite3
from pathlib import Path
from typing import Any

from runner.catalog import find_model, load_catalog
from runner.emulator import store
from runner.emulator.aiplatform import models, tuning_events
from runner.emulator.aiplatform.tuning_validation import split_uri
from runner.emulator.context import Emulator
from runner.emulator.storage import buckets, objects

NODE = "postprocess/node-0"
DEFAULT_REGION = "us-central1"
"""Location of a `global` job whose output bucket does not determine one."""


def folder(job: dict[str, Any]) -> tuple[str, str]:
    """Return the bucket and prefix (with slash) of a job's results."""
    bucket, prefix = split_uri(job["outputUri"], "output_uri")
    stem = prefix.rstrip("/")
    return bucket, f"{stem}/{NODE}/" if stem else f"{NODE}/"


def final_uri(job: dict[str, Any]) -> str:
    """Return the folder of a job's final weights."""
    bucket, prefix = folder(job)
    return f"gs://{bucket}/{prefix}checkpoints/final"


def metrics_uri(job: dict[str, Any]) -> str:
    """Return the object with a job's metrics, one JSON object per line."""
    bucket, prefix = folder(job)
    return f"gs://{bucket}/{prefix}metrics/metrics.jsonl"


async def publish(emulator: Emulator, job: dict[str, Any], name: str, output: Path) -> None:
    """Upload every file of the output folder, then the metrics. Objects with the same bytes are not written again.

    `final/config.json` is last, so that a folder with this file is complete.
    """
    bucket, prefix = folder(job)
    files = sorted(path for path in output.rglob("*") if path.is_file())
    files.sort(key=lambda path: path.relative_to(output).as_posix() == "final/config.json")
    for path in files:
        target = f"{prefix}checkpoints/{path.relative_to(output).as_posix()}"
        kind = "application/json" if path.suffix == ".json" else "application/octet-stream"
        await _put(emulator, bucket, target, path, kind)
    events = emulator.store.read(lambda connection: tuning_events.after(connection, name, 0, limit=1_000_000))
    metrics = output.parent / "metrics.jsonl"
    metrics.write_text("".join(f"{_line(event)}\n" for event in events if event["kind"] != "state"))
    await _put(emulator, bucket, f"{prefix}metrics/metrics.jsonl", metrics, "application/jsonl")


async def _put(emulator: Emulator, bucket: str, name: str, path: Path, content_type: str) -> None:
    there = emulator.store.read(lambda connection: objects.find(connection, bucket, name))
    if there is not None and there.get("md5Hash") == await asyncio.to_thread(_md5, path):
        return
    await objects.put_file(emulator, bucket, name, path, content_type)


def _md5(path: Path) -> str:
    with path.open("rb") as file:
        return base64.b64encode(hashlib.file_digest(file, "md5").digest()).decode()


def _line(event: dict[str, Any]) -> str:
    return json.dumps(event, separators=(",", ":"))


def region(connection: sqlite3.Connection, job: dict[str, Any]) -> str:
    """Return the region of a job's model: the job's own, or a real one for a job of `global`."""
    location = job["name"].split("/")[3]
    if location != "global":
        return str(location)
    bucket = buckets.find(connection, folder(job)[0])
    place = str(bucket["location"]).lower() if bucket else ""
    known = {item.id for item in load_catalog().locations} - {"global"}
    if place in known:
        return place
    return "europe-west4" if place == "eu" else DEFAULT_REGION


def make_model(connection: sqlite3.Connection, job: dict[str, Any], work: dict[str, Any], now: str) -> dict[str, Any]:
    """Register the tuned model once; return the job's `tunedModel`."""
    name = f"projects/{work['number']}/locations/{region(connection, job)}/models/{work['modelId']}"
    if store.find(connection, models.KIND, name) is None:
        body: dict[str, Any] = {
            "displayName": job["tunedModelDisplayName"],
            "artifactUri": final_uri(job),
            "labels": job.get("labels", {}),
            "modelSourceInfo": {"sourceType": "MODEL_GARDEN"},
            "baseModelSource": {"modelGardenSource": {"publicModelName": _public_name(work["model"])}},
        }
        models.insert(connection, name, {key: value for key, value in body.items() if value}, now)
    checkpoints = [
        {
            "checkpointId": str(item["id"]),
            "epoch": str(int(item.get("epoch", 0))),
            "step": str(int(item.get("step", 0))),
        }
        for item in work["checkpoints"]
        if "id" in item
    ]
    tuned: dict[str, Any] = {"model": f"{name}@1"}
    if checkpoints:
        tuned["checkpoints"] = checkpoints
    return tuned


def _public_name(model_id: str) -> str:
    publisher, _, rest = find_model(model_id).id.partition("/")
    return f"publishers/{publisher}/models/{rest}"
