"""Access control lists: what they hold, what they grant, and what uniform access makes of them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.emulator.storage.conftest import Bucket
from tests.provisioning import Provisioned

_UNIFORM = {"iamConfiguration": {"uniformBucketLevelAccess": {"enabled": True}}}


@pytest.fixture(params=["bucket", "default", "object"])
def lists(request: pytest.FixtureRequest, bucket: Bucket) -> str:
    """The address of a list of each kind."""
    bucket.stored("x", b"data")
    paths = {"bucket": "/acl", "default": "/defaultObjectAcl", "object": "/o/x/acl"}
    return bucket.path + paths[request.param]


def _entities(client: httpx.Client, lists: str) -> dict[str, str]:
    return {item["entity"]: item["role"] for item in client.get(lists).json()["items"]}


def test_an_entry_comes_changes_and_goes(client: httpx.Client, lists: str) -> None:
    before = _entities(client, lists)
    made = client.post(lists, json={"entity": "allUsers", "role": "READER"})
    assert (made.status_code, made.json()["role"]) == (200, "READER")
    assert client.get(f"{lists}/allUsers").json() == made.json()
    for method in ("PATCH", "PUT"):
        assert client.request(method, f"{lists}/allUsers", json={"role": "OWNER"}).json()["role"] == "OWNER"
    assert _entities(client, lists) == {**before, "allUsers": "OWNER"}
    assert client.delete(f"{lists}/allUsers").status_code == 204
    assert _entities(client, lists) == before
    for status in (client.get(f"{lists}/allUsers").status_code, client.delete(f"{lists}/allUsers").status_code):
        assert status == 404


@pytest.mark.parametrize(
    "entry",
    [
        {},
        {"entity": "allUsers"},
        {"entity": "allUsers", "role": "BOSS"},
        {"entity": "everybody", "role": "READER"},
        {"entity": "project-cooks-1", "role": "READER"},
        {"entity": "user-nobody@x.iam.gserviceaccount.com", "role": "READER"},
    ],
)
def test_other_entries_are_refused(client: httpx.Client, lists: str, entry: dict[str, str]) -> None:
    assert client.post(lists, json=entry).status_code == 400


def test_uniform_access_has_no_lists(bucket: Bucket, client: httpx.Client, lists: str) -> None:
    assert client.patch(bucket.path, json=_UNIFORM).status_code == 200
    reader = {"entity": "allUsers", "role": "READER"}
    answers = [
        client.get(lists),
        client.get(f"{lists}/allUsers"),
        client.post(lists, json=reader),
        client.put(f"{lists}/allUsers", json=reader),
        client.delete(f"{lists}/allUsers"),
        client.patch(lists.rpartition("/")[0], json={lists.rpartition("/")[2]: [reader]}),
        bucket.put("y", b"1", predefinedAcl="publicRead"),
    ]
    for answer in answers:
        assert answer.status_code == 400
        assert "uniform bucket-level access is enabled" in answer.json()["error"]["message"]
    full = client.get(lists.rpartition("/")[0], params={"projection": "full"}).json()
    assert "acl" not in full


def test_public_access_can_be_prevented(bucket: Bucket, client: httpx.Client, lists: str) -> None:
    settings = {"iamConfiguration": {"publicAccessPrevention": "enforced"}}
    assert client.patch(bucket.path, json=settings).status_code == 200
    assert client.post(lists, json={"entity": "allUsers", "role": "READER"}).status_code == 412
    assert bucket.put("y", b"1", predefinedAcl="publicRead").status_code == 412
    everybody = {"bindings": [{"role": "roles/storage.objectViewer", "members": ["allUsers"]}]}
    assert client.put(f"{bucket.path}/iam", json=everybody).status_code == 412


def test_a_bucket_s_list_is_its_policy(bucket: Bucket, client: httpx.Client) -> None:
    assert client.post(f"{bucket.path}/acl", json={"entity": "user-a@b.example", "role": "WRITER"}).status_code == 200
    bindings = client.get(f"{bucket.path}/iam").json()["bindings"]
    assert {"role": "roles/storage.legacyBucketWriter", "members": ["user:a@b.example"]} in bindings
    bindings = [*bindings, {"role": "roles/storage.legacyBucketReader", "members": ["domain:b.example"]}]
    assert client.put(f"{bucket.path}/iam", json={"bindings": bindings}).status_code == 200
    assert client.get(f"{bucket.path}/acl/domain-b.example").json()["role"] == "READER"


def test_lists_are_shown_to_those_who_ask(bucket: Bucket, client: httpx.Client, project: Provisioned) -> None:
    made = bucket.stored("x", b"1", predefinedAcl="publicRead", projection="full")
    assert {"allUsers": "READER"}.items() <= {entry["entity"]: entry["role"] for entry in made["acl"]}.items()
    path = bucket.object_path("x")
    assert "acl" not in client.get(path).json()
    assert "acl" in client.get(path, params={"projection": "full"}).json()
    assert "acl" not in client.get(f"{bucket.path}/o").json()["items"][0]
    assert "acl" in client.get(f"{bucket.path}/o", params={"projection": "full"}).json()["items"][0]
    assert client.get(path, params={"projection": "half"}).status_code == 400
    assert bucket.put("y", b"1", predefinedAcl="everybodyRead").status_code == 400
    own = client.get(f"{path}/acl", params={"generation": made["generation"]}).json()["items"]
    assert {f"project-owners-{project.number}": "OWNER"}.items() <= {one["entity"]: one["role"] for one in own}.items()
    whole = client.get(bucket.path, params={"projection": "full"}).json()
    assert {"acl", "defaultObjectAcl", "owner"} <= set(whole)
    assert not {"acl", "defaultObjectAcl"} & set(client.get(bucket.path).json())


def test_new_objects_have_the_bucket_s_default(bucket: Bucket, client: httpx.Client) -> None:
    bucket.stored("before", b"1")
    assert client.patch(bucket.path, json={}, params={"predefinedDefaultObjectAcl": "publicRead"}).status_code == 200
    bucket.stored("after", b"1")
    bucket.stored("own", b"1", predefinedAcl="private")
    public = [name for name in bucket.names() if "allUsers" in _entities(client, f"{bucket.object_path(name)}/acl")]
    assert public == ["after"]
    copied = client.post(
        f"{bucket.object_path('after')}/copyTo/b/{bucket.name}/o/copy?destinationPredefinedAcl=private"
    )
    assert copied.status_code == 200
    assert "allUsers" not in _entities(client, f"{bucket.object_path('copy')}/acl")


@pytest.fixture
def worker(client: httpx.Client, project: Provisioned) -> Iterator[tuple[str, httpx.Client]]:
    service = f"/v1/projects/{project.project}/services/iamcredentials.googleapis.com:enable"
    assert client.post(service, json={}).status_code == 200
    account: dict[str, Any] = client.post(
        f"/v1/projects/{project.project}/serviceAccounts", json={"accountId": "worker"}
    ).json()
    scope = {"scope": ["https://www.googleapis.com/auth/cloud-platform"]}
    path = f"/v1/projects/-/serviceAccounts/{account['email']}:generateAccessToken"
    token = client.post(path, json=scope).json()["accessToken"]
    with httpx.Client(base_url=client.base_url, headers={"Authorization": f"Bearer {token}"}, timeout=120) as worker:
        yield account["email"], worker


def test_an_object_s_list_lets_an_account_read(
    bucket: Bucket, client: httpx.Client, worker: tuple[str, httpx.Client]
) -> None:
    bucket.stored("x", b"data")
    bucket.stored("y", b"data")
    email, caller = worker
    mine = Bucket(caller, bucket.name)
    assert mine.data("x").status_code == 403
    entry = {"entity": f"user-{email}", "role": "READER"}
    assert client.post(f"{bucket.object_path('x')}/acl", json=entry).status_code == 200
    assert [mine.data(name).status_code for name in "xy"] == [200, 403]
    assert caller.patch(bucket.object_path("x"), json={}).status_code == 403
    assert client.patch(bucket.path, json=_UNIFORM).status_code == 200
    assert mine.data("x").status_code == 403


def test_who_reads_may_have_to_pay(bucket: Bucket, client: httpx.Client, worker: tuple[str, httpx.Client]) -> None:
    bucket.stored("x", b"data")
    email, caller = worker
    bindings = [{"role": "roles/storage.objectViewer", "members": [f"serviceAccount:{email}"]}]
    assert client.put(f"{bucket.path}/iam", json={"bindings": bindings}).status_code == 200
    assert client.patch(bucket.path, json={"billing": {"requesterPays": True}}).status_code == 200
    path = bucket.object_path("x")
    assert caller.get(path).status_code == 400
    assert caller.get(path, params={"userProject": "mine"}).status_code == 200
    assert client.get(path).status_code == 200
