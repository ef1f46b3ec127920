"""`cloudkms.googleapis.com`: key rings, keys and their policies, as far as naming a key for encryption needs them.

Names, states, rotation settings and policies are real; there is no key material and nothing is encrypted with it.
Key rings and keys can't be deleted, as at Google: only versions are destroyed.
"""

from __future__ import annotations

import re
import sqlite3
from datetime import timedelta
from typing import Any

from runner.emulator import enablement, projects, store
from runner.emulator.errors import ApiError, invalid, not_here
from runner.emulator.iam import policies
from runner.emulator.iam.policy_methods import of_project, policy_methods
from runner.emulator.resources import children, listing, patched, reading, writing
from runner.emulator.routing import ApiRequest, Handler

SERVICE = "cloudkms.googleapis.com"
RING_KIND = "kms-key-ring"
KEY_KIND = "kms-crypto-key"
VERSION_KIND = "kms-crypto-key-version"
POLICY_KIND = "kms-policy"
_WORDS = {RING_KIND: "KeyRing", KEY_KIND: "CryptoKey", VERSION_KIND: "CryptoKeyVersion"}

_ID = re.compile(r"[a-zA-Z0-9_-]{1,63}\Z")
_DAY = 86_400
_DESTROY_AFTER = timedelta(days=30)
_CHANGEABLE = ("labels", "nextRotationTime", "rotationPeriod", "versionTemplate", "keyAccessJustificationsPolicy")
_ALGORITHMS = {
    "ENCRYPT_DECRYPT": "GOOGLE_SYMMETRIC_ENCRYPTION",
}


def _name(connection: sqlite3.Connection, request: ApiRequest) -> str:
    """Return the full name of what the path names: location, ring, key or version."""
    fields = request.fields
    project = projects.resolve(connection, fields["project"])
    enablement.require(connection, project, SERVICE)
    name = f"projects/{project.id}/locations/{fields['location']}"
    for collection, field in (("keyRings", "ring"), ("cryptoKeys", "key"), ("cryptoKeyVersions", "version")):
        if field in fields:
            name += f"/{collection}/{fields[field]}"
    return name


def _kind(name: str) -> str:
    if "/cryptoKeyVersions/" in name:
        return VERSION_KIND
    return KEY_KIND if "/cryptoKeys/" in name else RING_KIND


def _get(connection: sqlite3.Connection, name: str) -> dict[str, Any]:
    document = store.get(connection, _kind(name), name, missing=f"{_WORDS[_kind(name)]} {name} not found.")
    if "primary" in document:
        document["primary"] = _get(connection, document["primary"]["name"])
    return document


def _insert(connection: sqlite3.Connection, name: str, document: dict[str, Any]) -> dict[str, Any]:
    taken = f"{_WORDS[_kind(name)]} {name} already exists."
    return store.insert(connection, _kind(name), name, document, taken=taken)


def _new_id(request: ApiRequest, parameter: str) -> str:
    value = request.query_params.get(parameter, "")
    if not _ID.match(value):
        raise invalid(f"{parameter} must be 1 to 63 letters, digits, hyphens or underscores.")
    return value


@writing
def create_ring(connection: sqlite3.Connection, request: ApiRequest) -> dict[str, Any]:
    """Make a key ring."""
    new_id = _new_id(request, "keyRingId")
    projects.ensure(connection, request.fields["project"])
    name = f"{_name(connection, request)}/keyRings/{new_id}"
    return _insert(connection, name, {"name": name, "createTime": request.emulator.clock.timestamp()})


def _check_key(body: dict[str, Any]) -> None:
    if str(body.get("purpose")) not in _ALGORITHMS:
        raise not_here(f"The emulator supports only keys with the purpose ENCRYPT_DECRYPT, not {body.get('purpose')}.")
    period = body.get("rotationPeriod")
    if period is not None:
        if float(period.removesuffix("s")) < _DAY:
            raise invalid("rotation_period must be a duration of at least 86400s.")
        if "nextRotationTime" not in body:
            raise invalid("next_rotation_time must be set when rotation_period is.")


