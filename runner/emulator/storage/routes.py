"""The methods of the Cloud Storage JSON API."""

from __future__ import annotations

from runner.emulator.routing import Handler, Method
from runner.emulator.storage import (
    batch,
    bucket_routes,
    copy_routes,
    object_routes,
    policy_routes,
    resumable,
    uploads,
)

_B = "/storage/v1/b/{bucket:segment}"
_O = _B + "/o/{object:segment}"
_UPLOAD = "/upload/storage/v1/b/{bucket:segment}/o"
_TARGET = "/b/{target_bucket:segment}/o/{target:segment}"


def _method(name: str, http: str, path: str, handler: Handler) -> Method:
    return Method(f"storage.{name}", http, path, handler, style="storage")


METHODS: list[Method] = [
    # The busiest first: the router tries them in this order.
    _method("objects.insert", "POST", _UPLOAD, uploads.insert),
    _method("objects.get", "GET", "/download" + _O, object_routes.download),
    _method("objects.get", "GET", _O, object_routes.get),
    _method("objects.list", "GET", _B + "/o", object_routes.list_objects),
    _method("objects.list", "GET", _B + "/o/", object_routes.list_objects),
    _method("objects.insert", "PUT", _UPLOAD, resumable.proceed),
    _method("objects.insert", "DELETE", _UPLOAD, resumable.cancel),
    _method("objects.patch", "PATCH", _O, object_routes.patch),
    _method("objects.update", "PUT", _O, object_routes.update),
    _method("objects.delete", "DELETE", _O, object_routes.delete),
    _method("objects.restore", "POST", _O + "/restore", object_routes.restore),
    _method("objects.compose", "POST", _O + "/compose", copy_routes.compose),
    _method("objects.rewrite", "POST", _O + "/rewriteTo" + _TARGET, copy_routes.rewrite),
    _method("objects.copy", "POST", _O + "/copyTo" + _TARGET, copy_routes.copy),
    _method("objects.move", "POST", _O + "/moveTo/o/{target:segment}", copy_routes.move),
    _method("buckets.get", "GET", _B, bucket_routes.get),
    _method("buckets.list", "GET", "/storage/v1/b", bucket_routes.list_buckets),
    _method("buckets.insert", "POST", "/storage/v1/b", bucket_routes.insert),
    _method("buckets.patch", "PATCH", _B, bucket_routes.patch),
    _method("buckets.update", "PUT", _B, bucket_routes.update),
    _method("buckets.delete", "DELETE", _B, bucket_routes.delete),
    _method("buckets.getIamPolicy", "GET", _B + "/iam", policy_routes.get_policy),
    _method("buckets.setIamPolicy", "PUT", _B + "/iam", policy_routes.set_policy),
    _method("buckets.testIamPermissions", "GET", _B + "/iam/testPermissions", policy_routes.test_permissions),
    _method("buckets.getStorageLayout", "GET", _B + "/storageLayout", bucket_routes.storage_layout),
    _method("anywhereCaches.list", "GET", _B + "/anywhereCaches", bucket_routes.anywhere_caches),
    _method("anywhereCaches.list", "GET", _B + "/anywhereCaches/", bucket_routes.anywhere_caches),
    _method(
        "projects.serviceAccount.get",
        "GET",
        "/storage/v1/projects/{project:segment}/serviceAccount",
        bucket_routes.service_account,
    ),
    _method("batch", "POST", "/batch/storage/v1", batch.batch),
]
