"""Which content many objects have now, in few requests."""

from __future__ import annotations

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import quote

from runner.errors import NotFoundError
from runner.gcp.failures import call, check
from runner.gcp.session import Session
from runner.gcp.storage import ObjectInfo, parse_gs_uri

_STORAGE = "https://storage.googleapis.com"
_FIELDS = "name,size,crc32c,generation,contentType"
LISTED_FROM = 4
"""So many objects of one folder are listed together instead of being asked for one by one."""
THREADS = 8


def object_versions(session: Session, uris: Iterable[str]) -> dict[str, ObjectInfo | None]:
    """Return what is stored under each address; None where nothing is.

    Raises:
        ConfigurationError: an address is malformed.
        PermissionDeniedError: an object may not be read.
    """
    folders: dict[tuple[str, str], list[str]] = {}
    for uri in dict.fromkeys(uris):
        bucket, name = parse_gs_uri(uri)
        folder, slash, _ = name.rpartition("/")
        folders.setdefault((bucket, folder + slash), []).append(uri)
    with ThreadPoolExecutor(THREADS) as pool:
        found = list(pool.map(lambda item: _folder(session, item[0][0], item[0][1], item[1]), folders.items()))
    return {uri: info for part in found for uri, info in part.items()}


def _folder(session: Session, bucket: str, folder: str, uris: list[str]) -> dict[str, ObjectInfo | None]:
    if len(uris) < LISTED_FROM:
        return {uri: _one(session, uri) for uri in uris}
    listed = _listed(session, bucket, folder)
    return {uri: listed.get(uri) for uri in uris}


def _one(session: Session, uri: str) -> ObjectInfo | None:
    bucket, name = parse_gs_uri(uri)

    def read() -> dict[str, Any]:
        address = f"{storage_base(session)}/storage/v1/b/{bucket}/o/{quote(name, safe='')}"
        return check(session.http.get(address, params={"fields": _FIELDS}), "storage.objects.get", uri)

    try:
        return _info(bucket, call("storage.objects.get", uri, read, idempotent=True))
    except NotFoundError:
        return None


def _listed(session: Session, bucket: str, folder: str) -> dict[str, ObjectInfo]:
    found: dict[str, ObjectInfo] = {}
    token = ""
    while True:
        parameters = {"prefix": folder, "delimiter": "/", "maxResults": "1000"}
        parameters |= {"fields": f"nextPageToken,items({_FIELDS})", **({"pageToken": token} if token else {})}

        def read(parameters: dict[str, str] = parameters) -> dict[str, Any]:
            response = session.http.get(f"{storage_base(session)}/storage/v1/b/{bucket}/o", params=parameters)
            return check(response, "storage.objects.list", f"gs://{bucket}/{folder}")

        try:
            page = call("storage.objects.list", f"gs://{bucket}/{folder}", read, idempotent=True)
        except NotFoundError:
            return found  # no such bucket: then none of them is there
        for item in page.get("items", []):
            info = _info(bucket, item)
            found[info.uri] = info
        token = str(page.get("nextPageToken", ""))
        if not token:
            return found


def _info(bucket: str, item: dict[str, Any]) -> ObjectInfo:
    return ObjectInfo(
        uri=f"gs://{bucket}/{item.get('name', '')}",
        size=int(item.get("size", 0)),
        crc32c=str(item.get("crc32c", "")),
        generation=int(item.get("generation", 0)),
        content_type=str(item.get("contentType", "")),
    )


def storage_base(session: Session) -> str:
    """Return the base address of Cloud Storage."""
    return session.environment.storage_url or _STORAGE
