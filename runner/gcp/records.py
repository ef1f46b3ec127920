"""Small documents in a bucket that several writers can change without losing changes.

A record is one object. Its body is JSON for people; its custom metadata, which a list returns, contains the same JSON.
Therefore, one list request per thousand records reads all of them. A write names the generation that it has read, and
fails if another writer was faster.
"""

from __future__ import annotations

import datetime
import json
from dataclasses import dataclass
from typing import Any

from runner.errors import AlreadyExistsError, GoogleApiError, NotFoundError
from runner.gcp import storage, uploads
from runner.gcp.downloads import stream_of
from runner.gcp.failures import LISTED, data_loss
from runner.gcp.session import Session
from runner.gcp.storage import ObjectInfo
from runner.json_text import parsed

_KEY = "record"
_METHOD = "storage.objects.get"
_METADATA_BYTES = 7000
"""Cloud Storage allows 8 KiB of custom metadata in total; a larger record is read with its own request."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredRecord:
    """A record that was read or written."""

    name: str
    """Name of the object."""
    generation: int
    """0 for a record that does not exist yet."""
    updated: datetime.datetime
    """Time of the last write, by the service's clock."""
    body: dict[str, Any]


def list_records(session: Session, bucket: str, prefix: str) -> tuple[list[StoredRecord], datetime.datetime]:
    """Return the records whose names start with `prefix`, and the service's time of the response.

    Raises:
        NotFoundError: the bucket does not exist.
    """
    found = list(storage.each_object(session, f"gs://{bucket}/{prefix}"))
    now = datetime.datetime.fromtimestamp(session.now(), datetime.UTC)
    return [record_of(session, item) for item in found], now


def read_record(session: Session, bucket: str, name: str) -> StoredRecord | None:
    """Return a record; None if it does not exist. Raises PermissionDeniedError."""
    found = storage.stat(session, f"gs://{bucket}/{name}")
    return None if found is None else record_of(session, found)


def write_record(
    session: Session, bucket: str, name: str, body: dict[str, Any], *, generation: int
) -> StoredRecord | None:
    """Write a record unless another writer changed it since `generation` was read; return None if one did.

    A write whose response was lost is repeated, and recognizes its own result by the body. Therefore, bodies of
    concurrent writers must differ, for example by the writer's name.

    Args:
        session: the connection.
        bucket: name of the bucket.
        name: name of the object.
        body: JSON values.
        generation: the generation that was read; 0 for a record that did not exist.

    Raises:
        GoogleApiError, UnreachableError: it is unknown whether it was written.
    """
    compact = json.dumps(body, separators=(",", ":"), sort_keys=True)
    metadata = {_KEY: compact} if len(compact) <= _METADATA_BYTES else {}
    resource = {"contentType": "application/json", "metadata": metadata}
    content = json.dumps(body, indent=2, sort_keys=True).encode() + b"\n"
    try:
        stored = uploads.insert(session, f"gs://{bucket}/{name}", resource, content, generation)
    except AlreadyExistsError:
        now = read_record(session, bucket, name)
        same = now is not None and json.dumps(now.body, separators=(",", ":"), sort_keys=True) == compact
        return now if same else None
    return record_of(session, stored, body)


def delete_record(session: Session, bucket: str, name: str, *, generation: int) -> bool:
    """Delete an object unless it changed since; return whether it no longer exists.

    Raises:
        GoogleApiError: the service refuses, or reports that the object does not exist but lists it.
    """
    uri = f"gs://{bucket}/{name}"
    try:
        uploads.delete(session, uri, generation)
    except AlreadyExistsError:
        return False
    except NotFoundError as error:
        listed = _listed(session, uri)
        if listed is not None and listed.generation == generation:
            raise data_loss(uri, LISTED, method=error.method) from error
        return listed is None
    return True


def _listed(session: Session, uri: str) -> ObjectInfo | None:
    try:
        first = storage.list_objects(session, uri, limit=1)  # it is the first of all names with this prefix
    except NotFoundError:
        return None  # the bucket does not exist
    return first[0] if first and first[0].uri == uri else None


def record_of(session: Session, item: ObjectInfo, body: dict[str, Any] | None = None) -> StoredRecord:
    """Return the record in an object, whose body may be known. Raises GoogleApiError if it is not a record."""
    if body is None:
        text: str | bytes | None = item.metadata.get(_KEY)
        if text is None:
            # Lists contain no checksums for objects with customer-managed keys.
            with stream_of(session, item if item.crc32c else storage.existing(session, item.uri)) as stream:
                text = stream.read()
        body = _parsed(text, item.uri)
    return StoredRecord(
        name=storage.parse_gs_uri(item.uri)[1],
        generation=item.generation,
        updated=_updated(item),
        body=body,
    )


def _parsed(text: str | bytes, uri: str) -> dict[str, Any]:
    try:
        body = parsed(text)
    except ValueError:
        body = None
    if not isinstance(body, dict):
        raise GoogleApiError(
            f"{uri} is not a record of this tool",
            status="DATA_LOSS",
            http=500,
            method=_METHOD,
            resource=uri,
            hint="run `runner repair` to move it aside; `gcloud storage ls --all-versions` lists older versions",
        )
    return body


def _updated(item: ObjectInfo) -> datetime.datetime:
    try:
        return datetime.datetime.fromisoformat(item.updated)
    except ValueError:
        raise data_loss(item.uri, "the answer does not say when it was written", method=_METHOD) from None
