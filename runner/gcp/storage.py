"""The contents of Cloud Storage: metadata and lists of objects and buckets; addresses and checksums.

`uploads.py` and `downloads.py` transfer the data. Every transfer is verified with CRC32C, the only checksum that every
object has; composed objects have no MD5.
"""

from __future__ import annotations

import base64
import hashlib
import itertools
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

from runner.errors import ConfigurationError, NotFoundError
from runner.gcp.failures import data_loss, document_of
from runner.gcp.session import Session

STAGED = {"managed-by": "open-model-tuning-runner", "runner-purpose": "staging"}
"""Metadata of files that were uploaded for a job."""
FIELDS = "bucket,name,size,crc32c,generation,contentType,storageClass,timeCreated,updated,metadata"
"""Fields of an object's JSON resource that `info_of` reads."""
READ_CHUNK_BYTES = 1024 * 1024
LISTED_FROM = 4
"""Number of objects in one folder from which they are listed together instead of requested individually."""
_THREADS = 8
_URI = re.compile(r"gs://([a-z0-9][a-z0-9._-]{1,220}[a-z0-9])(?:/(.*))?", re.DOTALL)


@dataclass(frozen=True, slots=True, kw_only=True)
class ObjectInfo:
    """The current version of one object."""

    uri: str
    size: int
    """Size in bytes."""
    crc32c: str
    """Base64 of the big-endian CRC32C, as in the API; "" in a list for an object with a customer-managed key."""
    generation: int
    content_type: str = ""
    storage_class: str = ""
    """`STANDARD`, `NEARLINE`, …"""
    created: str = ""
    """Creation time of this version, RFC 3339."""
    updated: str = ""
    """Last change of this version or its metadata, RFC 3339."""
    metadata: dict[str, str] = field(default_factory=dict, compare=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class BucketInfo:
    """A bucket."""

    name: str
    location: str
    """Lowercase: `us-central1`, or a multi-region such as `us`."""
    location_type: str
    """`region`, `dual-region` or `multi-region`."""
    project_number: str


def parse_gs_uri(uri: str) -> tuple[str, str]:
    """Return the bucket and object name of a `gs://` address; the name is "" for a bucket.

    Object names are opaque: `..`, `#` and `?` are ordinary characters.

    Raises:
        ConfigurationError: it is not such an address, or the name has a line break or more than 1024 bytes.
    """
    match = _URI.fullmatch(uri)
    name = (match[2] or "") if match else ""
    problem = ""
    if match is None:
        problem = "is not gs://BUCKET/NAME"
    elif "\n" in name or "\r" in name or "\0" in name:
        problem = "has a line break or NUL in its name"
    elif len(name.encode("utf-8", "surrogatepass")) > 1024:
        problem = "has a name of more than 1024 bytes"
    if problem or match is None:
        raise ConfigurationError(f"{uri!r} {problem}")
    return match[1], name


def crc32c_of(path: Path) -> str:
    """Return the CRC32C of a file, as the API writes it."""
    return digests_of(path)[1]


def digests_of(path: Path) -> tuple[str, str]:
    """Return the SHA-256 of a file in hexadecimal and its CRC32C, as in the API, from one read. Raises OSError.

    If the name of an object depends on its content, pass the checksum to the upload, so that a file that changes in
    between is an error.
    """
    import google_crc32c

    sha256, crc32c = hashlib.sha256(), google_crc32c.Checksum()
    with path.open("rb") as stream:
        while chunk := stream.read(READ_CHUNK_BYTES):
            sha256.update(chunk)
            crc32c.update(chunk)
    return sha256.hexdigest(), base64.b64encode(crc32c.digest()).decode()


def crc32c_of_bytes(content: bytes) -> str:
    """Return a CRC32C, as the API writes it."""
    import google_crc32c

    return base64.b64encode(google_crc32c.value(content).to_bytes(4, "big")).decode()


def parse_object_uri(uri: str) -> tuple[str, str]:
    """Return the bucket and name of an object's address. Raises ConfigurationError, also for a bucket's address."""
    bucket, name = parse_gs_uri(uri)
    if not name:
        raise ConfigurationError(f"{uri!r} names a bucket, not an object")
    return bucket, name


def object_url(session: Session, uri: str, *, download: bool = False) -> str:
    """Return the address of an object in the JSON API. Raises ConfigurationError."""
    bucket, name = parse_object_uri(uri)
    service = "/download" if download else ""
    return f"{session.environment.storage_base}{service}/storage/v1/b/{bucket}/o/{quote(name, safe='')}"


def info_of(body: dict[str, Any], uri: str, *, method: str, listed: bool = False) -> ObjectInfo:
    """Return an object's JSON resource as `ObjectInfo`.

    Args:
        body: as sent by the service.
        uri: address of the object; for a list, the prefix of the addresses.
        method: for messages.
        listed: whether it is an entry of a list, which may lack the checksum.

    Raises:
        GoogleApiError: it does not describe an object, or describes another one.
    """
    try:
        named = f"gs://{body['bucket']}/{body['name']}"
        info = ObjectInfo(
            uri=named,
            size=int(body["size"]),
            crc32c=str(body.get("crc32c", "") if listed else body["crc32c"]),
            generation=int(body["generation"]),
            content_type=str(body.get("contentType", "")),
            storage_class=str(body.get("storageClass", "")),
            created=str(body.get("timeCreated", "")),
            updated=str(body.get("updated", "")),
            metadata=dict(body.get("metadata") or {}),
        )
    except (KeyError, TypeError, ValueError):
        raise data_loss(uri, "the answer does not say size, checksum and generation", method=method) from None
    if info.size < 0 or not (named.startswith(uri) if listed else named == uri):
        raise data_loss(uri, f"the answer is about {named}", method=method)
    return info


def stat(session: Session, uri: str) -> ObjectInfo | None:
    """Return the current object at `uri`; None if it does not exist."""
    method = "storage.objects.get"
    response = session.send("GET", object_url(session, uri), method, uri, params={"fields": FIELDS}, expected=(404,))
    if response.status_code == 404:
        return None
    return info_of(document_of(response, method, uri), uri, method=method)


def existing(session: Session, uri: str) -> ObjectInfo:
    """Return the current object at `uri`. Raises NotFoundError."""
    info = stat(session, uri)
    if info is None:
        raise NotFoundError(
            f"storage.objects.get {uri}: there is no such object",
            method="storage.objects.get",
            resource=uri,
            hint="check the bucket and the whole name; a folder is not an object",
        )
    return info


def exists(session: Session, uri: str) -> bool:
    """Return whether an object with this name exists. Raises PermissionDeniedError if this is unknown."""
    return stat(session, uri) is not None


def each_object(
    session: Session, prefix_uri: str, *, page_size: int = 1000, delimiter: str = "", **answered: Any
) -> Iterator[ObjectInfo]:
    """Yield the objects whose name starts with that of `prefix_uri`, ordered by name; pages are requested when needed.

    Args:
        session: the connection.
        prefix_uri: a bucket, or the beginning of an object's address.
        page_size: requested page size; 1000 at most.
        delimiter: "/" omits objects in subfolders.
        answered: see `Session.pages`.

    Raises:
        NotFoundError: the bucket does not exist.
    """
    bucket, prefix = parse_gs_uri(prefix_uri)
    method, fields = "storage.objects.list", f"kind,nextPageToken,items({FIELDS})"
    params = {"prefix": prefix, "delimiter": delimiter, "maxResults": str(page_size), "fields": fields}
    url = f"{session.environment.storage_base}/storage/v1/b/{bucket}/o"
    for item in session.pages(url, "items", method, params, resource=prefix_uri, kind="storage#objects", **answered):
        yield info_of(item, f"gs://{bucket}/{prefix}", method=method, listed=True)


def list_objects(session: Session, prefix_uri: str, *, limit: int | None = None) -> list[ObjectInfo]:
    """Return the objects of `each_object`, or the first `limit` of them. Raises NotFoundError."""
    found = each_object(session, prefix_uri, page_size=min(limit or 1000, 1000))
    return list(itertools.islice(found, limit))


def object_versions(session: Session, uris: Iterable[str]) -> dict[str, ObjectInfo | None]:
    """Return the object at each address, with few requests; None if it does not exist.

    Raises:
        ConfigurationError: an address is invalid.
        PermissionDeniedError: an object may not be read.
    """
    folders: dict[str, list[str]] = {}
    for uri in dict.fromkeys(uris):
        parse_gs_uri(uri)
        folders.setdefault(uri.rpartition("/")[0] + "/", []).append(uri)

    def look(folder: str) -> dict[str, ObjectInfo | None]:
        wanted = folders[folder]
        if len(wanted) < LISTED_FROM:
            return {uri: stat(session, uri) for uri in wanted}
        try:
            listed = {item.uri: item for item in each_object(session, folder, delimiter="/")}
        except NotFoundError:
            listed = {}  # the bucket does not exist, so none of them does
        return {uri: listed.get(uri) for uri in wanted}

    from concurrent.futures import ThreadPoolExecutor  # imported here, so that read-only commands start fast

    with ThreadPoolExecutor(_THREADS) as pool:
        return {uri: info for part in pool.map(look, folders) for uri, info in part.items()}


def bucket_info(session: Session, bucket: str) -> BucketInfo:
    """Return a bucket's region and project. Raises NotFoundError."""
    url = f"{session.environment.storage_base}/storage/v1/b/{bucket}"
    found = session.ask("GET", url, "storage.buckets.get", f"gs://{bucket}", params={"projection": "noAcl"})
    return BucketInfo(
        name=bucket,
        location=str(found.get("location") or "").lower(),
        location_type=str(found.get("locationType") or "region"),
        project_number=str(found.get("projectNumber") or ""),
    )


def bucket_policy(session: Session, bucket: str) -> dict[str, set[str]]:
    """Return the members of each role in a bucket's own policy, without the project's; see `unconditional`."""
    url = f"{session.environment.storage_base}/storage/v1/b/{bucket}/iam"
    params = {"optionsRequestedPolicyVersion": "3"}
    return unconditional(session.ask("GET", url, "storage.buckets.getIamPolicy", f"gs://{bucket}", params=params))


def unconditional(policy: dict[str, Any]) -> dict[str, set[str]]:
    """Return the members of each role of a policy.

    Conditional bindings are omitted, because it is unknown whether they apply.
    """
    roles: dict[str, set[str]] = {}
    for binding in policy.get("bindings") or []:
        if not binding.get("condition"):
            roles.setdefault(str(binding.get("role", "")), set()).update(binding.get("members") or [])
    return roles
