"""The run manifest: everything that a job's result depends on, written beside the result before the job is created.

`<output_uri>/runner-manifest.json`. It is also the claim on the folder: whoever writes it over the generation that
they read may create the job (`runner.jobs.submitting.claims`).
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
    """Return where the manifest of a job with this output folder is."""
    return f"{output_uri.rstrip('/')}/{MANIFEST_NAME}"


def manifest_of(
    spec: TuningJobSpec, *, fingerprint: str, datasets: Mapping[str, Any], parent: str, details: Mapping[str, Any]
) -> dict[str, Any]:
    """Return the manifest of a job about to be created.

    Args:
        spec: with every value filled in.
        fingerprint: of the job.
        datasets: `training` and `validation`: address, generation and CRC32C, or None.
        parent: `projects/P/locations/L`.
        details: what the caller knows besides: the price estimate, the statistics of the data, what it was cloned from.
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
        "git": commit_of(Path()),
        **details,
    }


def list_price(spec: TuningJobSpec) -> float | None:
    """Return US dollars for a million tokens of a job's model and mode; None where no price is published."""
    limits = find_model(spec.base_model).modes.get(spec.mode) if spec.mode else None
    return limits.usd_per_million_tokens if limits else None


def versions() -> dict[str, str | None]:
    """Return the versions of the programs that a submission depends on; None for one that is not installed."""
    import platform  # here, so that looking starts fast

    return {name: _version(name) for name in _PACKAGES} | {"python": platform.python_version()}


def _version(name: str) -> str | None:
    from importlib import metadata  # here, so that looking starts fast

    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None
