"""No method takes a field, a type or a parameter that Google's definition does not have, at any depth."""

from __future__ import annotations

import gzip
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import httpx
import pytest

from runner.emulator import services
from runner.emulator.definitions import documents, parsing
from runner.emulator.definitions.documents import Document, MethodDefinition
from runner.emulator.routing import Method
from tests.conformance.extras import UNCHECKED
from tests.provisioning import Provisioned

_PLACE = re.compile(r"\{(\w+)(?::\w+)?(?:=([^}]+))?\}")
_DEPTH = 5
"""Messages inside messages that are looked into; some of Google's hold themselves."""
_WRONG: dict[str, Any] = {
    "string": 7,
    "bool": "yes",
    "int32": "many",
    "uint32": -1,
    "int64": "9" * 25,
    "uint64": "-1",
    "float": "fast",
    "double": [],
    "bytes": "*",
    "time": "now",
    "duration": 600,
    "mask": 7,
}


@dataclass(slots=True)
class _Body:
    """A body with a defect at every place, and the places."""

    value: dict[str, Any] = field(default_factory=dict)
    places: set[str] = field(default_factory=set)


def _cases() -> Iterator[tuple[Method, str]]:
    for method in services.all_methods():
        if method.id.startswith((*UNCHECKED, "storage.")):
            continue
        versions = re.search(r"\{v(?:ersion)?=([^}]+)\}", method.path)
        for version in versions[1].split("|") if versions else [""]:
            yield method, version


def _path(method: Method, version: str, project: str) -> str:
    def filled(match: re.Match[str]) -> str:
        name, alternatives = match[1], match[2]
        if name in ("v", "version") and alternatives:
            return version
        if name == "operation" and alternatives:
            return "noop.DONE_OPERATION"
        if alternatives:
            return str(alternatives.split("|")[0])
        return {"project": project, "location": "us-central1"}.get(name, "1")

    return _PLACE.sub(filled, method.path)


def _unknown(document: Document, message: str, path: str, body: _Body, depth: int) -> dict[str, Any]:
    """Return a message with an unknown field in it and in all below."""
    body.places.add(path)
    made: dict[str, Any] = {"planted": 1}
    for name, kind, place in _messages(document, message, path):
        if depth < _DEPTH:
            below = _unknown(document, kind.lstrip("[{@"), place, body, depth + 1)
            made[name] = _wrapped(kind, below)
    return made


def _wrong(document: Document, message: str, path: str, body: _Body, depth: int) -> dict[str, Any]:
    """Return a message whose every plain field, and every one below, has a wrong type."""
    made: dict[str, Any] = {}
    for name, kind in document.messages[message]["fields"].items():
        plain = kind.rstrip("-!?").lstrip("[{")
        if parsing.is_output(kind) or plain == "any" or plain.startswith("@"):
            continue
        value = "NO_SUCH_VALUE" if plain.startswith("#") else _WRONG[plain]
        made[name] = _wrapped(kind, value)
        # A list is no value at all: that is a fault of the message around it.
        body.places.add(path if value == [] else _place(path, name, kind))
    for name, kind, place in _messages(document, message, path):
        if depth < _DEPTH:
            made[name] = _wrapped(kind, _wrong(document, kind.lstrip("[{@"), place, body, depth + 1))
    return made


def _containers(document: Document, message: str, path: str, body: _Body) -> dict[str, Any]:
    """Return a message that has a number where it should have lists, maps and messages."""
    made: dict[str, Any] = {}
    for name, kind in document.messages[message]["fields"].items():
        if kind.startswith(("[", "{", "@")) and not parsing.is_output(kind):
            made[name] = 5
            body.places.add(f"{path}.{parsing.snake(name)}".lstrip("."))
    return made


def _messages(document: Document, message: str, path: str) -> Iterator[tuple[str, str, str]]:
    for name, kind in document.messages[message]["fields"].items():
        if "@" in kind and not parsing.is_output(kind):
            yield name, kind.rstrip("-!?"), _place(path, name, kind)


def _place(path: str, name: str, kind: str) -> str:
    end = "[0].value" if kind.startswith("{") else "[0]" if kind.startswith("[") else ""
    return f"{path}.{parsing.snake(name)}".lstrip(".") + end


def _wrapped(kind: str, value: Any) -> Any:
    return [value] if kind.startswith("[") else {"key": value} if kind.startswith("{") else value


