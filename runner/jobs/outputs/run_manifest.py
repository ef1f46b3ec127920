"""The run manifest: all inputs of a job's result, written beside the result before the job is created.

Its address is `<output_uri>/runner-manifest.json`. It is also the claim on the folder: the process that writes it over
the generation that it has read may create the job (`runner.jobs.submitting.claims`).
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from runner import times
from runner.catalog import find_model, load_catalog
from runner.jobs.checkouts import commit_of
from runner.jobs.specification import TuningJobSpec

MANIFEST_NAME = "runner-manifest.json"
SCHEMA_VERSION = 1
_PACKAGES = ("open-model-tuning", "google-genai", "google-cloud-storage")


def manifest_uri(output_uri: str) -> str:
    """Return the address of the run manifest for an output folder."""
    return f"{output_uri.rstrip('/')}/{MANIFEST_NAME}"


def manifest_of(
    spec: TuningJobSpec, *, fingerprint: str, datasets: Mapping[str, Any], parent: str, details: Mapping[str, Any]
) -> dict[str, Any]:
    """Return the run manifest of a job that is about to be created.

    Args:
        spec: the specification with all values.
        fingerprint: the fingerprint of the job.
        datasets: `training` and `validation`: address, generation and CRC32C, or None.
        parent: `projects/P/locations/L`.
        details: additional information from the caller: the price estimate, the statistics of the data, the cloned job.
    """
    catalog = load_catalog()
    return {
        "schema": SCHEMA_VERSION,
        "fingerprint": fingerprint,
        "parent": parent,
        "written": times.to_seconds(time.time()),
        "spec": dataclasses.asdict(spec),
        "datasets": dict(datasets),
        "catalog": catalog.version,
        "price": {"usdPerMillionTokens": list_price(spec), "date": catalog.price_date},
        "versions": versions(),
        **({} if "git" in details else {"git": commit_of(Path())}),
        **details,
    }


def list_price(spec: TuningJobSpec) -> float | None:
    """Return US dollars for a million tokens of a job's model and mode; None if no price is published."""
    limits = find_model(spec.base_model).modes.get(spec.mode) if spec.mode else None
    return limits.usd_per_million_tokens if limits else None


def versions() -> dict[str, str | None]:
    """Return the versions of the programs that affect a submission; None for one that is not installed."""
    import platform  # imported here, so that read-only commands start fast

    return {name: _version(name) for name in _PACKAGES} | {"python": platform.python_version()}


def _version(name: str) -> str | None:
    from importlib import metadata  # imported here, so that read-only commands start fast

    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None
