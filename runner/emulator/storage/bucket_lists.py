"""Other resources of a bucket: notification settings, which are stored, and lists that are always empty."""

from __future__ import annotations

import sqlite3
from typing import Any

from runner.emulator import store
from runner.emulator.routing import ApiRequest, Handler
from runner.emulator.storage import buckets
from runner.emulator.storage.faults import bad_request
from runner.emulator.storage.replies import reading, writing

Json = dict[str, Any]

_NOTIFICATION = "storage-notification"
_EVENTS = {"OBJECT_FINALIZE", "OBJECT_METADATA_UPDATE", "OBJECT_DELETE", "OBJECT_ARCHIVE"}
_FORMATS = ("JSON_API_V1", "NONE")
_FIELDS = {"topic", "event_types", "custom_attributes", "payload_format", "object_name_prefix"}
_DERIVED = {"kind", "id", "etag", "selfLink"}


def empty(kind: str) -> Handler:
    """Return the handler of an empty list."""

    @reading
    def handle(connection: sqlite3.Connection, request: ApiRequest) -> Json:
        """Return the empty list of a bucket that exists."""
        buckets.require(connection, request.fields["bucket"])
        return {"kind": f"storage#{kind}"}

    return handle


@writing
def create_notification(connection: sqlite3.Connection, request: ApiRequest) -> Json:
    """Store a notification setting. There is no Pub/Sub, so nothing is published."""
    body = request.document
    bucket = request.fields["bucket"]
    for key in body:
        if key not in _FIELDS | _DERIVED:
            raise bad_request(f'Invalid JSON payload received. Unknown name "{key}": Cannot find field.')
    settings = {key: value for key, value in body.items() if key in _FIELDS and value not in (None, [], {})}
    topic = settings.get("topic")
    if not isinstance(topic, str) or not topic.removeprefix("//pubsub.googleapis.com/").startswith("projects/"):
        raise bad_request(f"Invalid Google Cloud Pub/Sub topic. It should look like '{_TOPIC}'.", "invalid")
    settings.setdefault("payload_format", "JSON_API_V1")
    if settings["payload_format"] not in _FORMATS:
        raise bad_request(f"Invalid value for payload_format: {settings['payload_format']!r}", "invalid")
    events = settings.get("event_types", [])
    if not isinstance(events, list) or not set(map(str, events)) <= _EVENTS:
        raise bad_request(f"Invalid value for event_types: {events!r}", "invalid")
    buckets.require(connection, bucket)
    number = str(store.next_number(connection, f"{_NOTIFICATION}/{bucket}"))
    document = {"id": number, "etag": number, **settings}
    return _shown(request, store.insert(connection, _NOTIFICATION, f"{bucket}/{number}", document))


@reading
def list_notifications(connection: sqlite3.Connection, request: ApiRequest) -> Json:
    """List a bucket's notification settings."""
    bucket = request.fields["bucket"]
    buckets.require(connection, bucket)
    items = [_shown(request, body) for _, body in store.scan(connection, _NOTIFICATION, f"{bucket}/")]
    return {"kind": "storage#notifications", **({"items": items} if items else {})}


@reading
def get_notification(connection: sqlite3.Connection, request: ApiRequest) -> Json:
    """Return a notification setting."""
    return _shown(request, _notification(connection, request))


@writing
def delete_notification(connection: sqlite3.Connection, request: ApiRequest) -> None:
    """Delete a notification setting."""
    body = _notification(connection, request)
    store.remove(connection, _NOTIFICATION, f"{request.fields['bucket']}/{body['id']}")


def forget(connection: sqlite3.Connection, bucket: str) -> None:
    """Delete the resources of a deleted bucket."""
    for name, _ in store.scan(connection, _NOTIFICATION, f"{bucket}/"):
        store.remove(connection, _NOTIFICATION, name)


def _notification(connection: sqlite3.Connection, request: ApiRequest) -> Json:
    bucket, number = request.fields["bucket"], request.fields["notification"]
    buckets.require(connection, bucket)
    return store.get(
        connection, _NOTIFICATION, f"{bucket}/{number}", missing=f"notification {number} not found for bucket {bucket}"
    )


def _shown(request: ApiRequest, body: Json) -> Json:
    link = f"{request.base}/storage/v1/b/{request.fields['bucket']}/notificationConfigs/{body['id']}"
    return {"kind": "storage#notification", "selfLink": link, **body}


_TOPIC = "//pubsub.googleapis.com/projects/*/topics/*"