def _places(response: httpx.Response) -> set[str]:
    assert response.status_code == 400, response.text[:500]
    error = response.json()["error"]
    assert error["status"] == "INVALID_ARGUMENT"
    (detail,) = error["details"]
    assert detail["@type"] == "type.googleapis.com/google.rpc.BadRequest"
    assert error["message"] == "\n".join(item["description"] for item in detail["fieldViolations"])
    return {item.get("field", "") for item in detail["fieldViolations"]}


def _send(client: httpx.Client, method: Method, path: str, body: Any = None, query: str = "") -> httpx.Response:
    return client.request(method.http, path + query, json=body if method.http != "GET" else None)


def _check_body(client: httpx.Client, method: Method, path: str, definition: MethodDefinition) -> None:
    document, root = definition.document, definition.root
    planted = _Body()
    planted.value = _unknown(document, definition.request, root, planted, 0)
    assert planted.places <= _places(_send(client, method, path, planted.value))
    wrong = _Body()
    wrong.value = _wrong(document, definition.request, root, wrong, 0)
    if wrong.places:
        assert wrong.places <= _places(_send(client, method, path, wrong.value))
    containers = _Body()
    containers.value = _containers(document, definition.request, root, containers)
    if containers.places:
        assert containers.places <= _places(_send(client, method, path, containers.value))


@pytest.mark.parametrize("api", sorted({method.id.partition(".")[0] for method, _ in _cases()}))
def test_every_defect_is_refused_and_named(project: Provisioned, api: str) -> None:
    with httpx.Client(base_url=project.url, timeout=60) as client:
        for method, version in _cases():
            if method.id.partition(".")[0] != api:
                continue
            path = _path(method, version, project.project)
            definition = documents.method(method.id, path)
            if definition is None:
                assert _send(client, method, path).status_code == 404
                continue
            unbound = _send(client, method, path, query="?planted=1")
            assert _places(unbound) == {""}
            assert 'Unknown name "planted": Cannot bind query parameter.' in unbound.text.replace("\\", "")
            if method.http != "GET" and not definition.opaque and definition.request:
                _check_body(client, method, path, definition)
            elif method.http != "GET" and not definition.opaque:
                assert "planted" in _send(client, method, path, {"planted": 1}).json()["error"]["message"]


_MALFORMED = [
    ("v1beta1/{parent}/models:upload", {"model": {"displayName": "m", "containerSpec": 5}}, "model.container_spec"),
    ("v1beta1/{parent}/models:upload", {"model": {"containerSpec": {"foo": 1}}}, "model.container_spec"),
    (
        "v1beta1/{parent}/models:upload",
        {"model": {"containerSpec": {"ports": [{"port": 1}]}}},
        "model.container_spec.ports[0]",
    ),
    (
        "v1beta1/{parent}/endpoints",
        {"displayName": "e", "privateServiceConnectConfig": "yes"},
        "endpoint.private_service_connect_config",
    ),
    (
        "v1beta1/{parent}/endpoints",
        {"privateServiceConnectConfig": {"projectAllowlists": ["p"]}},
        "endpoint.private_service_connect_config",
    ),
    (
        "v1beta1/{parent}:deploy",
        {"deployConfig": {"dedicatedResources": {"scaleToZeroSpec": {"idleScaledownPeriod": 600}}}},
        "deploy_config.dedicated_resources.scale_to_zero_spec.idle_scaledown_period",
    ),
    ("v3/projects/{project}/alertPolicies", {"conditions": [{"foo": 1}]}, "alert_policy.conditions[0]"),
    ("v1/billingAccounts/0/budgets", {"budgetFilter": {"foo": 1}}, "budget.budget_filter"),
    (
        "v1/projects/{project}/locations/global/workloadIdentityPools/1/providers",
        {"oidc": {"foo": 1}},
        "workload_identity_pool_provider.oidc",
    ),
    (
        "v1/projects/{project}/locations/global/quotaPreferences",
        {"quotaConfig": {"foo": 1}},
        "quota_preference.quota_config",
    ),
    ("v1/projects/{project}:setIamPolicy", {"policy": {"bindings": [{"condition": {"foo": 1}}]}}, "condition"),
]


