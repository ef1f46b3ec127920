"""The methods of the Cloud Storage JSON API."""

from __future__ import annotations

from runner.emulator.routing import Handler, Method
from runner.emulator.storage import (
    acl_routes,
    batch,
    bucket_lists,
    bucket_routes,
    copy_routes,
    hmac_keys,
    object_routes,
    policy_routes,
    resumable,
    uploads,
)
from runner.emulator.storage.access import Need, guarded

_B = "/storage/v1/b/{bucket:segment}"
_O = _B + "/o/{object:segment}"
_UPLOAD = "/upload/storage/v1/b/{bucket:segment}/o"
_GCLOUD_UPLOAD = "/resumable" + _UPLOAD
"""Path for gcloud's resumable uploads."""
_TARGET = "/b/{target_bucket:segment}/o/{target:segment}"


def _method(name: str, http: str, path: str, handler: Handler, *needs: str | Need) -> Method:
    return Method(f"storage.{name}", http, path, guarded(handler, *needs) if needs else handler, style="storage")


_CREATE, _READ, _LIST = "storage.objects.create", "storage.objects.get", "storage.objects.list"
_BUCKET = "storage.buckets.get"
_CREATE_TARGET = (_CREATE, "target_bucket", "target")

_BUCKET_ACL = ("storage.buckets.getIamPolicy", "storage.buckets.setIamPolicy")
_OBJECT_ACL = ("storage.objects.getIamPolicy", "storage.objects.setIamPolicy")
_UPDATE_BUCKET = "storage.buckets.update"
_NOTIFICATIONS = _B + "/notificationConfigs"
_NOTIFICATION = _NOTIFICATIONS + "/{notification:segment}"
_KEYS = "/storage/v1/projects/{project:segment}/hmacKeys"
_KEY = _KEYS + "/{key:segment}"


def _acl(name: str, path: str, lists: acl_routes.Lists, permissions: tuple[str, str]) -> list[Method]:
    """Return the methods for one kind of access control lists. `permissions` are those for reading and writing."""
    read, write = permissions
    entity = path + "/{entity:segment}"
    return [
        _method(f"{name}.list", "GET", path, acl_routes.listed(lists), read),
        _method(f"{name}.get", "GET", entity, acl_routes.got(lists), read),
        _method(f"{name}.insert", "POST", path, acl_routes.inserted(lists), write),
        _method(f"{name}.patch", "PATCH", entity, acl_routes.updated(lists), write),
        _method(f"{name}.update", "PUT", entity, acl_routes.updated(lists), write),
        _method(f"{name}.delete", "DELETE", entity, acl_routes.deleted(lists), write),
    ]


