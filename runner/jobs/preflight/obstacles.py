"""Find problems that would make a job fail after minutes in a queue. Reads only resources that the job uses."""

from __future__ import annotations

import itertools
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass

from runner.errors import ConfigurationError, GoogleApiError, NotFoundError, OutputTakenError, PermissionDeniedError
from runner.gcp import storage, tuning_jobs
from runner.gcp.session import Session
from runner.gcp.storage import BucketInfo, parse_gs_uri
from runner.jobs.outputs import ownership
from runner.jobs.outputs.ownership import Wanted
from runner.jobs.preflight import grants
from runner.jobs.preflight.findings import PreflightFinding, error, warning
from runner.jobs.preflight.weights import weights
from runner.jobs.specification import TuningJobSpec

_MULTI_REGIONS = {"us": ("us-",), "eu": ("europe-",), "asia": ("asia-",)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """A job to check."""

    spec: TuningJobSpec
    sound: Collection[str] = ()
    """Datasets that exist, or are uploaded before the job is created."""
    images: bool = False
    """Whether the data refers to images, so that the job reads the images bucket."""
    wanted: Wanted | None = None
    """The job's claim on its folder, if the specification names a folder."""


def preflight(session: Session, spec: TuningJobSpec, *, images: bool = False) -> list[PreflightFinding]:
    """Return the problems of a job; [] if there are none. Changes nothing.

    Raises:
        UnreachableError: the services cannot be reached.
    """
    return preflight_many(session, [Look(spec=spec, images=images)])


def preflight_many(session: Session, looks: Iterable[Look]) -> list[PreflightFinding]:
    """Return the problems of several jobs; each folder and bucket is read once.

    Raises:
        UnreachableError: the services cannot be reached.
    """
    every = list(looks)
    problems = dict.fromkeys(str(problem) for look in every for problem in look.spec.validate(session.environment))
    if problems or not every:
        return [error("problem", problem) for problem in problems]
    folders = dict.fromkeys(look.spec.custom_base_model for look in every if look.spec.custom_base_model)
    needs: dict[str, frozenset[str]] = {}
    for look in every:
        for name, permissions in _needs(session, look):
            needs[name] = needs.get(name, frozenset()) | permissions
    return [
        *_vertex(session),
        *(finding for look in every for finding in _objects(session, look)),
        *(finding for folder in folders for finding in weights(session, folder)),
        *(finding for look in every for finding in _output(session, look)),
        *_buckets(session, needs),
    ]


def require_none(findings: Iterable[PreflightFinding]) -> None:
    """Raise ConfigurationError with all problems that would make a job fail; warnings are ignored."""
    errors = [finding for finding in findings if finding.severity == "error"]
    if errors:
        kind = OutputTakenError if all(finding.code == "output_taken" for finding in errors) else ConfigurationError
        raise kind(
            "; ".join(finding.message for finding in errors),
            problems=[finding.message for finding in errors],
            hint="; ".join(dict.fromkeys(finding.fix for finding in errors if finding.fix)) or None,
        )


def _vertex(session: Session) -> Iterator[PreflightFinding]:
    try:
        tuning_jobs.list_jobs(session, limit=1)
    except (PermissionDeniedError, NotFoundError) as caught:
        yield error("vertex_denied", caught.message, caught.hint or "")


def _objects(session: Session, look: Look) -> Iterator[PreflightFinding]:
    for what, uri in (("training", look.spec.training_dataset), ("validation", look.spec.validation_dataset)):
        if uri is None or uri in look.sound:
            continue
        try:
            info = storage.stat(session, uri)
        except GoogleApiError as caught:
            yield error("denied", caught.message, caught.hint or "")
            continue
        if info is None:
            yield error("object_missing", f"the {what} dataset {uri} does not exist", "`runner data upload`")
        elif info.size == 0:
            yield error("object_missing", f"the {what} dataset {uri} is empty")


def _output(session: Session, look: Look) -> Iterator[PreflightFinding]:
    if look.wanted is None:
        return
    try:
        there, now = ownership.holder_of(session, look.wanted.output)
        ownership.require_free(session, look.wanted, there, now)
    except OutputTakenError as caught:
        yield error("output_taken", caught.message, caught.hint or "")
    except NotFoundError:
        pass  # reported for the bucket
    except GoogleApiError as caught:
        fix = "your account needs roles/storage.objectUser on the bucket: submitting writes into its output folder"
        yield error("denied", caught.message, fix if caught.hint == caught.usual_hint else caught.hint or fix)


def _needs(session: Session, look: Look) -> Iterator[tuple[str, frozenset[str]]]:
    """Yield each bucket that the job uses, and the permissions that the service's agents need on it."""
    spec, environment = look.spec, session.environment
    for uri in (spec.training_dataset, spec.validation_dataset, spec.custom_base_model):
        if uri:
            yield parse_gs_uri(uri)[0], grants.READ
    if look.images and environment.images_bucket:
        yield environment.images_bucket, grants.READ
    yield parse_gs_uri(spec.output_uri)[0] if spec.output_uri else environment.outputs_bucket, grants.WRITE


def _buckets(session: Session, needs: dict[str, frozenset[str]]) -> list[PreflightFinding]:
    findings: list[PreflightFinding] = []
    buckets: list[BucketInfo] = []
    for name in needs:
        try:
            buckets.append(storage.bucket_info(session, name))
        except NotFoundError:
            command = f"`gcloud storage buckets create gs://{name} --location={session.environment.location}`"
            findings.append(error("bucket_missing", f"bucket {name} does not exist", command))
        except GoogleApiError as caught:
            # Without storage.buckets.get, neither the region nor the grants can be read; the job may still succeed.
            findings.append(warning("denied", caught.message))
    return [*findings, *itertools.chain(_regions(session, buckets), grants.missing(session, buckets, needs))]


def _regions(session: Session, buckets: list[BucketInfo]) -> Iterator[PreflightFinding]:
    location = session.environment.location
    for bucket in buckets:
        if location == "global":
            if bucket.location_type == "region":
                message = f"bucket {bucket.name} is in {bucket.location}; for jobs in global take a multi-region"
                yield warning("bucket_region", message)
        elif bucket.location != location and not location.startswith(_MULTI_REGIONS.get(bucket.location, ("\0",))):
            yield error(
                "bucket_region",
                f"bucket {bucket.name} is in {bucket.location}, the job runs in {location}",
                f"use a bucket in {location}",
            )
