"""The run manifest: everything that a job's result depends on, written beside the result before the job is created.

`<output_uri>/runner-manifest.json`. It is written before the create is sent, so that no job of this tool is without
one; a manifest whose job was refused is found by its fingerprint to belong to none.
"""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import json
import logging
import platform
import subprocess
from collections.abc import Mapping
from importlib import metadata
from typing import TYPE_CHECKING, Any

from runner.catalog import find_model, load_catalog
from runner.errors import ConfigurationError, NotFoundError, RunnerError
from runner.gcp import storage
from runner.gcp.session import Session
from runner.gcp.tuning_jobs import TuningJob
from runner.jobs.specification import TuningJobSpec

if TYPE_CHECKING:
    from runner.jobs.submission import PreparedJob

MANIFEST_NAME = "runner-manifest.json"
SCHEMA_VERSION = 1
_PACKAGES = ("open-model-tuning", "google-genai", "google-cloud-storage")
_FINGERPRINT_LABEL = "runner-fingerprint"
_TEMPLATES = ("chat_template.jinja", "tokenizer_config.json")

logger = logging.getLogger(__name__)


def manifest_uri(output_uri: str) -> str:
    """Return where the manifest of a job with this output folder is."""
    return f"{output_uri.rstrip('/')}/{MANIFEST_NAME}"


def manifest_of(prepared: PreparedJob, parent: str, details: Mapping[str, Any]) -> dict[str, Any]:
    """Return the manifest of a job about to be created.

    Args:
        prepared: the specification with every value filled in, and the versions of its datasets.
        parent: `projects/P/locations/L`.
        details: what the caller knows besides: the price estimate, the statistics of the data, what it was cloned from.
    """
    spec, catalog = prepared.spec, load_catalog()
    limits = find_model(spec.base_model).modes.get(spec.mode) if spec.mode else None
    return {
        "schema": SCHEMA_VERSION,
        "fingerprint": prepared.fingerprint,
        "parent": parent,
        "written": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds").replace("+00:00", "Z"),
        "spec": dataclasses.asdict(spec),
        "datasets": prepared.datasets,
        "catalog": catalog.version,
        "price": {
            "usdPerMillionTokens": limits.usd_per_million_tokens if limits else None,
            "date": catalog.price_date,
        },
        "versions": {name: _version(name) for name in _PACKAGES} | {"python": platform.python_version()},
        "git": git_state(),
        **details,
    }


def record(session: Session, prepared: PreparedJob, details: Mapping[str, Any]) -> str:
    """Write the manifest and return "", or why it could not be written: the job does not fail for that."""
    uri = manifest_uri(prepared.spec.output_uri or "")
    body = manifest_of(prepared, session.environment.parent, details)
    content = json.dumps(body, indent=2, ensure_ascii=False).encode() + b"\n"
    try:
        storage.upload_bytes(session, content, uri, replace=True, content_type="application/json")
    except RunnerError as error:
        logger.warning("the run manifest was not written: %s", error.message)
        return error.message
    return ""


def read_manifest(session: Session, job: TuningJob) -> dict[str, Any]:
    """Return the manifest of a job.

    Raises:
        NotFoundError: there is none: the job was not submitted by this tool, or its folder was cleared.
        ConfigurationError: what is there is none, or belongs to another job that used the same output folder.
    """
    uri = manifest_uri(job.output_uri)
    try:
        content = storage.read_bytes(session, uri)
    except NotFoundError as error:
        raise NotFoundError(
            f"job {job.id} has no run manifest at {uri}",
            status="NOT_FOUND",
            http=404,
            resource=uri,
            hint=f"`runner jobs clone {job.id}` takes what the job's own document says",
        ) from error
    try:
        body = json.loads(content)
        spec_of(body)
    except (ValueError, TypeError, KeyError) as error:
        raise _unusable(f"{uri} is no run manifest that this version can read") from error
    mine = job.labels.get(_FINGERPRINT_LABEL, "")
    if body.get("fingerprint") != mine:
        raise _unusable(f"{uri} belongs to another job that wrote into the same folder")
    return dict(body)


def spec_of(manifest: Mapping[str, Any]) -> TuningJobSpec:
    """Return the specification in a manifest. Raises KeyError, TypeError for what is none."""
    if manifest["schema"] != SCHEMA_VERSION:
        raise TypeError(f"schema {manifest['schema']}")
    return TuningJobSpec(**manifest["spec"])


def differences(session: Session, manifest: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return what is no longer as it was when the job was submitted: `what`, `then`, `now`, and whether it `matters`.

    `matters` marks what changes the result: the bytes of the data. The rest changes the price, or can.
    """
    found: list[dict[str, Any]] = []

    def compare(what: str, then: Any, now: Any, *, matters: bool = False) -> None:
        if then != now:
            found.append({"what": what, "then": then, "now": now, "matters": matters})

    for role, version in (manifest.get("datasets") or {}).items():
        if version is None:
            continue
        info = storage.stat(session, version["uri"])
        compare(f"{role} data", version["crc32c"], info.crc32c if info else None, matters=True)
    spec, catalog = spec_of(manifest), load_catalog()
    limits = find_model(spec.base_model).modes.get(spec.mode) if spec.mode else None
    compare("catalogue", manifest.get("catalog"), catalog.version)
    price = manifest.get("price") or {}
    compare("price", price.get("usdPerMillionTokens"), limits.usd_per_million_tokens if limits else None)
    for name, version in (manifest.get("versions") or {}).items():
        compare(name, version, platform.python_version() if name == "python" else _version(name))
    compare("git commit", (manifest.get("git") or {}).get("commit"), (git_state() or {}).get("commit"))
    return found


def template_of(session: Session, job: TuningJob) -> dict[str, str] | None:
    """Return name and CRC32C of the chat template that a job's final weights carry; None where there is none yet."""
    if not job.final_checkpoint_uri:
        return None
    folder = f"{job.final_checkpoint_uri}/"
    try:
        there = {item.uri.removeprefix(folder): item.crc32c for item in storage.list_objects(session, folder)}
    except RunnerError:
        return None
    return next(({"file": name, "crc32c": there[name]} for name in _TEMPLATES if name in there), None)


def git_state() -> dict[str, Any] | None:
    """Return commit and whether there are uncommitted changes, of the directory one is in; None outside of git."""
    with contextlib.suppress(OSError, subprocess.SubprocessError):
        commit = _git("rev-parse", "HEAD")
        if commit:
            return {"commit": commit, "dirty": bool(_git("status", "--porcelain", "--untracked-files=no"))}
    return None


def _git(*arguments: str) -> str:
    # A repository that somebody else made may name programs in its configuration; `status` would run these.
    command = ["git", "--no-optional-locks", "-c", "core.fsmonitor=false", "-c", "core.hooksPath=/dev/null", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=5, check=False)
    return done.stdout.strip() if done.returncode == 0 else ""


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _unusable(message: str) -> ConfigurationError:
    return ConfigurationError(message, problems=[message], hint="`runner jobs clone JOB` takes the job's own document")
