"""Objects with what tells who made them and what they cost; plain REST, a request a page."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from runner.gcp.failures import call, check
from runner.gcp.session import Session
from runner.gcp.storage import parse_gs_uri
from runner.gcp.versions import storage_base

_FIELDS = "name,size,generation,storageClass,timeCreated,metadata"


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredObject:
    """One object in its present version."""

    uri: str
    size: int
    """Bytes."""
    generation: int
    storage_class: str
    """`STANDARD`, `NEARLINE`, …"""
    created: str
    """When this version was written, RFC 3339."""
    metadata: dict[str, str] = field(default_factory=dict)


def stored_objects(session: Session, prefix_uri: str) -> Iterator[StoredObject]:
    """Yield the objects whose name starts with that of `prefix_uri`. Raises NotFoundError, PermissionDeniedError."""
    bucket, prefix = parse_gs_uri(prefix_uri)
    token = ""
    while True:
        parameters = {"prefix": prefix, "maxResults": "1000", "fields": f"nextPageToken,items({_FIELDS})"}
        parameters |= {"pageToken": token} if token else {}

        def read(parameters: dict[str, str] = parameters) -> dict[str, Any]:
            response = session.http.get(f"{storage_base(session)}/storage/v1/b/{bucket}/o", params=parameters)
            return check(response, "storage.objects.list", prefix_uri)

        page = call("storage.objects.list", prefix_uri, read, idempotent=True)
        for item in page.get("items", []):
            yield StoredObject(
                uri=f"gs://{bucket}/{item.get('name', '')}",
                size=int(item.get("size", 0)),
                generation=int(item.get("generation", 0)),
                storage_class=str(item.get("storageClass", "")),
                created=str(item.get("timeCreated", "")),
                metadata=dict(item.get("metadata") or {}),
            )
        token = str(page.get("nextPageToken", ""))
        if not token:
            return
