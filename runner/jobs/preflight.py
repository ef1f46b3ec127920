"""Look for what would make a job fail after minutes in a queue: missing objects, grants, APIs, misplaced buckets."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Literal

from runner import environment as environments
from runner.errors import GoogleApiError, NotFoundError, PermissionDeniedError
from runner.gcp import buckets as bucket_api
from runner.gcp import projects, storage, tuning_jobs
from runner.gcp.buckets import BucketInfo
from runner.gcp.session import Session
from runner.gcp.storage import parse_gs_uri
from runner.jobs.specification import TuningJobSpec

SUFFICIENT_ROLES = ("roles/storage.objectUser", "roles/storage.objectAdmin", "roles/storage.admin")
"""The specification asks for the first; the others contain it."""
_MULTI_REGIONS = {"us": ("us-",), "eu": ("europe-",), "asia": ("asia-",)}


@dataclass(frozen=True, slots=True, kw_only=True)
class PreflightFinding:
    """Something that will or may make the job fail."""

    code: str
    """`problem`, `vertex_denied`, `object_missing`, `bucket_missing`, `denied`, `bucket_region`, `agent_without_role`,
    `agents_unknown`."""
    severity: Literal["error", "warning"]
    message: str
    fix: str = ""

    def to_json(self) -> dict[str, str]:
        """Return the stable JSON form."""
        body = {"code": self.code, "severity": self.severity, "message": self.message, "fix": self.fix}
        return {key: value for key, value in body.items() if value}


def preflight(session: Session, spec: TuningJobSpec) -> list[PreflightFinding]:
    """Return what is in a job's way, [] if nothing is found. Changes nothing.

    Raises:
        UnreachableError: the services cannot be reached.
    """
    problems = spec.validate(session.environment)
    if problems:
        return [PreflightFinding(code="problem", severity="error", message=problem) for problem in problems]
    return [*_vertex(session), *_objects(session, spec), *preflight_buckets(session, _buckets(session, spec))]


def preflight_many(session: Session, specs: Iterable[TuningJobSpec]) -> list[PreflightFinding]:
    """Return what is in the way of many jobs, whose datasets are known to be there; each bucket is asked for once.

    Raises:
        UnreachableError: the services cannot be reached.
    """
    every = list(specs)
    names = dict.fromkeys(name for spec in every for name in _buckets(session, spec))
    folders = dict.fromkeys(spec.custom_base_model for spec in every if spec.custom_base_model)
    findings = [finding for folder in folders for finding in _weights(session, folder)]
    return findings + preflight_buckets(session, list(names))


def preflight_buckets(session: Session, names: list[str]) -> list[PreflightFinding]:
    """Return what is wrong with the places and grants of buckets."""
    findings: list[PreflightFinding] = []
    buckets: list[BucketInfo] = []
    for name in names:
        try:
            buckets.append(bucket_api.bucket_info(session, name))
        except NotFoundError:
            findings.append(_error("bucket_missing", f"bucket {name} does not exist"))
        except GoogleApiError as error:
            # Without storage.buckets.get neither place nor grants can be seen; the job may be fine.
            findings.append(PreflightFinding(code="denied", severity="warning", message=error.message))
    findings += _regions(session, buckets)
    findings += _agents(session, buckets)
    return findings


def _vertex(session: Session) -> Iterator[PreflightFinding]:
    try:
        tuning_jobs.list_jobs(session, limit=1)
    except PermissionDeniedError as error:
        yield _error("vertex_denied", error.message, error.hint or "")
    except NotFoundError as error:
        yield _error("vertex_denied", error.message, error.hint or "")


def _objects(session: Session, spec: TuningJobSpec) -> Iterator[PreflightFinding]:
    for what, uri in (("training", spec.training_dataset), ("validation", spec.validation_dataset)):
        if uri is None:
            continue
        try:
            info = storage.stat(session, uri)
        except GoogleApiError as error:
            yield _error("denied", error.message, error.hint or "")
            continue
        if info is None:
            yield _error("object_missing", f"the {what} dataset {uri} does not exist", "`runner data upload`")
        elif info.size == 0:
            yield _error("object_missing", f"the {what} dataset {uri} is empty")
    if spec.custom_base_model:
        yield from _weights(session, spec.custom_base_model)


def _weights(session: Session, folder: str) -> Iterator[PreflightFinding]:
    try:
        objects = storage.list_objects(session, folder.rstrip("/") + "/")
    except GoogleApiError as error:
        yield _error("denied", error.message, error.hint or "")
        return
    if not any(item.uri.endswith(".safetensors") for item in objects):
        yield _error(
            "object_missing",
            f"no .safetensors weights are in {folder}",
            "name the folder itself, such as OUTPUT/postprocess/node-0/checkpoints/final",
        )


def _buckets(session: Session, spec: TuningJobSpec) -> list[str]:
    uris = [spec.training_dataset, spec.validation_dataset, spec.custom_base_model, spec.output_uri]
    names = [parse_gs_uri(uri)[0] for uri in uris if uri]
    if spec.output_uri is None:
        names.append(session.environment.outputs_bucket)
    if session.environment.images_bucket:
        names.append(session.environment.images_bucket)
    return list(dict.fromkeys(names))


def _regions(session: Session, buckets: list[BucketInfo]) -> Iterator[PreflightFinding]:
    location = session.environment.location
    for bucket in buckets:
        if location == "global":
            if bucket.location_type == "region":
                yield PreflightFinding(
                    code="bucket_region",
                    severity="warning",
                    message=f"bucket {bucket.name} is in {bucket.location}; for jobs in global take a multi-region",
                )
        elif bucket.location != location and not location.startswith(_MULTI_REGIONS.get(bucket.location, ("\0",))):
            yield _error(
                "bucket_region",
                f"bucket {bucket.name} is in {bucket.location}, the job runs in {location}",
                f"use a bucket in {location}",
            )


def _agents(session: Session, buckets: list[BucketInfo]) -> Iterator[PreflightFinding]:
    agents = session.environment.service_agents
    number = next((bucket.project_number for bucket in buckets if bucket.project_number), "")
    if not agents and number:
        agents = environments.service_agents_of(number)
    if not agents:
        yield PreflightFinding(
            code="agents_unknown",
            severity="warning",
            message="the project's number is unknown, so the grants of its service agents were not checked",
            fix="give --environment or RUNNER_PROJECT_NUMBER",
        )
        return
    try:
        everywhere = _holders(projects.project_policy(session))
        certain = True
    except GoogleApiError:
        everywhere, certain = set(), False
    for bucket in buckets:
        try:
            holders = everywhere | _holders(bucket_api.bucket_policy(session, bucket.name))
        except GoogleApiError as error:
            yield PreflightFinding(code="denied", severity="warning", message=error.message)
            continue
        for email in agents.values():
            if f"serviceAccount:{email}" not in holders:
                yield PreflightFinding(
                    code="agent_without_role",
                    severity="error" if certain else "warning",
                    message=f"{email} has no {SUFFICIENT_ROLES[0]} on bucket {bucket.name}",
                    fix=f"`gcloud storage buckets add-iam-policy-binding gs://{bucket.name} "
                    f"--member=serviceAccount:{email} --role={SUFFICIENT_ROLES[0]}`, or `pulumi up`",
                )


def _holders(policy: dict[str, set[str]]) -> set[str]:
    return set().union(*(policy.get(role, set()) for role in SUFFICIENT_ROLES))


def _error(code: str, message: str, fix: str = "") -> PreflightFinding:
    return PreflightFinding(code=code, severity="error", message=message, fix=fix)
