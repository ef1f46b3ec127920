"""Whatever a client sends, it is answered or refused: nothing is an error of the server."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from runner.emulator.server import EmulatorServer
from runner.emulator.storage import context_filter, post_forms
from tests.emulator.storage.conftest import attempt
from tests.provisioning import Provisioned

_SLOW = settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
_WORDS = st.text(max_size=8) | st.sampled_from(
    ["true", "1", "-1", "*", "x", "full", "publicRead", "2026-01-01T00:00:00Z"]
)
_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | _WORDS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_WORDS, inner, max_size=3),
)
_FIELDS = [
    *("acl", "billing", "bindings", "contexts", "cors", "customTime", "defaultObjectAcl", "destination", "entity"),
    *("iamConfiguration", "instructions", "labels", "lifecycle", "location", "metadata", "name", "retention", "role"),
    *("retentionPolicy", "softDeletePolicy", "sourceObjects", "state", "storageClass", "topic", "versioning"),
]
_PARAMETERS = [
    *("acl", "continuation-token", "delete", "delimiter", "fields", "filter", "generation", "ifGenerationMatch"),
    *("list-type", "location", "marker", "matchGlob", "max-keys", "maxResults", "pageToken", "partNumber"),
    *("predefinedAcl", "prefix", "projection", "softDeleted", "uploadId", "uploads", "uploadType", "versioning"),
    *("versions", "X-Goog-Algorithm", "X-Goog-Credential", "x-goog-date", "X-Goog-Expires", "X-Goog-Signature"),
    *("X-Goog-SignedHeaders", "Signature", "GoogleAccessId", "Expires", "serviceAccountEmail", "upload_id"),
]
_HEADERS = [
    *("authorization", "content-md5", "content-range", "date", "if-match", "if-modified-since", "if-none-match"),
    *("range", "x-amz-copy-source", "x-amz-date", "x-goog-acl", "x-goog-copy-source", "x-goog-encryption-algorithm"),
    *("x-goog-encryption-key", "x-goog-hash", "x-goog-if-generation-match", "x-goog-meta-a", "x-goog-project-id"),
]
_LATIN = st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=20).map(str.strip)
_AUTHORIZATIONS = st.sampled_from(
    [
        "GOOG1 a:b",
        "AWS a:!",
        "AWS4-HMAC-SHA256 Credential=a",
        "GOOG4-RSA-SHA256 x=y, =, Signature",
        "Bearer x",
        "AWS4-HMAC-SHA256",
    ]
)
_PATHS = [
    *("/{b}", "/{b}/x", "/{b}/", "/", "/{b}/a/b", "/storage/v1/b", "/storage/v1/b/{b}", "/storage/v1/b/{b}/o"),
    *("/storage/v1/b/{b}/o/x", "/storage/v1/b/{b}/o/x/compose", "/storage/v1/b/{b}/o/x/acl", "/b/{b}/acl/allUsers"),
    *("/storage/v1/b/{b}/o/x/rewriteTo/b/{b}/o/y", "/storage/v1/b/{b}/iam", "/storage/v1/b/{b}/notificationConfigs"),
    *("/storage/v1/b/{b}/lockRetentionPolicy", "/storage/v1/projects/p/hmacKeys", "/upload/storage/v1/b/{b}/o"),
    *("/resumable/upload/storage/v1/b/{b}/o", "/batch", "/retry_test", "/storage/v1/b/{b}/defaultObjectAcl"),
]


@pytest.fixture
def client(emulator: EmulatorServer) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=emulator.url, timeout=60) as client:
        yield client


@_SLOW
@given(
    method=st.sampled_from(["GET", "HEAD", "PUT", "POST", "PATCH", "DELETE"]),
    path=st.sampled_from(_PATHS),
    parameters=st.dictionaries(st.sampled_from(_PARAMETERS), _WORDS, max_size=5),
    headers=st.dictionaries(st.sampled_from(_HEADERS), _LATIN | _AUTHORIZATIONS, max_size=4),
    body=st.binary(max_size=40)
    | st.dictionaries(st.sampled_from(_FIELDS), _JSON, max_size=3).map(lambda body: json.dumps(body).encode())
    | st.sampled_from([b"<a/>", b'<?xml version="1.0" encoding="x"?><a/>', b"null", b"[]"]),
)
def test_any_request_is_answered(
    client: httpx.Client,
    project: Provisioned,
    method: str,
    path: str,
    parameters: dict[str, str],
    headers: dict[str, str],
    body: bytes,
) -> None:
    client.put(f"/{project.datasets}/x", content=b"data")
    url = path.format(b=project.datasets)
    if url == "/storage/v1/b":
        parameters = {"project": project.project, **parameters}
    answer = client.request(method, url, params=parameters, headers=headers, content=body)
    assert answer.status_code < 500, (answer.text, method, url, parameters, headers, body)
    client.post("/storage/v1/b", params={"project": project.project}, json={"name": project.datasets})  # it may be gone


@pytest.mark.parametrize("value", ["-1", "x", "1.5", "9" * 30])
def test_a_number_that_is_none_is_refused_wherever_lists_have_pages(
    client: httpx.Client, project: Provisioned, value: str
) -> None:
    for path in (f"b?project={project.project}", f"b/{project.datasets}/o", f"projects/{project.project}/hmacKeys"):
        url = httpx.URL(f"{client.base_url}/storage/v1/{path}").copy_add_param("maxResults", value)
        assert client.get(url).status_code == 400, (path, client.get(url).text)


@_SLOW
@given(policy=_JSON | st.fixed_dictionaries({"expiration": st.just("2999-01-01T00:00:00Z"), "conditions": _JSON}))
def test_any_policy_is_kept_or_refused(client: httpx.Client, project: Provisioned, policy: object) -> None:
    encoded = base64.b64encode(json.dumps(policy).encode()).decode()
    fields = {"key": "x", "policy": encoded, "x-goog-signature": "00", "x-goog-credential": "a/b/c/d/e"}
    answer = client.post(f"/{project.datasets}", data=fields, files={"file": b"data"})
    assert answer.status_code in (204, 400, 403), answer.text


@given(body=st.binary(max_size=200) | st.text('-b\r\n:;="namefile', max_size=80).map(str.encode))
def test_any_form_is_read_or_refused(body: bytes) -> None:
    form, status = attempt(lambda: post_forms.parse(body, "multipart/form-data; boundary=b"))
    assert (form is None) == (status == 400)


@given(text=st.text(max_size=20) | st.from_regex(r'-?contexts\."[^"]{0,5}"[:=!]{1,2}("[^"]{0,5}"|\*)', fullmatch=True))
def test_any_filter_is_read_or_refused(text: str) -> None:
    read, status = attempt(lambda: context_filter.parse(text))
    assert (read is None) == (status == 400)
