"""Service accounts: a token that the server issued carries its account's permissions, no more."""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import pytest

from tests.emulator.storage.conftest import Bucket
from tests.provisioning import Provisioned


@pytest.fixture
def account(client: httpx.Client, project: Provisioned) -> str:
    service = f"/v1/projects/{project.project}/services/iamcredentials.googleapis.com:enable"
    assert client.post(service, json={}).status_code == 200
    body = {"accountId": "worker", "serviceAccount": {"displayName": "w"}}
    answer = client.post(f"/v1/projects/{project.project}/serviceAccounts", json=body)
    assert answer.status_code == 200, answer.text
    return str(answer.json()["email"])


@pytest.fixture
def worker(client: httpx.Client, account: str) -> Iterator[httpx.Client]:
    path = f"/v1/projects/-/serviceAccounts/{account}:generateAccessToken"
    answer = client.post(path, json={"scope": ["https://www.googleapis.com/auth/cloud-platform"]})
    assert answer.status_code == 200, answer.text
    headers = {"Authorization": f"Bearer {answer.json()['accessToken']}"}
    with httpx.Client(base_url=client.base_url, headers=headers, timeout=60) as worker:
        yield worker


def _grant(client: httpx.Client, bucket: Bucket, account: str, *roles: str) -> None:
    bindings = [{"role": role, "members": [f"serviceAccount:{account}"]} for role in roles]
    assert client.put(f"{bucket.path}/iam", json={"bindings": bindings}).status_code == 200


def _statuses(mine: Bucket, other: str) -> dict[str, int]:
    """Try one of everything; the order matters, since some of it changes what is there."""
    client, path = mine.client, mine.object_path("x")
    batch = f"--b\r\nContent-Type: application/http\r\n\r\nGET {path} HTTP/1.1\r\n\r\n\r\n--b--"
    answered = client.post("/batch/storage/v1", content=batch, headers={"Content-Type": "multipart/mixed; boundary=b"})
    return {
        "get": client.get(path).status_code,
        "media": mine.data("x").status_code,
        "xml": client.get(f"/{mine.name}/x").status_code,
        "batch": int(answered.text.partition("HTTP/1.1 ")[2][:3]),
        "list": client.get(f"{mine.path}/o").status_code,
        "insert": mine.put("new", b"1").status_code,
        "xml put": client.put(f"/{mine.name}/new-too", content=b"1").status_code,
        "copy out": client.post(f"{path}/copyTo/b/{other}/o/x").status_code,
        "patch": client.patch(path, json={}).status_code,
        "bucket": client.get(mine.path).status_code,
        "policy": client.get(f"{mine.path}/iam").status_code,
        "delete": client.delete(path).status_code,
    }


@pytest.mark.parametrize(
    ("role", "allowed"),
    [
        (None, set()),
        ("roles/storage.objectViewer", {"get", "media", "xml", "batch", "list"}),
        ("roles/storage.objectCreator", {"insert", "xml put"}),
        (
            "roles/storage.objectUser",
            {"get", "media", "xml", "batch", "list", "insert", "xml put", "patch", "delete"},
        ),
        ("roles/storage.legacyBucketReader", {"list", "bucket"}),
    ],
)
def test_a_role_allows_what_it_says(
    bucket: Bucket,
    client: httpx.Client,
    project: Provisioned,
    account: str,
    worker: httpx.Client,
    role: str | None,
    allowed: set[str],
) -> None:
    bucket.stored("x", b"data")
    _grant(client, bucket, account, *([role] if role else []))
    statuses = _statuses(Bucket(worker, bucket.name), project.images)
    assert {name for name, status in statuses.items() if status < 300} == allowed
    assert {status for name, status in statuses.items() if name not in allowed} == {403}
    asked = {"permissions": ["storage.objects.get", "storage.objects.create"]}
    held = worker.get(f"{bucket.path}/iam/testPermissions", params=asked).json().get("permissions", [])
    assert ("storage.objects.get" in held) == ("get" in allowed)
    assert ("storage.objects.create" in held) == ("insert" in allowed)


def test_a_session_s_address_is_permission_enough(
    bucket: Bucket, client: httpx.Client, account: str, worker: httpx.Client
) -> None:
    _grant(client, bucket, account)
    location = bucket.start("x")
    assert worker.put(location, content=b"data").status_code == 200
    assert worker.post(f"/upload{bucket.path}/o?uploadType=resumable&name=y", json={}).status_code == 403
    for path in (bucket.object_path("x"), f"/{bucket.name}/x"):
        assert worker.get(f"{path}?upload_id=pretended").status_code == 403


def test_buckets_are_made_by_those_the_project_lets(
    client: httpx.Client, project: Provisioned, account: str, worker: httpx.Client
) -> None:
    url = f"/storage/v1/b?project={project.project}"
    body = {"name": f"{project.project}-mine"}
    assert worker.post(url, json=body).status_code == 403
    assert worker.get(url).status_code == 403
    policy = {"bindings": [{"role": "roles/storage.admin", "members": [f"serviceAccount:{account}"]}]}
    assert client.post(f"/v1/projects/{project.project}:setIamPolicy", json={"policy": policy}).status_code == 200
    assert worker.post(url, json=body).status_code == 200
    assert len(worker.get(url).json()["items"]) == 4
    assert worker.get("/storage/v1/b/no-such-bucket-here").status_code == 404