def _add_version(connection: sqlite3.Connection, request: ApiRequest, key: dict[str, Any]) -> dict[str, Any]:
    number = len(children(connection, VERSION_KIND, f"{key['name']}/cryptoKeyVersions")) + 1
    now = request.emulator.clock.timestamp()
    version = {
        "name": f"{key['name']}/cryptoKeyVersions/{number}",
        "state": "ENABLED",
        "protectionLevel": key["versionTemplate"]["protectionLevel"],
        "algorithm": key["versionTemplate"]["algorithm"],
        "createTime": now,
        "generateTime": now,
    }
    return store.insert(connection, VERSION_KIND, version["name"], version)


@writing
def create_key(connection: sqlite3.Connection, request: ApiRequest) -> dict[str, Any]:
    """Make a key with a first version."""
    body = request.document
    _check_key(body)
    new_id = _new_id(request, "cryptoKeyId")
    skip = request.query_params.get("skipInitialVersionCreation", "").lower() == "true"
    ring = _name(connection, request)
    _get(connection, ring)
    template = {"protectionLevel": "SOFTWARE", "algorithm": _ALGORITHMS[body["purpose"]]}
    key = {
        **{name: value for name, value in body.items() if name != "primary"},
        "name": f"{ring}/cryptoKeys/{new_id}",
        "createTime": request.emulator.clock.timestamp(),
        "versionTemplate": {**template, **body.get("versionTemplate", {})},
        "destroyScheduledDuration": body.get("destroyScheduledDuration", "2592000s"),
    }
    _insert(connection, key["name"], key)
    if not skip:
        key["primary"] = _add_version(connection, request, key)
        store.put(connection, KEY_KIND, key["name"], key)
    return key


@reading
def get(connection: sqlite3.Connection, request: ApiRequest) -> dict[str, Any]:
    """Return a key ring, a key or a version."""
    return _get(connection, _name(connection, request))


def _lister(kind: str, collection: str) -> Handler:
    @listing(collection)
    def handler(connection: sqlite3.Connection, request: ApiRequest) -> list[dict[str, Any]]:
        parent = f"{_name(connection, request)}/{collection}"
        found = [_get(connection, body["name"]) for body in children(connection, kind, parent)]
        return [body for body in found if body["name"].split("/")[-2] == collection]

    return handler


list_rings = _lister(RING_KIND, "keyRings")
list_keys = _lister(KEY_KIND, "cryptoKeys")
list_versions = _lister(VERSION_KIND, "cryptoKeyVersions")


@writing
def patch_key(connection: sqlite3.Connection, request: ApiRequest) -> dict[str, Any]:
    """Change the labels or the rotation of a key."""
    stored = _get(connection, _name(connection, request))
    changed = patched(request, stored, every=_CHANGEABLE, mask_required=True)
    if any(changed.get(name) != stored.get(name) for name in ("name", "purpose", "createTime", "primary")):
        raise invalid("The update mask has a field that can't be changed.")
    _check_key(changed)
    return store.put(connection, KEY_KIND, stored["name"], changed)


@writing
def destroy_version(connection: sqlite3.Connection, request: ApiRequest) -> dict[str, Any]:
    """Schedule a version for destruction."""
    version = _get(connection, _name(connection, request))
    if version["state"] not in ("ENABLED", "DISABLED"):
        raise ApiError("FAILED_PRECONDITION", f"{version['name']} is in state {version['state']}.")
    due = request.emulator.clock.now() + _DESTROY_AFTER
    version |= {"state": "DESTROY_SCHEDULED", "destroyTime": due.strftime("%Y-%m-%dT%H:%M:%S.%fZ")}
    return store.put(connection, VERSION_KIND, version["name"], version)


def _held(connection: sqlite3.Connection, request: ApiRequest) -> str:
    """Return the name of a key ring or a key that is there. Raises ApiError NOT_FOUND."""
    return str(_get(connection, _name(connection, request))["name"])


def _above(connection: sqlite3.Connection, request: ApiRequest) -> list[dict[str, Any]]:
    """Return the policies of the project and, for a key, of its ring."""
    ring = _name(connection, request).split("/cryptoKeys/")[0]
    of_ring = [policies.stored(connection, POLICY_KIND, ring)] if "key" in request.fields else []
    return [*of_project(connection, request), *of_ring]


POLICY = policy_methods(POLICY_KIND, _held, _above)
