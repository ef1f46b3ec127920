"""Creates what the first `up` needs: base APIs, a bucket for the state, a key for secrets, and a stack file."""

from __future__ import annotations

import os
import shlex
from argparse import Namespace
from pathlib import Path
from typing import Any

import httpx

from infra import stack_files
from infra.addresses import GOOGLE, emulator_endpoints
from infra.automation.google import google_token
from infra.embedded.activation import enabled_apis
from infra.embedded.resource_type import Context, differences
from infra.embedded.rest import PLACEHOLDER_TOKEN, RequestError, Rest
from infra.embedded.storage import BucketType
from infra.settings.examples import refuse_examples
from infra.settings.reader import NAMESPACE
from infra.settings.stack import DEFAULT_REGION, Settings
from runner.errors import ConfigurationError, RunnerError
from runner.infrastructure import stack_file

BASE_APIS = (
    "cloudkms.googleapis.com",
    "cloudresourcemanager.googleapis.com",
    "iam.googleapis.com",
    "serviceusage.googleapis.com",
    "storage.googleapis.com",
)
"""APIs that the program's own requests need before it can enable the others."""
RING, KEY = "pulumi", "state"
SOFT_DELETE_SECONDS = 30 * 86_400
_KEPT = ("iamConfiguration", "versioning", "softDeletePolicy")
"""Settings that an existing bucket is changed to; its location cannot change."""


class ForeignBucketError(RunnerError):
    """Another project owns a bucket with the name of the state bucket."""

    code = "infrastructure"
    usual_hint = "choose another name for the bucket"


def bootstrap(options: Namespace, directory: Path) -> dict[str, Any]:
    """Create what is missing. Return what was created and what existed. Running it again changes nothing.

    Raises:
        ConfigurationError: no project is named, a name is malformed, or the stack has an example's values.
        RunnerError: Google or the emulator refused.
    """
    file = stack_file(options.stack, directory)
    project, region = place(options, file)
    bucket = f"{project}-pulumi-state"
    ring = f"projects/{project}/locations/{region}/keyRings"
    key = f"{ring}/{RING}/cryptoKeys/{KEY}"
    body = {"project": project, "location": region, "stateBucket": bucket, "stateKey": key, "stack": options.stack}
    then = _next(options, bucket, key)
    if options.dry_run:
        lines = _commands(project, region, bucket)
        return {**body, "commands": lines, "next": then, "text": "\n".join([*lines, *then])}
    if not options.emulator:
        _refuse_examples(options.stack, file, project)
    rest = _rest(options, project)
    made: list[str] = []
    try:
        _enable(rest, project, made)
        _make_bucket(rest, project, region, bucket, made)
        _make(rest, "kms", ring, {"keyRingId": RING}, {}, f"key ring {RING}", made)
        purpose = {"purpose": "ENCRYPT_DECRYPT"}
        _make(rest, "kms", f"{ring}/{RING}/cryptoKeys", {"cryptoKeyId": KEY}, purpose, f"key {KEY}", made)
    finally:
        rest.close()
    existed = file.exists()
    if _settle(file, project, region, bucket, key, kind=None if existed else stack_files.kind_of(options.stack)):
        made.append(f"file {file.name}: project, region, state" if existed else f"file {file.name}")
    lines = [f"+ {name}" for name in made] or ["everything was there already"]
    return {
        **body,
        "created": made,
        "next": then,
        "text": "\n".join([*lines, "next:", *(f"  {line}" for line in then)]),
    }


def place(options: Namespace, file: Path) -> tuple[str, str]:
    """Return the project and region from the command line, or else from the stack. Raises ConfigurationError."""
    values: dict[str, str] = {}
    if file.exists():
        values = stack_files.configuration(options.stack, file.parent)
    project = options.project or values.get("gcp:project", "")
    region = options.location or values.get("gcp:region", DEFAULT_REGION)
    if not project:
        raise ConfigurationError(f"no project is named and there is no {file.name}", hint="name it with --project")
    Settings.load({"gcp:project": project, "gcp:region": region})
    return project, region


