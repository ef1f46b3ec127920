"""Signatures: of URLs, of headers, of forms; right, wrong, late, of an account that may not, of a stranger."""

from __future__ import annotations

import base64
import json
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import quote

import httpx
import pytest
from google.auth.credentials import AnonymousCredentials
from google.cloud import storage
from google.oauth2 import service_account

from runner.emulator.server import EmulatorServer
from tests.emulator.storage.conftest import Bucket
from tests.provisioning import Provisioned


@pytest.fixture
def key(client: httpx.Client, project: Provisioned) -> dict[str, str]:
    """A key file of a new service account."""
    path = f"/v1/projects/{project.project}/serviceAccounts"
    email = client.post(path, json={"accountId": "signer"}).json()["email"]
    made = client.post(f"{path}/{email}/keys", json={}).json()
    file: dict[str, str] = json.loads(base64.b64decode(made["privateKeyData"]))
    return file


@pytest.fixture
def allowed(client: httpx.Client, bucket: Bucket, key: dict[str, str]) -> dict[str, str]:
    """The same, of an account that may do everything in the bucket."""
    _grant(client, bucket, key["client_email"])
    return key


def _grant(client: httpx.Client, bucket: Bucket, email: str) -> None:
    bindings = [{"role": "roles/storage.admin", "members": [f"serviceAccount:{email}"]}]
    assert client.put(f"{bucket.path}/iam", json={"bindings": bindings}).status_code == 200


def _url(emulator: EmulatorServer, bucket: Bucket, key: dict[str, str], version: str, **more: Any) -> str:
    client = storage.Client(
        project="p", credentials=AnonymousCredentials(), client_options={"api_endpoint": emulator.url}
    )
    signer = service_account.Credentials.from_service_account_info(key)
    options = {"credentials": signer, "api_access_endpoint": emulator.url, "expiration": timedelta(minutes=5), **more}
    return str(client.bucket(bucket.name).blob("a/ü x").generate_signed_url(version=version, **options))


@pytest.mark.parametrize("version", ["v2", "v4"])
def test_a_url_works_for_what_it_was_signed_for(
    emulator: EmulatorServer, bucket: Bucket, client: httpx.Client, allowed: dict[str, str], version: str
) -> None:
    typed = {"content_type": "text/x"} if version == "v2" else {"headers": {"content-type": "text/x"}}
    put = _url(emulator, bucket, allowed, version, method="PUT", **typed)
    assert httpx.put(put, content=b"data", headers={"Content-Type": "text/x"}, timeout=120).status_code == 200
    get = _url(emulator, bucket, allowed, version, method="GET", response_disposition="attachment")
    answer = httpx.get(get, timeout=120)
    assert (answer.content, answer.headers["content-disposition"]) == (b"data", "attachment")
    wrong = [
        httpx.put(put, content=b"other", headers={"Content-Type": "text/y"}, timeout=120),
        httpx.put(get, content=b"other", timeout=120),
        httpx.get(get.replace("%20x", "%20y"), timeout=120),
    ]
    if version == "v4":  # V2 does not sign what the answer is to be called
        wrong.append(httpx.get(get.replace("attachment", "inline"), timeout=120))
    for refused in wrong:
        assert refused.status_code == 403
        assert "<Code>SignatureDoesNotMatch</Code>" in refused.text
        assert "<Details>" in refused.text
    assert bucket.data("a/ü x").content == b"data"


def test_the_case_of_parameters_does_not_matter(
    emulator: EmulatorServer, bucket: Bucket, allowed: dict[str, str]
) -> None:
    bucket.stored("a/ü x", b"data")
    late = _url(emulator, bucket, allowed, "v4", method="GET", expiration=timedelta(seconds=60))
    moment = late.partition("X-Goog-Date=")[2][:16]
    old = (datetime.now(UTC) - timedelta(days=1)).strftime("%Y%m%dT%H%M%SZ")
    assert httpx.get(late, timeout=120).status_code == 200
    for url in (late.replace(moment, old), late.replace(moment, old).replace("X-Goog-", "x-goog-")):
        answer = httpx.get(url, timeout=120)
        assert (answer.status_code, "<Code>ExpiredToken</Code>" in answer.text) == (400, True)