@pytest.mark.parametrize(("path", "body", "place"), _MALFORMED)
def test_bodies_that_were_taken_once_are_refused(
    project: Provisioned, path: str, body: dict[str, Any], place: str
) -> None:
    url = f"{project.url}/{path.format(parent=project.parent, project=project.project)}"
    assert any(found.endswith(place) for found in _places(httpx.post(url, json=body, timeout=120)))


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ("fields=banana", "Request contains an invalid argument."),
        ("fields=endpoints(", "Invalid field selection"),
        ("readMask=banana", "Invalid read_mask"),
        ("pageSize=ten", "Invalid value at 'page_size' (TYPE_INT32), \"ten\""),
        ("alt=banana", "Invalid value at 'alt'"),
        ("callback=f", "JSONP"),
    ],
)
def test_a_query_is_held_against_the_definition(project: Provisioned, query: str, said: str) -> None:
    answer = httpx.get(f"{project.url}/v1beta1/{project.parent}/endpoints?{query}", timeout=120)
    assert answer.status_code == 400
    assert said in answer.json()["error"]["message"]


def test_answers_are_cut_to_what_is_asked_for(project: Provisioned) -> None:
    url = f"{project.url}/v1beta1/{project.parent}/endpoints"
    for name in ("a", "b"):
        httpx.post(url, json={"displayName": name, "labels": {"k": name}}, timeout=120)
    assert httpx.get(url, params={"fields": "endpoints/displayName"}, timeout=120).json() == {
        "endpoints": [{"displayName": "b"}, {"displayName": "a"}]
    }
    header = {"X-Goog-FieldMask": "endpoints.labels"}
    assert httpx.get(url, headers=header, timeout=120).json() == {
        "endpoints": [{"labels": {"k": "b"}}, {"labels": {"k": "a"}}]
    }
    masked = httpx.get(url, params={"readMask": "labels,display_name"}, timeout=120).json()["endpoints"]
    assert masked[0] == {"displayName": "b", "labels": {"k": "b"}}
    assert httpx.get(url, params={"prettyPrint": "true"}, timeout=120).text.startswith('{\n  "endpoints": [\n')
    assert (
        httpx.get(url, params={"$prettyPrint": "false", "$alt": "json;enum-encoding=int"}, timeout=120).text[1] == '"'
    )


def test_masks_name_fields_and_a_star_replaces(project: Provisioned) -> None:
    url = f"{project.url}/v1beta1/{project.parent}/endpoints"
    made = httpx.post(url, json={"displayName": "a", "description": "d", "labels": {"k": "v"}}, timeout=120).json()[
        "response"
    ]
    one = f"{project.url}/v1beta1/{made['name']}"
    refused = httpx.patch(one, params={"updateMask": "banana"}, json={"displayName": "b"}, timeout=120)
    assert (refused.status_code, "has no field 'banana'" in refused.text) == (400, True)
    replaced = httpx.patch(one, params={"updateMask": "*"}, json={"displayName": "b"}, timeout=120).json()
    assert {"description", "labels"} & set(replaced) == set()
    assert (replaced["displayName"], replaced["createTime"]) == ("b", made["createTime"])


def test_a_form_is_taken_for_parameters_as_google_does(project: Provisioned) -> None:
    headers = {"content-type": "application/x-www-form-urlencoded"}
    url = f"{project.url}/v1beta1/{project.parent}/endpoints"
    answer = httpx.post(url, content=b'{"displayName": "x"}', headers=headers, timeout=120)
    assert answer.status_code == 400
    assert "Cannot bind query parameter." in answer.json()["error"]["message"]


def test_a_packed_body_is_unpacked(project: Provisioned) -> None:
    """Google's Java library packs every message."""
    url = f"{project.url}/v1beta1/{project.parent}/endpoints"
    packed = gzip.compress(b'{"displayName": "packed"}')
    headers = {"content-encoding": "gzip", "content-type": "application/json"}
    assert httpx.post(url, content=packed, headers=headers, timeout=120).json()["response"]["displayName"] == "packed"
    bucket = httpx.post(
        f"{project.url}/storage/v1/b?project={project.project}",
        content=gzip.compress(json.dumps({"name": f"{project.project}-packed"}).encode()),
        headers=headers,
        timeout=120,
    )
    assert bucket.json()["name"] == f"{project.project}-packed"
    named = {**headers, "content-encoding": "GZIP"}  # names of encodings have no case
    assert httpx.post(url, content=packed, headers=named, timeout=120).status_code == 200
    for broken in (packed[:-1], packed[:-9], b"{}", packed[:12] + b"x" * 30):
        assert httpx.post(url, content=broken, headers=headers, timeout=120).status_code == 400
