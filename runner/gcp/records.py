"""Small documents in a bucket that several writers change without losing each other's changes.

A record is one object: its body is JSON for people, and the same JSON stands in its custom metadata, which a list
returns. So one list call (a page for every thousand) reads all records. A write names the generation that it read; if
another writer came first, it fails.
"""

from __future__ import annotations

import datetime
import email.utils
import json
import uuid
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from runner.errors import AlreadyExistsError, GoogleApiError, NotFoundError
from runner.gcp.failures import call, check
from runner.gcp.session import Session

_STORAGE = "https://storage.googleapis.com"
_KEY = "record"
_METADATA_BYTES = 7000
"""Cloud Storage allows 8 KiB of custom metadata in all; a larger record is read by a request of its own."""
_FIELDS = "name,generation,updated,metadata"


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredRecord:
    """A record as it was read or written."""

    name: str
    """Of the object."""
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
    items: list[dict[str, Any]] = []
    token = ""
    while True:
        parameters = {"prefix": prefix, "maxResults": "1000", "fields": f"nextPageToken,items({_FIELDS})"}
        if token:
            parameters["pageToken"] = token

        def read(parameters: dict[str, str] = parameters) -> tuple[dict[str, Any], datetime.datetime]:
            response = session.http.get(f"{_base(session)}/storage/v1/b/{bucket}/o", params=parameters)
            return check(response, "storage.objects.list", f"gs://{bucket}/{prefix}"), _date(response.headers)

        page, now = call("storage.objects.list", f"gs://{bucket}/{prefix}", read, idempotent=True)
        items += page.get("items", [])
        token = str(page.get("nextPageToken", ""))
        if not token:
            return [_record(session, bucket, item) for item in items], now


def read_record(session: Session, bucket: str, name: str) -> StoredRecord | None:
    """Return a record, None if there is none. Raises PermissionDeniedError."""
    resource = f"gs://{bucket}/{name}"

    def read() -> dict[str, Any]:
        response = session.http.get(_address(session, bucket, name), params={"fields": _FIELDS})
        return check(response, "storage.objects.get", resource)

    try:
        return _record(session, bucket, call("storage.objects.get", resource, read, idempotent=True))
    except NotFoundError:
        return None


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
    resource = f"gs://{bucket}/{name}"
    compact = json.dumps(body, separators=(",", ":"), sort_keys=True)
    metadata = {_KEY: compact} if len(compact) <= _METADATA_BYTES else {}
    head = {"name": name, "contentType": "application/json", "metadata": metadata}
    content, kind = _multipart(head, json.dumps(body, indent=2, sort_keys=True).encode() + b"\n")

    def send() -> dict[str, Any]:
        response = session.http.post(
            f"{_base(session)}/upload/storage/v1/b/{bucket}/o",
            params={"uploadType": "multipart", "ifGenerationMatch": str(generation), "fields": _FIELDS},
            content=content,
            headers={"content-type": kind},
        )
        return check(response, "storage.objects.insert", resource)

    try:
        stored = call("storage.objects.insert", resource, send, idempotent=True)
    except AlreadyExistsError:
        now = read_record(session, bucket, name)
        same = now is not None and json.dumps(now.body, separators=(",", ":"), sort_keys=True) == compact
        return now if same else None
    return _record(session, bucket, stored, body)


def delete_record(session: Session, bucket: str, name: str, *, generation: int) -> bool:
    """Delete a record unless it changed since; tell whether it is gone."""
    resource = f"gs://{bucket}/{name}"

    def send() -> None:
        parameters = {"ifGenerationMatch": str(generation)}
        check(
            session.http.delete(_address(session, bucket, name), params=parameters), "storage.objects.delete", resource
        )

    try:
        call("storage.objects.delete", resource, send, idempotent=True)
    except AlreadyExistsError:
        return False
    except NotFoundError:
        return True
    return True


def _record(session: Session, bucket: str, item: dict[str, Any], body: dict[str, Any] | None = None) -> StoredRecord:
    name = str(item.get("name", ""))
    if body is None:
        text = (item.get("metadata") or {}).get(_KEY)
        body = _parsed(text, bucket, name) if text is not None else _content(session, bucket, name, item)
    return StoredRecord(
        name=name,
        generation=int(item.get("generation", 0)),
        updated=datetime.datetime.fromisoformat(str(item.get("updated", "1970-01-01T00:00:00Z"))),
        body=body,
    )


def _content(session: Session, bucket: str, name: str, item: dict[str, Any]) -> dict[str, Any]:
    resource = f"gs://{bucket}/{name}"

    def read() -> dict[str, Any]:
        parameters = {"alt": "media", "generation": str(item.get("generation", ""))}
        return check(
            session.http.get(_address(session, bucket, name), params=parameters), "storage.objects.get", resource
        )

    return call("storage.objects.get", resource, read, idempotent=True)


def _parsed(text: str, bucket: str, name: str) -> dict[str, Any]:
    try:
        body = json.loads(text)
    except (ValueError, RecursionError):
        body = None
    if not isinstance(body, dict):
        raise GoogleApiError(
            f"gs://{bucket}/{name} is not a record of this tool",
            status="DATA_LOSS",
            http=500,
            method="storage.objects.get",
            resource=f"gs://{bucket}/{name}",
            hint="an older version of the object may be sound: `gcloud storage ls --all-versions`",
        )
    return body


def _multipart(head: dict[str, Any], content: bytes) -> tuple[bytes, str]:
    boundary = f"record-{uuid.uuid4().hex}"
    parts = [
        f"--{boundary}\r\ncontent-type: application/json; charset=UTF-8\r\n\r\n".encode() + json.dumps(head).encode(),
        f"\r\n--{boundary}\r\ncontent-type: application/json\r\n\r\n".encode() + content,
        f"\r\n--{boundary}--\r\n".encode(),
    ]
    return b"".join(parts), f"multipart/related; boundary={boundary}"


def _base(session: Session) -> str:
    return session.environment.storage_url or _STORAGE


def _address(session: Session, bucket: str, name: str) -> str:
    return f"{_base(session)}/storage/v1/b/{bucket}/o/{quote(name, safe='')}"


def _date(headers: Any) -> datetime.datetime:
    """Return the time of an answer; this machine's where the service does not say."""
    try:
        return email.utils.parsedate_to_datetime(str(headers["date"])).astimezone(datetime.UTC)
    except (KeyError, ValueError, TypeError):
        return datetime.datetime.now(datetime.UTC)