def test_the_account_needs_the_permission(
    emulator: EmulatorServer, bucket: Bucket, client: httpx.Client, key: dict[str, str]
) -> None:
    bucket.stored("a/ü x", b"data")
    url = _url(emulator, bucket, key, "v4", method="GET")
    refused = httpx.get(url, timeout=120)
    assert (refused.status_code, "<Code>AccessDenied</Code>" in refused.text) == (403, True)
    _grant(client, bucket, key["client_email"])
    assert httpx.get(url, timeout=120).content == b"data"
    keys = f"/v1/projects/-/serviceAccounts/{key['client_email']}/keys/{key['private_key_id']}"
    assert client.delete(keys).status_code == 200
    assert httpx.get(url, timeout=120).status_code == 403


def test_a_list_can_be_signed(emulator: EmulatorServer, bucket: Bucket, allowed: dict[str, str]) -> None:
    for name in ("a/1", "a/2", "b<&>/3", "c"):
        bucket.stored(name, b"data")
    client = storage.Client(
        project="p", credentials=AnonymousCredentials(), client_options={"api_endpoint": emulator.url}
    )
    url = client.bucket(bucket.name).generate_signed_url(
        version="v4",
        expiration=timedelta(minutes=5),
        credentials=service_account.Credentials.from_service_account_info(allowed),
        api_access_endpoint=emulator.url,
        query_parameters={"prefix": "a/"},
    )
    text = httpx.get(url, timeout=120).text
    assert [part.partition("<")[0] for part in text.split("<Key>")[1:]] == ["a/1", "a/2"]
    assert httpx.get(url.replace("prefix=a", "prefix=b"), timeout=120).status_code == 403


def _form(emulator: EmulatorServer, bucket: Bucket, key: dict[str, str], **more: Any) -> tuple[str, dict[str, str]]:
    client = storage.Client(
        project="p", credentials=AnonymousCredentials(), client_options={"api_endpoint": emulator.url}
    )
    policy = client.generate_signed_post_policy_v4(
        bucket.name,
        "form/ü",
        expiration=timedelta(minutes=5),
        credentials=service_account.Credentials.from_service_account_info(key),
        **more,
    )
    return f"{emulator.url}/{bucket.name}", policy["fields"]


def test_a_form_with_a_policy(emulator: EmulatorServer, bucket: Bucket, allowed: dict[str, str]) -> None:
    conditions = [["content-length-range", 1, 9], ["starts-with", "$content-type", "text/"]]
    url, fields = _form(emulator, bucket, allowed, conditions=conditions, fields={"success_action_status": "201"})
    fields = {**fields, "content-type": "text/x"}
    assert httpx.post(url, data=fields, files={"file": b"data"}, timeout=120).status_code == 201
    assert bucket.data("form/ü").content == b"data"
    assert bucket.data("form/ü").headers["content-type"] == "text/x"
    assert httpx.post(url, data=fields, files={"file": b"far too much"}, timeout=120).status_code == 400
    for change in ({"key": "other"}, {"content-type": "image/x"}, {"x-goog-signature": "00"}, {"acl": "public-read"}):
        assert httpx.post(url, data={**fields, **change}, files={"file": b"new"}, timeout=120).status_code == 403
    changed = json.loads(base64.b64decode(fields["policy"]))
    changed["conditions"] = []
    policy = base64.b64encode(json.dumps(changed).encode()).decode()
    assert httpx.post(url, data={**fields, "policy": policy}, files={"file": b"new"}, timeout=120).status_code == 403
    assert bucket.data("form/ü").content == b"data"


@pytest.fixture
def hmac_key(client: httpx.Client, project: Provisioned, allowed: dict[str, str]) -> tuple[str, str]:
    path = f"/storage/v1/projects/{project.project}/hmacKeys"
    made = client.post(path, params={"serviceAccountEmail": allowed["client_email"]}).json()
    return made["metadata"]["accessId"], made["secret"]


