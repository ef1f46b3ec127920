"""`monitoring.googleapis.com` v3: notification channels, alert policies, and the count of requests to models.

Policies are stored and validated, but no alert ever fires.
"""

from __future__ import annotations

import secrets
import sqlite3
from typing import Any

from runner.emulator import enablement, projects, store, update_mask
from runner.emulator.errors import ApiError, invalid, not_found
from runner.emulator.monitoring import checks, time_series
from runner.emulator.resources import children, listing, methods, reading, writing
from runner.emulator.routing import ApiRequest

CHANNEL_KIND = "notification-channel"
POLICY_KIND = "alert-policy"
SERVICE = "monitoring.googleapis.com"


def _number() -> str:
    """Return a random ID as in Google's monitoring: up to 20 digits."""
    return str(10**18 + secrets.randbelow(9 * 10**18))


def _parent(connection: sqlite3.Connection, request: ApiRequest) -> str:
    project = projects.resolve(connection, request.fields["project"])
    enablement.require(connection, project, SERVICE)
    return f"projects/{project.id}"


def _name(connection: sqlite3.Connection, request: ApiRequest, collection: str) -> str:
    return f"{_parent(connection, request)}/{collection}/{request.fields['id']}"


def _get(connection: sqlite3.Connection, kind: str, name: str) -> dict[str, Any]:
    what = "notification channel" if kind == CHANNEL_KIND else "alerting policy"
    return store.get(connection, kind, name, missing=f"The {what} '{name}' does not exist.")


def _record(request: ApiRequest) -> dict[str, str]:
    return {"mutateTime": request.emulator.clock.timestamp()}


@writing
def create_channel(connection: sqlite3.Connection, request: ApiRequest) -> dict[str, Any]:
    """Create a notification channel."""
    body = request.document
    checks.channel(body)
    body.setdefault("enabled", True)
    name = f"{_parent(connection, request)}/notificationChannels/{_number()}"
    projects.ensure(connection, request.fields["project"])
    document = {**body, "name": name, "creationRecord": _record(request), "mutationRecords": [_record(request)]}
    return checks.hidden(store.insert(connection, CHANNEL_KIND, name, document))


@reading
def get_channel(connection: sqlite3.Connection, request: ApiRequest) -> dict[str, Any]:
    """Return a notification channel."""
    return checks.hidden(_get(connection, CHANNEL_KIND, _name(connection, request, "notificationChannels")))


@listing("notificationChannels")
def list_channels(connection: sqlite3.Connection, request: ApiRequest) -> list[dict[str, Any]]:
    """List a project's notification channels."""
    found = children(connection, CHANNEL_KIND, f"{_parent(connection, request)}/notificationChannels")
    return [checks.hidden(body) for body in found]


@writing
def patch_channel(connection: sqlite3.Connection, request: ApiRequest) -> dict[str, Any]:
    """Replace a channel, or the fields in `updateMask`."""
    body = request.document
    mask = request.query_params.get("updateMask")
    name = _name(connection, request, "notificationChannels")
    stored = _get(connection, CHANNEL_KIND, name)
    # Without a mask, the whole channel is replaced; its type is required.
    changed = update_mask.apply(stored, body, mask) if mask else {"type": stored["type"], **body}
    if changed.get("type") != stored["type"]:
        raise invalid("The type of a notification channel can't be changed.")
    checks.channel(changed)
    changed.setdefault("enabled", True)
    records = [*stored["mutationRecords"], _record(request)]
    changed |= {"name": name, "creationRecord": stored["creationRecord"], "mutationRecords": records[-10:]}
    return checks.hidden(store.put(connection, CHANNEL_KIND, name, changed))


@writing
def delete_channel(connection: sqlite3.Connection, request: ApiRequest) -> None:
    """Delete a channel; with `force`, also remove it from the policies that use it."""
    force = request.query_params.get("force", "").lower() == "true"
    name = _name(connection, request, "notificationChannels")
    _get(connection, CHANNEL_KIND, name)
    policies = children(connection, POLICY_KIND, f"{_parent(connection, request)}/alertPolicies")
    users = [policy for policy in policies if name in policy.get("notificationChannels", [])]
    if users and not force:
        raise ApiError(
            "FAILED_PRECONDITION",
            f"Can not delete notification channel {name}: it is used by the alerting policy {users[0]['name']}.",
        )
    for policy in users:
        policy["notificationChannels"].remove(name)
        store.put(connection, POLICY_KIND, policy["name"], policy)
    store.remove(connection, CHANNEL_KIND, name)


