"""The retries of Google's Python library, driven by retry tests: every scenario of the public conformance tests.

The scenarios and what is expected of each method are facts of `googleapis/conformance-tests` (storage/v1); the calls
are our own. Whoever sends `x-retry-test-id` meets the instructions.
"""

from __future__ import annotations

import gc
import io
import os
import types
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import httpx
import pytest
from google.api_core.retry import retry_unary
from google.auth.credentials import AnonymousCredentials
from google.cloud import storage
from google.cloud.storage.fileio import BlobReader, BlobWriter

from runner.emulator.server import EmulatorServer
from tests.loopback import NO_TLS
from tests.provisioning import Provisioned

pytestmark = pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")
"""The library forgets connections that broke while it read from them; they go in this file's tests."""
_KIB = 1024


@dataclass(slots=True)
class World:
    """What a call works with: clients without and with the test's header, and what has been made for it."""

    plain: Any
    client: Any
    project: Provisioned
    bucket: Any = None
    blob: Any = None
    notification: Any = None
    key: Any = None
    guarded: bool = False
    """Whether the call brings preconditions."""
    data: bytes = field(default_factory=lambda: os.urandom(600 * _KIB))

    @property
    def mine(self) -> Any:
        """The bucket, through the client with the header."""
        return self.client.bucket(self.bucket.name)

    @property
    def object(self) -> Any:
        """The object, through the client with the header."""
        return self.mine.blob(self.blob.name)

    def new(self) -> Any:
        """A name that is not taken."""
        return self.mine.blob(uuid.uuid4().hex)

    def if_new(self) -> dict[str, int]:
        return {"if_generation_match": 0} if self.guarded else {}

    def if_known(self) -> dict[str, int]:
        return {"if_generation_match": self.blob.generation} if self.guarded else {}

    def if_unchanged(self) -> dict[str, int]:
        return {"if_metageneration_match": self.blob.metageneration} if self.guarded else {}

    def if_bucket(self) -> dict[str, int]:
        return {"if_metageneration_match": self.bucket.metageneration} if self.guarded else {}


Call = Callable[[World], object]


def _patch(target: Any, **more: Any) -> None:
    target.labels = {"k": "v"}
    target.patch(**more)


def _patch_blob(blob: Any, **more: Any) -> None:
    blob.metadata = {"k": "v"}
    blob.patch(**more)


def _update_key(world: World) -> None:
    key = next(iter(world.client.list_hmac_keys(project_id=world.project.project)))
    key.state = "INACTIVE"
    key.update()


def _delete_key(world: World) -> None:
    key = world.client.get_hmac_key_metadata(world.key.access_id, project_id=world.project.project)
    key.delete()


def _set_policy(world: World) -> None:
    policy = world.bucket.get_iam_policy(requested_policy_version=3)
    if not world.guarded:
        policy.etag = None
    world.mine.set_iam_policy(policy)


def _compose(world: World) -> None:
    part = world.bucket.blob("part")
    part.upload_from_string(b"part")
    world.object.compose([part], **world.if_known())


def _write(world: World) -> None:
    with BlobWriter(world.new(), chunk_size=256 * _KIB, **world.if_new()) as file:
        file.write(world.data)


def _lock(world: World) -> None:
    bucket = world.client.bucket(world.bucket.name)
    world.bucket.retention_period = 60
    world.bucket.patch()
    bucket.reload()
    bucket.lock_retention_policy()


def _resume(world: World) -> None:
    """Upload in chunks; every retry must go on where the server is."""
    blob = world.new()
    blob.chunk_size = 256 * _KIB
    blob.upload_from_file(io.BytesIO(world.data), **world.if_new())  # of unknown size: resumable
    assert world.bucket.blob(blob.name).download_as_bytes() == world.data


def _download(world: World) -> None:
    assert world.object.download_as_bytes() == world.data


