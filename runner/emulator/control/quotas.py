"""Cloud Quotas: the preference that raises the number of concurrent tuning jobs.

At Google, people or a model decide about a request; the emulator grants it at once.
"""

from __future__ import annotations

import re
import sqlite3
from typing import Any

from runner.emulator import enablement, projects, store
from runner.emulator.errors import ApiError, already_exists, invalid
from runner.emulator.iam import policies
from runner.emulator.projects import Project
from runner.emulator.resources import children, listing, patched, reading, text, writing
from runner.emulator.routing import ApiRequest
from runner.emulator.serviceusage.known import TITLES

KIND = "quota-preference"
SERVICE = "aiplatform.googleapis.com"
TUNING_QUOTA = "GlobalConcurrentManagedOssModelTuningJobs"
"""Quota id of `Global concurrent managed OSS model fine-tuning jobs per project`."""

_ID = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9._-]{0,127}\Z")
_KEPT = ("dimensions", "service", "quotaId", "justification", "contactEmail")


def granted(connection: sqlite3.Connection, project: Project, default: int) -> int:
    """Return the number of concurrent tuning jobs of open models of a project: the granted preference, or `default`."""
    for _, preference in store.scan(connection, KIND, f"projects/{project.id}/"):
        if preference.get("service") == SERVICE and preference.get("quotaId") == TUNING_QUOTA:
            return int(preference["quotaConfig"]["grantedValue"])
    return default


def _parent(connection: sqlite3.Connection, request: ApiRequest) -> str:
    project = projects.resolve(connection, request.fields["project"])
    enablement.require(connection, project, "cloudquotas.googleapis.com")
    return f"projects/{project.id}/locations/global/quotaPreferences"


def _get(connection: sqlite3.Connection, request: ApiRequest) -> dict[str, Any]:
    name = f"{_parent(connection, request)}/{request.fields['id']}"
    return store.get(connection, KIND, name)


get = reading(_get)


def _checked(body: dict[str, Any]) -> dict[str, Any]:
    """Return the client's fields of a preference, with its value granted."""
    service = text(body, "service", maximum=200, required=True)
    if service not in TITLES:
        raise invalid(f"Service {service} is not known.")
    text(body, "quotaId", maximum=300, required=True)
    text(body, "contactEmail", maximum=320)
    text(body, "justification", maximum=1500)
    config = body.get("quotaConfig", {})
    if "preferredValue" not in config:
        raise invalid("The field 'quota_config.preferred_value' is required.")
    preferred = config["preferredValue"]
    if int(preferred) < -1:
        raise invalid("The preferred value must be -1 (unlimited) or more.")
    kept: dict[str, Any] = {name: body[name] for name in _KEPT if name in body}
    request_origin = config.get("requestOrigin")
    settled = {"preferredValue": preferred, "grantedValue": preferred}
    return {**kept, "quotaConfig": {**settled, **({"requestOrigin": request_origin} if request_origin else {})}}


def _guard_decrease(request: ApiRequest, stored: dict[str, Any], changed: dict[str, Any]) -> None:
    """Refuse to lower a quota by more than a tenth at once, unless the request disables this check, as at Google."""
    ignored = set(request.query_params.getlist("ignoreSafetyChecks"))
    before, after = (int(body["quotaConfig"]["grantedValue"]) for body in (stored, changed))
    if 0 <= after < before * 0.9 and "QUOTA_DECREASE_PERCENTAGE_TOO_HIGH" not in ignored:
        raise ApiError(
            "FAILED_PRECONDITION",
            f"Lowering the quota from {before} to {after} is more than 10 percent: "
            "set ignoreSafetyChecks to QUOTA_DECREASE_PERCENTAGE_TOO_HIGH to do so.",
        )


@writing
def create(connection: sqlite3.Connection, request: ApiRequest) -> dict[str, Any]:
    """Request a quota value."""
    body = request.document
    document = _checked(body)
    new_id = request.query_params.get("quotaPreferenceId", "")
    if new_id and not _ID.match(new_id):
        raise invalid(f"Invalid quota preference id {new_id!r}.")
    projects.ensure(connection, request.fields["project"])
    parent = _parent(connection, request)
    same = [
        found
        for found in children(connection, KIND, parent)
        if all(found.get(name) == document.get(name) for name in ("service", "quotaId", "dimensions"))
    ]
    if same:
        raise already_exists(f"A quota preference for this quota exists already: {same[0]['name']}")
    number = store.next_number(connection, "quota-preference")
    name = f"{parent}/{new_id or f'preference-{number}'}"
    now = request.emulator.clock.timestamp()
    stamps = {"name": name, "etag": policies.new_etag(), "createTime": now, "updateTime": now}
    return store.insert(connection, KIND, name, {**document, **stamps, "reconciling": False})


@listing("quotaPreferences")
def list_preferences(connection: sqlite3.Connection, request: ApiRequest) -> list[dict[str, Any]]:
    """List a project's quota preferences."""
    return children(connection, KIND, _parent(connection, request))


@writing
def patch(connection: sqlite3.Connection, request: ApiRequest) -> dict[str, Any]:
    """Request another value. There is no method to delete a preference."""
    stored = _get(connection, request)
    merged = patched(request, stored)
    if any(merged.get(name) != stored.get(name) for name in ("service", "quotaId", "dimensions")):
        raise invalid("service, quota_id and dimensions can't be changed.")
    changed = _checked(merged)
    _guard_decrease(request, stored, changed)
    changed |= {name: stored[name] for name in ("name", "createTime")}
    changed |= {"etag": policies.new_etag(), "updateTime": request.emulator.clock.timestamp(), "reconciling": False}
    return store.put(connection, KIND, stored["name"], changed)