def _checked_policy(connection: sqlite3.Connection, request: ApiRequest, body: dict[str, Any]) -> dict[str, Any]:
    checks.policy(body)
    body.setdefault("enabled", True)
    parent = _parent(connection, request)
    resolved = []
    for index, channel in enumerate(body.get("notificationChannels", [])):
        wanted = f"{parent}/notificationChannels/{str(channel).rsplit('/', 1)[-1]}"
        if store.find(connection, CHANNEL_KIND, wanted) is None:
            raise not_found(
                f'Field "alert_policy.notification_channels[{index}]" had an invalid value of "{channel}": '
                "the notification channel does not exist."
            )
        resolved.append(wanted)
    return {**body, "notificationChannels": resolved} if resolved else body


def _name_conditions(name: str, body: dict[str, Any], known: set[str]) -> None:
    """Name each condition; one that the policy already has keeps its name."""
    for condition in body["conditions"]:
        if condition.get("name") not in known:
            condition["name"] = f"{name}/conditions/{_number()}"


@writing
def create_policy(connection: sqlite3.Connection, request: ApiRequest) -> dict[str, Any]:
    """Create an alert policy; it and its conditions get names."""
    body = request.document
    name = f"{_parent(connection, request)}/alertPolicies/{_number()}"
    projects.ensure(connection, request.fields["project"])
    document = _checked_policy(connection, request, body)
    _name_conditions(name, document, set())
    record = _record(request)
    document = {**document, "name": name, "creationRecord": record, "mutationRecord": record}
    return store.insert(connection, POLICY_KIND, name, document)


@reading
def get_policy(connection: sqlite3.Connection, request: ApiRequest) -> dict[str, Any]:
    """Return an alert policy."""
    return _get(connection, POLICY_KIND, _name(connection, request, "alertPolicies"))


@listing("alertPolicies")
def list_policies(connection: sqlite3.Connection, request: ApiRequest) -> list[dict[str, Any]]:
    """List a project's alert policies."""
    return children(connection, POLICY_KIND, f"{_parent(connection, request)}/alertPolicies")


@writing
def patch_policy(connection: sqlite3.Connection, request: ApiRequest) -> dict[str, Any]:
    """Replace a policy, or the fields in `updateMask`."""
    body = request.document
    mask = request.query_params.get("updateMask")
    name = _name(connection, request, "alertPolicies")
    stored = _get(connection, POLICY_KIND, name)
    changed = _checked_policy(connection, request, update_mask.apply(stored, body, mask) if mask else dict(body))
    _name_conditions(name, changed, {condition["name"] for condition in stored["conditions"]})
    changed |= {"name": name, "creationRecord": stored["creationRecord"], "mutationRecord": _record(request)}
    return store.put(connection, POLICY_KIND, name, changed)


@writing
def delete_policy(connection: sqlite3.Connection, request: ApiRequest) -> None:
    """Delete an alert policy."""
    name = _name(connection, request, "alertPolicies")
    _get(connection, POLICY_KIND, name)
    store.remove(connection, POLICY_KIND, name)


_CHANNELS = "/projects/{project}/notificationChannels"
_POLICIES = "/projects/{project}/alertPolicies"

METHODS = methods(
    ["/v3", "/monitoring/v3"],
    [
        ("monitoring.projects.notificationChannels.create", "POST", _CHANNELS, create_channel),
        ("monitoring.projects.notificationChannels.list", "GET", _CHANNELS, list_channels),
        ("monitoring.projects.notificationChannels.get", "GET", f"{_CHANNELS}/{{id}}", get_channel),
        ("monitoring.projects.notificationChannels.patch", "PATCH", f"{_CHANNELS}/{{id}}", patch_channel),
        ("monitoring.projects.notificationChannels.delete", "DELETE", f"{_CHANNELS}/{{id}}", delete_channel),
        ("monitoring.projects.alertPolicies.create", "POST", _POLICIES, create_policy),
        ("monitoring.projects.alertPolicies.list", "GET", _POLICIES, list_policies),
        ("monitoring.projects.alertPolicies.get", "GET", f"{_POLICIES}/{{id}}", get_policy),
        ("monitoring.projects.alertPolicies.patch", "PATCH", f"{_POLICIES}/{{id}}", patch_policy),
        ("monitoring.projects.alertPolicies.delete", "DELETE", f"{_POLICIES}/{{id}}", delete_policy),
        ("monitoring.projects.timeSeries.list", "GET", "/projects/{project}/timeSeries", time_series.list_series),
    ],
)