METHODS: list[Method] = [
    # The most frequent methods are first, because the router tries them in this order.
    _method("objects.insert", "POST", _UPLOAD, uploads.insert),
    _method("objects.get", "GET", "/download" + _O, object_routes.download, _READ),
    _method("objects.get", "GET", _O, object_routes.get, _READ),
    _method("objects.list", "GET", _B + "/o", object_routes.list_objects, _LIST),
    _method("objects.insert", "PUT", _UPLOAD, resumable.proceed),
    _method("objects.insert", "DELETE", _UPLOAD, resumable.cancel),
    _method("objects.insert", "POST", _GCLOUD_UPLOAD, uploads.insert),
    _method("objects.insert", "PUT", _GCLOUD_UPLOAD, resumable.proceed),
    _method("objects.insert", "DELETE", _GCLOUD_UPLOAD, resumable.cancel),
    _method("objects.patch", "PATCH", _O, object_routes.patch, "storage.objects.update"),
    _method("objects.update", "PUT", _O, object_routes.update, "storage.objects.update"),
    _method("objects.delete", "DELETE", _O, object_routes.delete, "storage.objects.delete"),
    _method("objects.restore", "POST", _O + "/restore", object_routes.restore, "storage.objects.restore"),
    _method("objects.compose", "POST", _O + "/compose", copy_routes.compose, _CREATE, _READ),
    _method("objects.rewrite", "POST", _O + "/rewriteTo" + _TARGET, copy_routes.rewrite, _READ, _CREATE_TARGET),
    _method("objects.copy", "POST", _O + "/copyTo" + _TARGET, copy_routes.copy, _READ, _CREATE_TARGET),
    _method(
        "objects.move",
        "POST",
        _O + "/moveTo/o/{target:segment}",
        copy_routes.move,
        "storage.objects.move",
        (_CREATE, "bucket", "target"),
    ),
    _method("buckets.get", "GET", _B, bucket_routes.get, _BUCKET),
    _method("buckets.list", "GET", "/storage/v1/b", bucket_routes.list_buckets, "storage.buckets.list"),
    _method("buckets.insert", "POST", "/storage/v1/b", bucket_routes.insert, "storage.buckets.create"),
    _method("buckets.patch", "PATCH", _B, bucket_routes.patch, "storage.buckets.update"),
    _method("buckets.update", "PUT", _B, bucket_routes.update, "storage.buckets.update"),
    _method("buckets.delete", "DELETE", _B, bucket_routes.delete, "storage.buckets.delete"),
    _method("buckets.getIamPolicy", "GET", _B + "/iam", policy_routes.get_policy, "storage.buckets.getIamPolicy"),
    _method("buckets.setIamPolicy", "PUT", _B + "/iam", policy_routes.set_policy, "storage.buckets.setIamPolicy"),
    _method("buckets.testIamPermissions", "GET", _B + "/iam/testPermissions", policy_routes.test_permissions),
    _method("buckets.getStorageLayout", "GET", _B + "/storageLayout", bucket_routes.storage_layout, _LIST),
    _method(
        "buckets.lockRetentionPolicy",
        "POST",
        _B + "/lockRetentionPolicy",
        bucket_routes.lock_retention_policy,
        "storage.buckets.update",
    ),
    _method("anywhereCaches.list", "GET", _B + "/anywhereCaches", bucket_lists.empty("anywhereCaches"), _BUCKET),
    _method("folders.list", "GET", _B + "/folders", bucket_lists.empty("folders"), "storage.folders.list"),
    _method(
        "managedFolders.list",
        "GET",
        _B + "/managedFolders",
        bucket_lists.empty("managedFolders"),
        "storage.managedFolders.list",
    ),
    _method("buckets.operations.list", "GET", _B + "/operations", bucket_lists.empty("operations"), _BUCKET),
    *_acl("bucketAccessControls", _B + "/acl", acl_routes.Lists(), _BUCKET_ACL),
    *_acl("defaultObjectAccessControls", _B + "/defaultObjectAcl", acl_routes.DefaultLists(), _BUCKET_ACL),
    *_acl("objectAccessControls", _O + "/acl", acl_routes.ObjectLists(), _OBJECT_ACL),
    _method("notifications.insert", "POST", _NOTIFICATIONS, bucket_lists.create_notification, _UPDATE_BUCKET),
    _method("notifications.list", "GET", _NOTIFICATIONS, bucket_lists.list_notifications, _BUCKET),
    _method("notifications.get", "GET", _NOTIFICATION, bucket_lists.get_notification, _BUCKET),
    _method("notifications.delete", "DELETE", _NOTIFICATION, bucket_lists.delete_notification, _UPDATE_BUCKET),
    _method("projects.hmacKeys.create", "POST", _KEYS, hmac_keys.create, "storage.hmacKeys.create"),
    _method("projects.hmacKeys.list", "GET", _KEYS, hmac_keys.list_keys, "storage.hmacKeys.list"),
    _method("projects.hmacKeys.get", "GET", _KEY, hmac_keys.get, "storage.hmacKeys.get"),
    _method("projects.hmacKeys.update", "PUT", _KEY, hmac_keys.update, "storage.hmacKeys.update"),
    _method("projects.hmacKeys.delete", "DELETE", _KEY, hmac_keys.delete, "storage.hmacKeys.delete"),
    _method(
        "projects.serviceAccount.get",
        "GET",
        "/storage/v1/projects/{project:segment}/serviceAccount",
        bucket_routes.service_account,
    ),
]
_BATCH = batch.answering(METHODS)
METHODS += [_method("batch", "POST", "/batch/storage/v1", _BATCH), _method("batch", "POST", "/batch", _BATCH)]
