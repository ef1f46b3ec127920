"""What lies in Cloud Storage: objects and buckets, described and listed; addresses and checksums.

Their bytes go up in `uploads.py` and come down in `downloads.py`. Every transfer is checked by CRC32C, the only
checksum that every object has; MD5 is missing on composed ones.
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
"""So many objects of one folder are listed together instead of being asked for one by one."""
_THREADS = 8
_URI = re.compile(r"gs://([a-z0-9][a-z0-9._-]{1,220}[a-z0-9])(?:/(.*))?", re.DOTALL)


@dataclass(frozen=True, slots=True, kw_only=True)
class ObjectInfo:
    """One object as it is now."""

    uri: str
    size: int
    """Bytes."""
    crc32c: str
    """Base64 of the big-endian CRC32C, as the API writes it; "" in a list where the customer manages the key."""
    generation: int
    content_type: str = ""
    storage_class: str = ""
    """`STANDARD`, `NEARLINE`, …"""
    created: str = ""
    """When this version was written, RFC 3339."""
    updated: str = ""
    """When this version or its metadata was written, RFC 3339."""
    metadata: dict[str, str] = field(default_factory=dict, compare=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class BucketInfo:
    """A bucket."""

    name: str
    location: str
    """Lower case: `us-central1`, or a multi-region such as `us`."""
    location_type: str
    """`region`, `dual-region` or `multi-region`."""
    project_number: str


def parse_gs_uri(uri: str) -> tuple[str, str]:
    """Return bucket and object name of a `gs://` address; the name is "" for a bucket.

    Object names are opaque: `..`, `#` and `?` are ordinary characters of them.

    Raises:
        ConfigurationError: it is no such address, or the name has a line break or more than 1024 bytes.
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
    """Return the SHA-256 of a file in hexadecimal and its CRC32C, as the API writes it, of one reading. Raises OSError.

    Who names an object by its content hands the checksum to the upload: a file that changes in between is an error.
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
    """Return bucket and name of an object's address. Raises ConfigurationError, also for that of a bucket."""
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
        body: as the service sent it.
        uri: of which object it must be; of a list, what the objects' addresses begin with.
        method: for messages.
        listed: an entry of a list, which may lack the checksum.

    Raises:
        GoogleApiError: it does not describe an object, or another one.
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
    """Return what is stored under `uri` now, None if nothing is."""
    method = "storage.objects.get"
    response = session.send("GET", object_url(session, uri), method, uri, params={"fields": FIELDS}, expected=(404,))
    if response.status_code == 404:
        return None
    return info_of(document_of(response, method, uri), uri, method=method)


def existing(session: Session, uri: str) -> ObjectInfo:
    """Return what is stored under `uri` now. Raises NotFoundError."""
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
    """Return whether an object has this name. Raises PermissionDeniedError when it cannot be told."""
    return stat(session, uri) is not None


def each_object(
    session: Session, prefix_uri: str, *, page_size: int = 1000, delimiter: str = "", **answered: Any
) -> Iterator[ObjectInfo]:
    """Yield the objects whose name starts with that of `prefix_uri`, in order of name, each page when it is needed.

    Args:
        session: where.
        prefix_uri: a bucket, or the beginning of an object's address.
        page_size: asked for; 1000 at most.
        delimiter: "/" leaves out what lies deeper.
        answered: of `Session.pages`.

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
    """Return what is stored under each address, in few requests; None if nothing is.

    Raises:
        ConfigurationError: an address is malformed.
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
            listed = {}  # no such bucket: then none of them is there
        return {uri: listed.get(uri) for uri in wanted}

    from concurrent.futures import ThreadPoolExecutor  # here, so that looking starts fast

    with ThreadPoolExecutor(_THREADS) as pool:
        return {uri: info for part in pool.map(look, folders) for uri, info in part.items()}


def bucket_info(session: Session, bucket: str) -> BucketInfo:
    """Return a bucket's place and project. Raises NotFoundError."""
    url = f"{session.environment.storage_base}/storage/v1/b/{bucket}"
    found = session.ask("GET", url, "storage.buckets.get", f"gs://{bucket}", params={"projection": "noAcl"})
    return BucketInfo(
        name=bucket,
        location=str(found.get("location") or "").lower(),
        location_type=str(found.get("locationType") or "region"),
        project_number=str(found.get("projectNumber") or ""),
    )


def bucket_policy(session: Session, bucket: str) -> dict[str, set[str]]:
    """Return the members of each role bound on a bucket itself (not those of its project); see `unconditional`."""
    url = f"{session.environment.storage_base}/storage/v1/b/{bucket}/iam"
    params = {"optionsRequestedPolicyVersion": "3"}
    return unconditional(session.ask("GET", url, "storage.buckets.getIamPolicy", f"gs://{bucket}", params=params))


def unconditional(policy: dict[str, Any]) -> dict[str, set[str]]:
    """Return the members of each role of a policy.

    Conditional bindings are left out: whether they hold is not known here.
    """
    roles: dict[str, set[str]] = {}
    for binding in policy.get("bindings") or []:
        if not binding.get("condition"):
            roles.setdefault(str(binding.get("role", "")), set()).update(binding.get("members") or [])
    return roles
