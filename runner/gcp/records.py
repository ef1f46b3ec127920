"""Small documents in a bucket that several writers change without losing each other's changes.

A record is one object: its body is JSON for people, and the same JSON stands in its custom metadata, which a list
returns. So one list call (a page for every thousand) reads all records. A write names the generation that it read; if
another writer came first, it fails.
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
"""Cloud Storage allows 8 KiB of custom metadata in all; a larger record is read by a request of its own."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredRecord:
    """A record as it was read or written."""

    name: str
    """Name of the object."""
    generation: int
    """0 for a record that does not exist yet."""
    updated: datetime.datetime
    """By the service's clock."""
    body: dict[str, Any]


def list_records(session: Session, bucket: str, prefix: str) -> tuple[list[StoredRecord], datetime.datetime]:
    """Return the records whose names start with `prefix`, and the service's time at the answer.

    Raises:
        NotFoundError: no such bucket.
    """
    found = list(storage.each_object(session, f"gs://{bucket}/{prefix}"))
    now = datetime.datetime.fromtimestamp(session.now(), datetime.UTC)
    return [record_of(session, item) for item in found], now


def read_record(session: Session, bucket: str, name: str) -> StoredRecord | None:
    """Return a record, None if there is none. Raises PermissionDeniedError."""
    found = storage.stat(session, f"gs://{bucket}/{name}")
    return None if found is None else record_of(session, found)


def write_record(
    session: Session, bucket: str, name: str, body: dict[str, Any], *, generation: int
) -> StoredRecord | None:
    """Write a record unless another writer changed it since `generation` was read; None if one did.

    A write whose answer was lost is repeated, and recognises its own result by the body; so bodies that race must
    differ, for example by their writer's name.

    Args:
        session: where.
        bucket: name of the bucket.
        name: of the object.
        body: JSON-ready.
        generation: what was read; 0 for a record that was not there.

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
    """Delete an object unless it changed since; tell whether it is gone.

    Raises:
        GoogleApiError: the service refuses, or says that it is not there and lists it all the same.
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
        first = storage.list_objects(session, uri, limit=1)  # of all names that begin so, it is the first
    except NotFoundError:
        return None  # no such bucket
    return first[0] if first and first[0].uri == uri else None


def record_of(session: Session, item: ObjectInfo, body: dict[str, Any] | None = None) -> StoredRecord:
    """Return the record that an object is, whose body may be known. Raises GoogleApiError: it is none."""
    if body is None:
        text: str | bytes | None = item.metadata.get(_KEY)
        if text is None:
            # Lists do not say the checksums of objects whose key the customer manages.
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
            hint="`runner repair` sets it aside; `gcloud storage ls --all-versions` lists its older versions",
        )
    return body


def _updated(item: ObjectInfo) -> datetime.datetime:
    try:
        return datetime.datetime.fromisoformat(item.updated)
    except ValueError:
        raise data_loss(item.uri, "the answer does not say when it was written", method=_METHOD) from None
