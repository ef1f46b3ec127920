"""A specification with all values, and the fingerprint that identifies its job."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from runner.errors import NotFoundError
from runner.gcp import storage
from runner.gcp.session import Session
from runner.jobs.labels import FINGERPRINT_LABEL, MANAGED_LABEL, MANAGED_VALUE, digest
from runner.jobs.outputs.ownership import Wanted
from runner.jobs.outputs.run_manifest import manifest_of
from runner.jobs.specification import TuningJobSpec, check

SCHEMA_VERSION = 1
"""Version of the fingerprint; increase it when a field is added or changes its meaning."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PreparedJob:
    """A specification with all values, ready to be sent."""

    spec: TuningJobSpec
    fingerprint: str
    """52 characters of a-z and 2-7: SHA-256 in base32."""
    labels: dict[str, str]
    datasets: dict[str, Any]
    """`training` and `validation`: address, generation and CRC32C, or None."""
    lineage: str = ""
    """Equal for all attempts of a manifest's job."""

    @property
    def fields(self) -> dict[str, Any]:
        """Return the arguments of `tuning_jobs.create`."""
        return {**self.spec.given(), "labels": self.labels}

    def wanted(self, *, replace: bool = False) -> Wanted:
        """Return the job's claim on its folder."""
        output = self.spec.output_uri or ""
        return Wanted(output=output, fingerprint=self.fingerprint, lineage=self.lineage, replace=replace)

    def manifest(self, parent: str, details: Mapping[str, Any]) -> dict[str, Any]:
        """Return the run manifest."""
        return manifest_of(
            self.spec, fingerprint=self.fingerprint, datasets=self.datasets, parent=parent, details=details
        )


def prepare(session: Session, spec: TuningJobSpec, *, salt: str = "") -> PreparedJob:
    """Return the specification as it would be sent. Reads the generations of the datasets; changes nothing.

    Args:
        session: the project and location.
        spec: the specification.
        salt: changes the fingerprint of the same specification.

    Raises:
        ConfigurationError: the specification is incorrect; all errors are listed.
        UnknownModelError: the base model is not in the catalog.
        NotFoundError: a dataset does not exist.
    """
    environment = session.environment
    check(spec, environment)
    resolved = spec.resolved()
    datasets = {
        "training": _version(session, resolved.training_dataset),
        "validation": _version(session, resolved.validation_dataset) if resolved.validation_dataset else None,
    }
    fingerprint = digest(fingerprint_inputs(environment.parent, resolved, datasets, salt))
    slug = _slug(resolved.display_name) or _slug(resolved.base_model.split("@")[-1])
    output = resolved.output_uri or f"gs://{environment.outputs_bucket}/tuned/{slug[:40]}-{fingerprint[:10]}"
    name = resolved.display_name or f"{slug[:100]}-{fingerprint[:10]}"
    labels = {**resolved.labels, MANAGED_LABEL: MANAGED_VALUE, FINGERPRINT_LABEL: fingerprint}
    filled = dataclasses.replace(resolved, output_uri=output.rstrip("/"), display_name=name)
    return PreparedJob(spec=filled, fingerprint=fingerprint, labels=labels, datasets=datasets)


def _slug(text: str) -> str:
    """Return the Latin letters and digits of a text with hyphens between them; "" if it has none."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")


def fingerprint_inputs(parent: str, spec: TuningJobSpec, datasets: dict[str, Any], salt: str = "") -> dict[str, Any]:
    """Return the fingerprint of a job, which does not depend on names, descriptions and labels.

    Args:
        parent: `projects/P/locations/L`.
        spec: the resolved specification.
        datasets: `training` and `validation`: address, generation and CRC32C, or None.
        salt: changes the fingerprint of the same specification.
    """
    return {"schema": SCHEMA_VERSION, "parent": parent, "datasets": datasets, "salt": salt, **spec.work()}


def _version(session: Session, uri: str) -> dict[str, Any]:
    info = storage.stat(session, uri)
    if info is None:
        raise NotFoundError(
            f"the dataset {uri} does not exist",
            method="storage.objects.get",
            resource=uri,
            hint="upload it with `runner data upload`",
        )
    return {"uri": uri, "generation": info.generation, "crc32c": info.crc32c}
