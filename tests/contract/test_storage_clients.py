"""Cloud Storage through google-cloud-storage."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from google.api_core import exceptions
from google.auth.credentials import AnonymousCredentials
from google.cloud import storage
from google.cloud.storage import transfer_manager
from google.cloud.storage._media.requests import ResumableUpload
from google.cloud.storage.retry import DEFAULT_RETRY

from runner.emulator.server import EmulatorServer
from tests.provisioning import Provisioned

_MIB = 1024 * 1024


@pytest.fixture
def client(emulator: EmulatorServer, project: Provisioned) -> Iterator[Any]:
    client = storage.Client(
        project=project.project, credentials=AnonymousCredentials(), client_options={"api_endpoint": emulator.url}
    )
    yield client
    client.close()


@pytest.fixture
def bucket(client: Any, project: Provisioned) -> Any:
    return client.bucket(project.datasets)


@pytest.mark.parametrize("size", [0, 11, 9 * _MIB + 7])
def test_upload_and_download(bucket: Any, size: int) -> None:
    data = os.urandom(size)
    blob = bucket.blob("a/ü x.bin")
    blob.metadata = {"kind": "test"}
    blob.upload_from_string(data, content_type="application/x-test", if_generation_match=0)
    assert bucket.blob("a/ü x.bin").download_as_bytes() == data
    read = bucket.get_blob("a/ü x.bin")
    assert (read.size, read.content_type, read.metadata) == (size, "application/x-test", {"kind": "test"})
    assert read.crc32c == blob.crc32c
    assert read.download_as_bytes() == data
    if size:
        assert read.download_as_bytes(start=3, end=9) == data[3:10]
        assert read.download_as_bytes(start=5) == data[5:]


@pytest.mark.parametrize("checksum", ["md5", "crc32c", None])
def test_chunks(bucket: Any, tmp_path: Path, checksum: str | None) -> None:
    data = os.urandom(_MIB + 123)
    (tmp_path / "source").write_bytes(data)
    blob = bucket.blob("x", chunk_size=256 * 1024)
    blob.upload_from_file(io.BytesIO(data), checksum=checksum)
    blob.upload_from_filename(str(tmp_path / "source"), checksum=checksum)
    blob.download_to_filename(str(tmp_path / "target"), checksum="crc32c")
    assert (tmp_path / "target").read_bytes() == data


def test_open(bucket: Any) -> None:
    data = os.urandom(700_000)
    with bucket.blob("x").open("wb", chunk_size=256 * 1024) as file:
        for begin in range(0, len(data), 100_000):
            file.write(data[begin : begin + 100_000])
    with bucket.blob("x").open("rb", chunk_size=100_000) as file:
        assert file.read(10) == data[:10]
        file.seek(650_000)
        assert file.read() == data[650_000:]
    with bucket.blob("text").open("w") as file:
        file.write("Zeile\n" * 3)
    assert bucket.blob("text").download_as_text() == "Zeile\n" * 3
    with bucket.blob("empty").open("wb"):
        pass
    assert bucket.get_blob("empty").size == 0


def test_resume_after_a_lost_answer(client: Any, bucket: Any) -> None:
    """Send a chunk, lose the answer, recover, go on: what the library does after a broken connection."""
    data = os.urandom(3 * 256 * 1024 + 5)
    url = f"{client._connection.API_BASE_URL}/upload/storage/v1/b/{bucket.name}/o?uploadType=resumable"
    # Without a checksum: the library's would miss the chunk that it did not send itself.
    upload = ResumableUpload(url, 256 * 1024, checksum=None)
    stream = io.BytesIO(data)
    upload.initiate(client._http, stream, {"name": "x"}, "text/plain")
    upload.transmit_next_chunk(client._http)
    lost = client._http.put(
        upload.resumable_url,
        data=data[256 * 1024 : 2 * 256 * 1024],
        headers={"content-range": f"bytes {256 * 1024}-{2 * 256 * 1024 - 1}/{len(data)}"},
    )
    assert lost.status_code == 308
    upload._invalid = True
    upload.recover(client._http)
    assert upload.bytes_uploaded == 2 * 256 * 1024
    while not upload.finished:
        upload.transmit_next_chunk(client._http)
    assert bucket.blob("x").download_as_bytes() == data


def test_list(client: Any, bucket: Any) -> None:
    for name in ("a/1", "a/2", "a/b/3", "c", "d"):
        bucket.blob(name).upload_from_string(name)
    assert [blob.name for blob in client.list_blobs(bucket, page_size=2)] == ["a/1", "a/2", "a/b/3", "c", "d"]
    listing = client.list_blobs(bucket, prefix="a/", delimiter="/")
    assert [blob.name for blob in listing] == ["a/1", "a/2"]
    assert listing.prefixes == {"a/b/"}
    assert [blob.name for blob in client.list_blobs(bucket, match_glob="a/**")] == ["a/1", "a/2", "a/b/3"]
    assert [blob.name for blob in client.list_blobs(bucket, start_offset="a/2", end_offset="d")] == [
        "a/2",
        "a/b/3",
        "c",
    ]
    assert [blob.name for blob in client.list_blobs(bucket, fields="items(name),nextPageToken", max_results=2)] == [
        "a/1",
        "a/2",
    ]


def test_preconditions_reach_the_caller(bucket: Any) -> None:
    blob = bucket.blob("x")
    blob.upload_from_string("1", if_generation_match=0)
    with pytest.raises(exceptions.PreconditionFailed):
        bucket.blob("x").upload_from_string("2", if_generation_match=0)
    with pytest.raises(exceptions.PreconditionFailed):
        blob.delete(if_generation_match=1, retry=DEFAULT_RETRY)
    with pytest.raises(exceptions.NotFound):
        bucket.blob("none").download_as_bytes()
    assert not bucket.blob("none").exists()
    blob.delete(if_generation_match=blob.generation)
    assert bucket.get_blob("x") is None


def test_compose_rewrite_copy_rename(client: Any, bucket: Any, project: Provisioned) -> None:
    for name in ("a", "b"):
        bucket.blob(name).upload_from_string(name * 10)
    joined = bucket.blob("ab")
    joined.compose([bucket.blob("a"), bucket.blob("b")], if_generation_match=0)
    assert joined.download_as_bytes() == b"a" * 10 + b"b" * 10
    assert (joined.component_count, joined.md5_hash) == (2, None)
    other = client.bucket(project.images)
    assert other.blob("r").rewrite(joined) == (None, 20, 20)
    copied = bucket.copy_blob(joined, other, "c")
    assert copied.download_as_bytes() == joined.download_as_bytes()
    renamed = bucket.rename_blob(joined, "new name")
    assert (renamed.exists(), joined.exists()) == (True, False)
    copied.metadata = {"k": "v"}
    copied.patch()
    copied.update_storage_class("NEARLINE")
    assert (other.get_blob("c").storage_class, other.get_blob("c").metadata) == ("NEARLINE", {"k": "v"})


def test_batch(client: Any, bucket: Any) -> None:
    for name in ("a", "b", "c"):
        bucket.blob(name).upload_from_string(name)
    with client.batch():
        bucket.delete_blob("a")
        bucket.blob("b").delete()
    assert [blob.name for blob in client.list_blobs(bucket)] == ["c"]
    with pytest.raises(exceptions.NotFound), client.batch():
        bucket.blob("none").delete()
    with client.batch(raise_exception=False):
        bucket.blob("none").delete()
        bucket.blob("c").delete()
    assert list(client.list_blobs(bucket)) == []


def test_transfer_manager(bucket: Any, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    contents = {f"{number}.bin": os.urandom(50_000 * number) for number in range(4)}
    for name, data in contents.items():
        (source / name).write_bytes(data)
    threads = {"worker_type": transfer_manager.THREAD, "max_workers": 4}
    results = transfer_manager.upload_many_from_filenames(
        bucket, list(contents), source_directory=str(source), **threads
    )
    assert results == [None] * 4
    target = tmp_path / "target"
    transfer_manager.download_many_to_path(bucket, list(contents), destination_directory=str(target), **threads)
    assert {path.name: path.read_bytes() for path in target.iterdir()} == contents


def test_transfer_manager_in_chunks(bucket: Any, tmp_path: Path) -> None:
    data = os.urandom(12 * _MIB + 3)
    (tmp_path / "source").write_bytes(data)
    threads = {"worker_type": transfer_manager.THREAD, "max_workers": 3}
    blob = bucket.blob("big ü")
    transfer_manager.upload_chunks_concurrently(str(tmp_path / "source"), blob, chunk_size=5 * _MIB, **threads)
    assert bucket.get_blob("big ü").size == len(data)
    transfer_manager.download_chunks_concurrently(
        bucket.blob("big ü"), str(tmp_path / "target"), chunk_size=4 * _MIB, **threads
    )
    assert (tmp_path / "target").read_bytes() == data


def test_a_bucket_and_its_policy(client: Any, project: Provisioned) -> None:
    made = client.bucket(f"{project.project}-made")
    made.storage_class = "NEARLINE"
    made.labels = {"a": "b"}
    made.versioning_enabled = True
    made.iam_configuration.uniform_bucket_level_access_enabled = True
    made = client.create_bucket(made, location="eu")
    made.add_lifecycle_delete_rule(age=3)
    made.labels = {"c": "d"}
    made.patch()
    read = client.get_bucket(made.name)
    assert (read.location, read.storage_class, read.labels) == ("EU", "NEARLINE", {"c": "d"})
    assert [dict(rule) for rule in read.lifecycle_rules] == [{"action": {"type": "Delete"}, "condition": {"age": 3}}]
    assert read.iam_configuration.uniform_bucket_level_access_enabled
    assert read.soft_delete_policy.retention_duration_seconds == 604800
    with pytest.raises(exceptions.Conflict):
        client.create_bucket(made.name)
    policy = made.get_iam_policy(requested_policy_version=3)
    policy.bindings.append({"role": "roles/storage.objectViewer", "members": {"allUsers"}})
    policy.version = 3
    made.set_iam_policy(policy)
    with pytest.raises(exceptions.PreconditionFailed):
        made.set_iam_policy(policy)
    assert {"role": "roles/storage.objectViewer", "members": {"allUsers"}} in made.get_iam_policy().bindings
    assert made.test_iam_permissions(["storage.objects.get"]) == ["storage.objects.get"]
    assert client.get_service_account_email().startswith(f"service-{project.number}@")
    made.blob("x").upload_from_string("1")
    with pytest.raises(exceptions.Conflict):
        made.delete()
    for blob in client.list_blobs(made, versions=True):
        blob.delete()
    made.delete()
    assert client.lookup_bucket(made.name) is None


def test_a_signed_url_works_and_expires(bucket: Any, emulator: EmulatorServer) -> None:
    import datetime

    import httpx
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import rsa
    from google.oauth2 import service_account

    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    pem = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption()
    )
    info = {
        "client_email": "a@p.iam.gserviceaccount.com",
        "token_uri": "http://127.0.0.1/token",
        "private_key": pem.decode(),
    }
    signer = service_account.Credentials.from_service_account_info(info)
    blob = bucket.blob("a/ü x")

    def url(method: str, **more: Any) -> str:
        return str(
            blob.generate_signed_url(
                version="v4",
                method=method,
                credentials=signer,
                api_access_endpoint=emulator.url,
                expiration=datetime.timedelta(minutes=5),
                **more,
            )
        )

    assert httpx.put(url("PUT"), content=b"signed", timeout=120).status_code == 200
    assert httpx.get(url("GET"), timeout=120).content == b"signed"
    assert blob.download_as_bytes() == b"signed"


def test_access_lists(client: Any, bucket: Any) -> None:
    blob = bucket.blob("x")
    blob.upload_from_string("1", predefined_acl="publicRead")
    assert "READER" in blob.acl.all().get_roles()
    blob.make_private()
    blob.make_public()
    blob.acl.user("a@b.example").grant_owner()
    blob.acl.save()
    blob.acl.reload()
    assert {"entity": "user-a@b.example", "role": "OWNER"} in list(blob.acl)
    bucket.acl.domain("b.example").grant_read()
    bucket.acl.save()
    bucket.default_object_acl.save_predefined("publicRead")
    bucket.make_public(recursive=True)
    assert "READER" in bucket.acl.all().get_roles()
    bucket.iam_configuration.uniform_bucket_level_access_enabled = True
    bucket.patch()
    with pytest.raises(exceptions.BadRequest, match="uniform bucket-level access is enabled"):
        blob.make_public()


def test_versions_and_soft_deleted_objects(client: Any, bucket: Any) -> None:
    bucket.blob("gone").upload_from_string("1")
    bucket.blob("gone").delete()
    (gone,) = client.list_blobs(bucket, soft_deleted=True)
    assert bucket.restore_blob("gone", generation=gone.generation).download_as_bytes() == b"1"
    bucket.versioning_enabled = True
    bucket.patch()
    bucket.blob("gone").upload_from_string("2")
    assert len(list(client.list_blobs(bucket, versions=True))) == 2
    bucket.delete(force=True)
    assert client.lookup_bucket(bucket.name) is None


def test_keys_of_customers(bucket: Any) -> None:
    key, other = os.urandom(32), os.urandom(32)
    bucket.blob("x", encryption_key=key).upload_from_string(b"secret")
    assert bucket.blob("x", encryption_key=key).download_as_bytes() == b"secret"
    for wrong in (None, other):
        with pytest.raises(exceptions.BadRequest):
            bucket.blob("x", encryption_key=wrong).download_as_bytes()
    rotated = bucket.blob("x", encryption_key=other)
    rotated.rewrite(bucket.blob("x", encryption_key=key))
    assert rotated.download_as_bytes() == b"secret"


def test_retention(client: Any, project: Provisioned) -> None:
    kept = client.create_bucket(f"{project.project}-kept", enable_object_retention=True)
    kept.retention_period = 100
    kept.patch()
    blob = kept.blob("x")
    blob.upload_from_string("1")
    blob.reload()
    assert blob.retention_expiration_time is not None
    assert (blob.retention_expiration_time - blob.time_created).total_seconds() == 100
    kept.lock_retention_policy()
    assert kept.retention_policy_locked
    kept.retention_period = 50
    with pytest.raises(exceptions.Forbidden):
        kept.patch()


def test_conditions_by_entity_tags(bucket: Any) -> None:
    blob = bucket.blob("x")
    blob.upload_from_string("1")
    blob.reload(if_etag_match=blob.etag)
    for conditions in ({"if_etag_match": "other"}, {"if_etag_match": ["other", "another"]}):
        with pytest.raises(exceptions.PreconditionFailed):
            blob.reload(**conditions)
    assert blob.exists(if_etag_match=blob.etag)
    assert blob.download_as_bytes(if_etag_not_match="other") == b"1"


def test_notifications_and_keys(client: Any, bucket: Any, project: Provisioned) -> None:
    notification = bucket.notification(topic_name="topic", event_types=["OBJECT_FINALIZE"])
    notification.create()
    (found,) = bucket.list_notifications()
    assert (found.notification_id, found.event_types) == (notification.notification_id, ["OBJECT_FINALIZE"])
    notification.delete()
    key, secret = client.create_hmac_key(f"a@{project.project}.iam.gserviceaccount.com")
    assert (len(secret), [one.access_id for one in client.list_hmac_keys()]) == (40, [key.access_id])
    key.state = "INACTIVE"
    key.update()
    key.delete()
    assert list(client.list_hmac_keys()) == []
