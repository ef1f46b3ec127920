"""Run a job again from its run manifest, and report what has changed since."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from runner.catalog import load_catalog
from runner.errors import ConfigurationError, NotFoundError, RunnerError
from runner.gcp import downloads, storage
from runner.gcp.session import Session
from runner.gcp.tuning_jobs import TuningJob
from runner.jobs.checkouts import commit_of
from runner.jobs.labels import FINGERPRINT_LABEL
from runner.jobs.outputs.run_manifest import list_price, manifest_uri, versions
from runner.jobs.specification import TuningJobSpec
from runner.json_text import parsed

_TEMPLATES = ("chat_template.jinja", "tokenizer_config.json")


def read_manifest(session: Session, job: TuningJob) -> dict[str, Any]:
    """Return the run manifest of a job.

    Raises:
        NotFoundError: it does not exist: the job was not submitted by this tool, or its folder was cleared.
        ConfigurationError: the object is not a run manifest, or belongs to another job with the same output folder.
    """
    from runner.jobs.repeating.manifest_form import RunManifest  # imports pydantic

    return _read(session, job, lambda content: RunManifest.model_validate_json(content, strict=True))


def checksums_of(session: Session, job: TuningJob) -> dict[str, Any]:
    """Return the CRC32C of each dataset in a job's run manifest; none if it cannot be read."""
    try:
        datasets = _read(session, job, lambda content: None).get("datasets")
    except RunnerError:
        datasets = None
    found = datasets.items() if isinstance(datasets, dict) else ()
    return {role: version.get("crc32c") for role, version in found if isinstance(version, dict)}


def _read(session: Session, job: TuningJob, check: Callable[[bytes], object]) -> dict[str, Any]:
    uri = manifest_uri(job.output_uri)
    try:
        content = downloads.read_bytes(session, uri)
    except NotFoundError as error:
        raise NotFoundError(
            f"job {job.id} has no run manifest at {uri}",
            resource=uri,
            hint=f"`runner jobs clone {job.id}` uses the specification that the service returns",
        ) from error
    try:
        body = parsed(content)
        check(content)
    except ValueError as error:
        raise _unusable(f"{uri} is not a run manifest that this version can read") from error
    mine = job.labels.get(FINGERPRINT_LABEL, "")
    if not isinstance(body, dict) or body.get("fingerprint") != mine:
        raise _unusable(f"{uri} belongs to another job that wrote into the same folder")
    return dict(body)


def spec_of(manifest: Mapping[str, Any]) -> TuningJobSpec:
    """Return the specification in a run manifest from `read_manifest`."""
    return TuningJobSpec(**manifest["spec"])


def differences(session: Session, manifest: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return what has changed since the job was submitted: `what`, `then`, `now`, and whether it `matters`.

    `matters` marks changes of the result, which are changes of the data. The others can change the price.
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
    compare("catalog", manifest.get("catalog"), load_catalog().version)
    price = manifest.get("price") or {}
    compare("price", price.get("usdPerMillionTokens"), list_price(spec_of(manifest)))
    now = versions()
    for name, version in (manifest.get("versions") or {}).items():
        compare(name, version, now.get(name))
    compare("git commit", (manifest.get("git") or {}).get("commit"), (commit_of(Path()) or {}).get("commit"))
    return found


def template_of(session: Session, job: TuningJob) -> dict[str, str] | None:
    """Return the name and CRC32C of the chat template in a job's final weights; None if there is none yet."""
    if not job.final_checkpoint_uri:
        return None
    folder = f"{job.final_checkpoint_uri}/"
    try:
        there = {item.uri.removeprefix(folder): item.crc32c for item in storage.list_objects(session, folder)}
    except RunnerError:
        return None
    return next(({"file": name, "crc32c": there[name]} for name in _TEMPLATES if name in there), None)


def _unusable(message: str) -> ConfigurationError:
    return ConfigurationError(message, hint="to use the specification of the job itself, run `runner jobs clone JOB`")