def _settle(file: Path, project: str, region: str, bucket: str, key: str, *, kind: str | None) -> bool:
    """Write what was created into the stack's file, and keep the rest of it. Return whether the file changed.

    A new file is minimal: every other setting has a default. The first `up` uses the key.
    """
    place = dict(zip(_SETTLED, (project, region), strict=False))
    state = dict(zip(_SETTLED[2:], (bucket, key), strict=True))
    named = {f"{NAMESPACE}:environment": kind} if kind else {}
    return stack_files.write(file, {**place, **named}, present=state, key=key)


_SETTLED = ("gcp:project", "gcp:region", f"{NAMESPACE}:stateBucket", f"{NAMESPACE}:stateKey")
"""Settings that are applied to what this module creates."""


def _refuse_examples(stack: str, file: Path, project: str) -> None:
    """Raise ConfigurationError if an example value would remain in the stack, before anything is created."""
    values = stack_files.configuration(stack, file.parent) if file.exists() else {}
    kept = {key: value for key, value in values.items() if key not in _SETTLED}
    refuse_examples({"gcp:project": project, **kept}, stack=stack)


def _rest(options: Namespace, project: str) -> Rest:
    if options.emulator:
        token = os.environ.get("RUNNER_EMULATOR_TOKEN") or PLACEHOLDER_TOKEN
        return Rest(emulator_endpoints(options.emulator), token=token)
    return Rest(GOOGLE, token=google_token(project))


def _enable(rest: Rest, project: str, made: list[str]) -> None:
    enabled = enabled_apis(rest, project)
    missing = [api for api in BASE_APIS if api not in enabled]
    if missing:
        path = f"projects/{project}/services:batchEnable"
        rest.wait("serviceusage", rest.call("serviceusage", "POST", path, {"serviceIds": missing}))
        made += [f"API {api}" for api in missing]


def _make(
    rest: Rest, service: str, path: str, params: dict[str, str], body: dict[str, Any], name: str, made: list[str]
) -> None:
    """Create something, unless it exists."""
    try:
        rest.call(service, "POST", path, body, params=params)
        made.append(name)
    except RequestError as error:
        if error.http != httpx.codes.CONFLICT:
            raise


def _make_bucket(rest: Rest, project: str, region: str, name: str, made: list[str]) -> None:
    """Create the state bucket, or change an existing one to the same settings."""
    context, kind = Context(rest, project, region, {}), BucketType()
    inputs = {
        "name": name,
        "location": region,
        "project": project,
        "publicAccessPrevention": "enforced",
        "uniformBucketLevelAccess": True,
        "versioning": {"enabled": True},
        "softDeletePolicy": {"retentionDurationSeconds": SOFT_DELETE_SECONDS},
    }
    try:
        kind.make(context, inputs)
        made.append(f"bucket {name}")
        return
    except RequestError as error:
        if error.http != httpx.codes.CONFLICT:
            raise
    there = kind.find(context, inputs)
    if there is None:
        # Bucket names are unique worldwide: the owner of this bucket could read the state.
        raise ForeignBucketError(
            f"bucket {name} is there already, and is not of project {project}",
            hint="create a bucket with another name, and set PULUMI_BACKEND_URL to it",
        )
    body = kind.body(inputs)
    changes = differences({key: body[key] for key in _KEPT}, there.body)
    if changes:
        kind.update(context, there, inputs, changes)
        made.append(f"bucket {name}: {', '.join(changes)}")


def _commands(project: str, region: str, bucket: str) -> list[str]:
    at = f"--project={project}"
    place = f"--location={region}"
    return [
        f"gcloud services enable {' '.join(BASE_APIS)} {at}",
        f"gcloud storage buckets create gs://{bucket} {at} {place} --uniform-bucket-level-access "
        "--public-access-prevention --soft-delete-duration=30d",
        f"gcloud storage buckets update gs://{bucket} --versioning",
        f"gcloud kms keyrings create {RING} {place} {at}",
        f"gcloud kms keys create {KEY} --keyring={RING} {place} --purpose=encryption {at}",
    ]


def _next(options: Namespace, bucket: str, key: str) -> list[str]:
    stack = shlex.quote(options.stack)
    folder = shlex.quote(str(options.directory)) if options.directory else ""
    return [
        f"export PULUMI_BACKEND_URL=gs://{bucket}",
        f"pulumi stack init {stack} --secrets-provider={shlex.quote(f'gcpkms://{key}')}"
        + (f" --cwd {folder}" if folder else ""),
        f"runner infra preview --stack {stack}" + (f" --directory {folder}" if folder else ""),
    ]