CALLS: dict[str, list[Call]] = {
    "storage.bucket_acl.get": [lambda world: world.mine.acl.reload()],
    "storage.bucket_acl.list": [lambda world: world.mine.acl.reload()],
    "storage.default_object_acl.list": [lambda world: world.mine.default_object_acl.reload()],
    "storage.object_acl.list": [lambda world: world.object.acl.reload()],
    "storage.buckets.delete": [lambda world: world.mine.delete()],
    "storage.buckets.get": [
        lambda world: world.client.get_bucket(world.bucket.name),
        lambda world: world.mine.reload(),
        lambda world: world.client.lookup_bucket(world.bucket.name),
        lambda world: world.mine.exists(),
    ],
    "storage.buckets.getIamPolicy": [lambda world: world.mine.get_iam_policy()],
    "storage.buckets.insert": [
        lambda world: world.client.create_bucket(f"{world.project.project}-{uuid.uuid4().hex[:8]}")
    ],
    "storage.buckets.list": [lambda world: list(world.client.list_buckets())],
    "storage.buckets.lockRetentionPolicy": [_lock],
    "storage.buckets.testIamPermissions": [lambda world: world.mine.test_iam_permissions(["storage.buckets.get"])],
    "storage.hmacKey.create": [
        lambda world: world.client.create_hmac_key(
            service_account_email="a@b.iam.gserviceaccount.com", project_id=world.project.project
        )
    ],
    "storage.hmacKey.delete": [_delete_key],
    "storage.hmacKey.get": [
        lambda world: world.client.get_hmac_key_metadata(world.key.access_id, project_id=world.project.project)
    ],
    "storage.hmacKey.list": [lambda world: list(world.client.list_hmac_keys(project_id=world.project.project))],
    "storage.hmacKey.update": [_update_key],
    "storage.notifications.delete": [
        lambda world: world.mine.notification(notification_id=world.notification.notification_id).delete()
    ],
    "storage.notifications.get": [
        lambda world: world.mine.get_notification(world.notification.notification_id),
        lambda world: world.mine.notification(notification_id=world.notification.notification_id).reload(),
        lambda world: world.mine.notification(notification_id=world.notification.notification_id).exists(),
    ],
    "storage.notifications.insert": [lambda world: world.mine.notification(topic_name="topic").create()],
    "storage.notifications.list": [lambda world: list(world.mine.list_notifications())],
    "storage.objects.get": [
        lambda world: world.mine.get_blob(world.blob.name),
        lambda world: world.object.exists(),
        _download,
        lambda world: world.client.download_blob_to_file(world.object, io.BytesIO()),
        lambda world: BlobReader(world.object).read(),
    ],
    "storage.objects.list": [
        lambda world: list(world.client.list_blobs(world.bucket.name)),
        lambda world: list(world.mine.list_blobs()),
        lambda world: world.mine.delete(force=True),
    ],
    "storage.serviceaccount.get": [lambda world: world.client.get_service_account_email()],
    "storage.buckets.patch": [lambda world: _patch(world.mine, **world.if_bucket())],
    "storage.buckets.setIamPolicy": [_set_policy],
    "storage.buckets.update": [lambda world: world.mine.update(**world.if_bucket())],
    "storage.objects.compose": [_compose],
    "storage.objects.copy": [
        lambda world: world.mine.copy_blob(world.object, world.mine, uuid.uuid4().hex, **world.if_new())
    ],
    "storage.objects.delete": [
        lambda world: world.object.delete(**world.if_known()),
        lambda world: world.mine.delete_blob(world.blob.name, **world.if_known()),
    ],
    "storage.objects.insert": [
        lambda world: world.new().upload_from_string(b"small", **world.if_new()),
        lambda world: world.new().upload_from_file(io.BytesIO(b"small"), **world.if_new()),
        _write,
    ],
    "storage.objects.patch": [lambda world: _patch_blob(world.object, **world.if_unchanged())],
    "storage.objects.rewrite": [
        lambda world: world.new().rewrite(world.object, **world.if_new()),
        lambda world: world.object.update_storage_class("NEARLINE", **world.if_known()),
    ],
    "storage.objects.update": [lambda world: world.object.update(**world.if_unchanged())],
    "storage.resumable.upload": [_resume],
    "storage.objects.download": [_download],
}
"""Methods, as the scenarios call them, to library calls that come down to them."""

_TWICE = [
    ["return-503", "return-503"],
    ["return-reset-connection", "return-reset-connection"],
    ["return-reset-connection", "return-503"],
]
_ONCE = [["return-503"], ["return-reset-connection"]]
_IDEMPOTENT = [
    "storage.bucket_acl.list",
    "storage.buckets.delete",
    "storage.buckets.get",
    "storage.buckets.getIamPolicy",
    "storage.buckets.insert",
    "storage.buckets.list",
    "storage.buckets.lockRetentionPolicy",
    "storage.buckets.testIamPermissions",
    "storage.default_object_acl.list",
    "storage.hmacKey.delete",
    "storage.hmacKey.get",
    "storage.hmacKey.list",
    "storage.notifications.delete",
    "storage.notifications.get",
    "storage.notifications.list",
    "storage.object_acl.list",
    "storage.objects.get",
    "storage.objects.list",
    "storage.serviceaccount.get",
]
_CONDITIONAL = [
    "storage.buckets.patch",
    "storage.buckets.setIamPolicy",
    "storage.buckets.update",
    "storage.hmacKey.update",
    "storage.objects.compose",
    "storage.objects.copy",
    "storage.objects.delete",
    "storage.objects.insert",
    "storage.objects.patch",
    "storage.objects.rewrite",
    "storage.objects.update",
]
_ALWAYS = ("storage.objects.delete", "storage.objects.insert", "storage.objects.patch")
"""Methods that this library repeats without preconditions too, since its version 3."""
_UNGUARDED = ("storage.hmacKey.update",)
"""Methods to which this library adds no precondition, whatever the caller has."""
_NEVER = ["storage.hmacKey.create", "storage.notifications.insert"]
_UPLOADS = [
    ["return-reset-connection", "return-503-after-256K"],
    ["return-503-after-256K", "return-503-after-512K"],
    ["return-503", "return-503-after-256K"],
    ["return-broken-stream-final-chunk-after-9B"],
    ["stall-for-0s-after-256K"],
]
_DOWNLOADS = [["return-broken-stream"], ["return-broken-stream-after-256K", "return-503"], ["stall-for-0s-after-256K"]]