def _s3_headers(
    client: httpx.Client, method: str, path: str, query: str, key: tuple[str, str], kind: str = "AWS4"
) -> dict[str, str]:
    """Sign as the documentation of V4 says, in as few lines as it takes: independent of the server's code."""
    import hashlib
    import hmac

    prefix = {"AWS4": "x-amz-", "GOOG4": "x-goog-"}[kind]
    date = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
    host = str(client.base_url).rpartition("//")[2].strip("/")
    scope = f"{date[:8]}/auto/{'s3/aws4_request' if kind == 'AWS4' else 'storage/goog4_request'}"
    headers = {"host": host, f"{prefix}content-sha256": "UNSIGNED-PAYLOAD", f"{prefix}date": date}
    names = ";".join(sorted(headers))
    lines = "".join(f"{name}:{headers[name]}\n" for name in sorted(headers))
    canonical = f"{method}\n{path}\n{query}\n{lines}\n{names}\nUNSIGNED-PAYLOAD"
    text = f"{kind}-HMAC-SHA256\n{date}\n{scope}\n{hashlib.sha256(canonical.encode()).hexdigest()}"
    secret = f"{kind}{key[1]}".encode()
    for part in scope.split("/"):
        secret = hmac.new(secret, part.encode(), hashlib.sha256).digest()
    signature = hmac.new(secret, text.encode(), hashlib.sha256).hexdigest()
    authorization = f"{kind}-HMAC-SHA256 Credential={key[0]}/{scope}, SignedHeaders={names}, Signature={signature}"
    return {**headers, "authorization": authorization}


@pytest.mark.parametrize("kind", ["AWS4", "GOOG4"])
def test_headers_signed_with_an_hmac_key(
    bucket: Bucket, client: httpx.Client, project: Provisioned, hmac_key: tuple[str, str], kind: str
) -> None:
    path = f"/{bucket.name}/{quote('ü x')}"
    headers = _s3_headers(client, "PUT", path, "", hmac_key, kind)
    assert client.put(path, content=b"data", headers=headers).status_code == 200
    query = "list-type=2&prefix=%C3%BC"
    headers = _s3_headers(client, "GET", f"/{bucket.name}", query, hmac_key, kind)
    assert "<Key>ü x</Key>" in client.get(f"/{bucket.name}?{query}", headers=headers).text
    refused = client.get(f"/{bucket.name}?list-type=2&prefix=a", headers=headers)
    assert (refused.status_code, "<Code>SignatureDoesNotMatch</Code>" in refused.text) == (403, True)
    wrong = _s3_headers(client, "GET", path, "", (hmac_key[0], "wrong"), kind)
    assert client.get(path, headers=wrong).status_code == 403
    unknown = _s3_headers(client, "GET", path, "", (hmac_key[0][:-1] + "0", hmac_key[1]), kind)
    assert "<Code>InvalidAccessKeyId</Code>" in client.get(path, headers=unknown).text
    switched = f"/storage/v1/projects/{project.project}/hmacKeys/{hmac_key[0]}"
    assert client.put(switched, json={"state": "INACTIVE"}).status_code == 200
    assert client.get(path, headers=_s3_headers(client, "GET", path, "", hmac_key, kind)).status_code == 403


def test_a_stranger_s_signature_is_the_developer_s(bucket: Bucket, client: httpx.Client) -> None:
    path = f"/{bucket.name}/x"
    stranger = _s3_headers(client, "PUT", path, "", ("AKIASTRANGER", "secret"))
    assert client.put(path, content=b"data", headers=stranger).status_code == 200


def test_a_url_may_name_its_bucket_by_the_host(
    emulator: EmulatorServer, bucket: Bucket, allowed: dict[str, str]
) -> None:
    def sent(method: str, url: str, **more: Any) -> httpx.Response:
        address = httpx.URL(url)
        assert address.host == f"{bucket.name}.storage.googleapis.com"
        there = httpx.URL(emulator.url).copy_with(raw_path=address.raw_path)
        return httpx.request(method, there, headers={"Host": address.host}, **more)

    options = {"virtual_hosted_style": True, "api_access_endpoint": None}
    client = storage.Client(project="p", credentials=AnonymousCredentials())
    signer = service_account.Credentials.from_service_account_info(allowed)
    blob = client.bucket(bucket.name).blob("a/ü x")

    def url(method: str) -> str:
        more = {"credentials": signer, "expiration": timedelta(minutes=5), "method": method, **options}
        return str(blob.generate_signed_url(version="v4", **more))

    assert sent("PUT", url("PUT"), content=b"data").status_code == 200
    assert sent("GET", url("GET")).content == b"data"
    assert sent("GET", url("PUT")).status_code == 403
    assert bucket.data("a/ü x").content == b"data"