@dataclass(frozen=True, slots=True)
class Case:
    """One method under one list of instructions, and whether its call shall succeed."""

    scenario: int
    method: str
    call: int
    instructions: list[str]
    guarded: bool
    succeeds: bool
    on: str = ""
    """Method that the instructions are for, where it is another."""

    def __str__(self) -> str:
        return f"S{self.scenario}-{self.method.removeprefix('storage.')}-{self.call}-{'+'.join(self.instructions)}"


def _cases() -> Iterator[Case]:
    scenarios = [
        (1, _IDEMPOTENT, _TWICE, False, True),
        (2, _CONDITIONAL, _TWICE, True, True),
        (3, _CONDITIONAL, _ONCE, False, False),
        (4, _NEVER, _ONCE, False, False),
        (5, [*_IDEMPOTENT, *_CONDITIONAL, *_NEVER], [["return-400"], ["return-401"]], False, False),
    ]
    for number, methods, lists, guarded, succeeds in scenarios:
        for method in methods:
            for call in range(len(CALLS[method])):
                for instructions in lists:
                    again = succeeds or (number == 3 and method in _ALWAYS)
                    if not (guarded and method in _UNGUARDED):
                        yield Case(number, method, call, instructions, guarded, again)
    for instructions in _UPLOADS:
        yield Case(7, "storage.resumable.upload", 0, instructions, True, True, "storage.objects.insert")
    for instructions in _DOWNLOADS:
        yield Case(8, "storage.objects.download", 0, instructions, False, True, "storage.objects.get")


@pytest.fixture(autouse=True, scope="module")
def forgotten_connections() -> Iterator[None]:
    """Connections that the library forgot go with this file's last test. Once: a collection takes 0.2 s."""
    yield
    gc.collect()


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """The library tries again without waiting: how long it waits is not what is tested."""
    import time

    monkeypatch.setattr(retry_unary, "time", types.SimpleNamespace(sleep=lambda _: None, monotonic=time.monotonic))


def _client(emulator: EmulatorServer, project: Provisioned) -> Any:
    return storage.Client(
        project=project.project, credentials=AnonymousCredentials(), client_options={"api_endpoint": emulator.url}
    )


@pytest.fixture
def world(emulator: EmulatorServer, project: Provisioned) -> Iterator[World]:
    plain, client = _client(emulator, project), _client(emulator, project)
    yield World(plain, client, project)
    plain.close()
    client.close()


def _populate(world: World, method: str) -> None:
    world.bucket = world.plain.create_bucket(f"{world.project.project}-{uuid.uuid4().hex[:8]}")
    if ".hmacKey." in method and not method.endswith("create"):
        email = "a@b.iam.gserviceaccount.com"
        world.key, _ = world.plain.create_hmac_key(service_account_email=email, project_id=world.project.project)
        if method.endswith("delete"):
            world.key.state = "INACTIVE"
            world.key.update()
    if ".notifications." in method:
        world.notification = world.bucket.notification(topic_name="topic")
        world.notification.create()
    if ".object" in method:
        world.blob = world.bucket.blob("object")
        world.blob.upload_from_string(world.data)


@pytest.mark.parametrize("case", list(_cases()), ids=str)
def test_scenario(emulator: EmulatorServer, world: World, case: Case) -> None:
    body = {"instructions": {case.on or case.method: case.instructions}}
    made = httpx.post(f"{emulator.url}/retry_test", json=body, verify=NO_TLS, timeout=120).json()
    _populate(world, case.method)
    world.guarded = case.guarded
    world.client._http.headers["x-retry-test-id"] = made["id"]
    failure: Exception | None = None
    try:
        CALLS[case.method][case.call](world)
    except Exception as error:
        failure = error
    left = httpx.get(f"{emulator.url}/retry_test/{made['id']}", verify=NO_TLS, timeout=120).json()
    assert httpx.delete(f"{emulator.url}/retry_test/{made['id']}", verify=NO_TLS, timeout=120).status_code == 200
    assert left["completed"], left
    assert (failure is None) == case.succeeds, failure


def test_there_are_as_many_as_there_should_be() -> None:
    cases = list(_cases())
    assert len(cases) > 250
    assert {case.scenario for case in cases} == {1, 2, 3, 4, 5, 7, 8}
