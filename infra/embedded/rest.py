"""Requests to the emulator, at the addresses that the provider's settings name."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any
from urllib.parse import urlsplit

import httpx

from runner.errors import RunnerError

PLACEHOLDER_TOKEN = "emulator"  # noqa: S105 - not a secret: for servers that check no token
TIMEOUT_S = 30.0
OPERATION_TIMEOUT_S = 120.0
_POLL_S = 0.2
_LOCATION = re.compile(r"/locations/([^/]+)/")

SERVICES = {
    "access": "accessContextManagerCustomEndpoint",
    "functions": "cloudfunctions2CustomEndpoint",
    "run": "cloudRunV2CustomEndpoint",
    "scheduler": "cloudSchedulerCustomEndpoint",
    "billing": "cloudBillingCustomEndpoint",
    "budgets": "billingBudgetsCustomEndpoint",
    "iam": "iamBetaCustomEndpoint",
    "jobs": "vertexAiCustomEndpoint",
    "kms": "kmsCustomEndpoint",
    "monitoring": "monitoringCustomEndpoint",
    "projects": "resourceManagerCustomEndpoint",
    "quotas": "cloudQuotasCustomEndpoint",
    "serviceusage": "serviceUsageCustomEndpoint",
    "storage": "storageCustomEndpoint",
    "vertex": "vertexAiCustomEndpoint",
    "workloadidentity": "workloadIdentityCustomEndpoint",
}
"""Maps a service to the provider setting with its address, version included."""


class EmbeddedError(RunnerError):
    """A resource could not be created, changed or deleted, or this package does not know its type."""

    code = "infrastructure"
    usual_hint = "`runner emulator logs` shows what the emulator answered"
    exit_code = 1


class NoAnswerError(EmbeddedError):
    """Nothing answers at an address."""

    code = "unreachable"
    usual_hint = "`runner emulator start` starts the emulator"
    exit_code = 69


class RequestError(EmbeddedError):
    """The emulator refused a request."""

    def __init__(self, message: str, *, http: int, said: str = "") -> None:
        super().__init__(message)
        self.http = http
        self.said = said or message
        """The server's message, without the request."""


_ATTEMPTS = 6
_CONFLICTS = frozenset({httpx.codes.CONFLICT, httpx.codes.PRECONDITION_FAILED})


def repeat_conflicts(change: Callable[[], None], what: str) -> None:
    """Read, change and write; retry after a conflicting write. Raises EmbeddedError if every attempt conflicts."""
    for attempt in range(_ATTEMPTS):
        try:
            return change()
        except RequestError as error:
            if error.http not in _CONFLICTS:
                raise
            time.sleep(0.05 * 2**attempt)
    raise EmbeddedError(f"{what} kept changing while it was being changed")


class Rest:
    """A connection pool to the emulator. Safe to use from several threads."""

    def __init__(self, endpoints: Mapping[str, str], *, token: str = PLACEHOLDER_TOKEN) -> None:
        self._endpoints = endpoints
        self._client = httpx.Client(
            timeout=TIMEOUT_S, headers={"Authorization": f"Bearer {token}"}, trust_env=False, follow_redirects=False
        )

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def call(
        self,
        service: str,
        method: str,
        path: str,
        body: Any = None,
        *,
        params: Mapping[str, str] | None = None,
    ) -> dict[str, Any]:
        """Send a request and return the JSON of the response, {} if it is empty.

        Raises:
            RequestError: the status is not 2xx; `http` holds it.
            EmbeddedError: nothing answers.
        """
        return self._send(method, self._address(service, path) + path, params=params, json=body)

    def find(self, service: str, path: str, *, params: Mapping[str, str] | None = None) -> dict[str, Any] | None:
        """Return the response of GET, or None after 404."""
        try:
            return self.call(service, "GET", path, params=params)
        except RequestError as error:
            if error.http == httpx.codes.NOT_FOUND:
                return None
            raise

    def items(
        self, service: str, path: str, key: str, *, params: Mapping[str, str] | None = None
    ) -> Iterator[dict[str, Any]]:
        """Yield the members of a list, page by page; nothing if the list does not exist."""
        asked = dict(params or {})
        while True:
            page = self.find(service, path, params=asked) or {}
            yield from page.get(key, [])
            if not page.get("nextPageToken"):
                return
            asked["pageToken"] = page["nextPageToken"]

    def upload(self, bucket: str, metadata: dict[str, Any], content: bytes) -> dict[str, Any]:
        """Upload an object in one multipart request, as the provider does."""
        import json
        import secrets

        boundary = secrets.token_hex(16)
        kind = str(metadata.get("contentType", "application/octet-stream"))
        body = b"\r\n".join(
            [
                f"--{boundary}\r\nContent-Type: application/json\r\n".encode(),
                json.dumps(metadata).encode(),
                f"--{boundary}\r\nContent-Type: {kind}\r\n".encode(),
                content,
                f"--{boundary}--\r\n".encode(),
            ]
        )
        base = urlsplit(self._address("storage"))
        address = f"{base.scheme}://{base.netloc}/upload{base.path}b/{bucket}/o"
        return self._send(
            "POST",
            address,
            params={"uploadType": "multipart", "name": str(metadata["name"])},
            content=body,
            headers={"Content-Type": f"multipart/related; boundary={boundary}"},
        )

    def download(self, bucket: str, encoded_name: str) -> bytes:
        """Return an object's content."""
        response = self._request(
            "GET", f"{self._address('storage')}b/{bucket}/o/{encoded_name}", params={"alt": "media"}
        )
        return response.content

    def wait(self, service: str, operation: dict[str, Any]) -> dict[str, Any]:
        """Return the response of a long-running operation once it is done.

        Raises:
            EmbeddedError: the operation failed or took longer than two minutes.
        """
        deadline = time.monotonic() + OPERATION_TIMEOUT_S
        while not operation.get("done"):
            if time.monotonic() > deadline:
                raise EmbeddedError(f"{operation.get('name')} has not ended after {OPERATION_TIMEOUT_S:g} s")
            time.sleep(_POLL_S)
            operation = self.call(service, "GET", str(operation["name"]))
        if "error" in operation:
            raise EmbeddedError(f"{operation.get('name')} failed: {operation['error'].get('message')}")
        response: dict[str, Any] = operation.get("response") or {}
        return response

    def _address(self, service: str, path: str = "") -> str:
        key = SERVICES[service]
        address = self._endpoints.get(key)
        if not address:
            raise EmbeddedError(f"gcp:{key} is not set, and Google's own API is never called from here")
        if service == "jobs":  # only the beta version returns their output folder
            address = re.sub(r"/v1/$", "/v1beta1/", address)
        if "{location}" in address:
            match = _LOCATION.search(path)
            location = match[1] if match else "us-central1"
            address = address.replace("{location}-", "" if location == "global" else f"{location}-")
        return address

    def _send(self, method: str, address: str, **arguments: Any) -> dict[str, Any]:
        response = self._request(method, address, **arguments)
        if not response.content:
            return {}
        answer: dict[str, Any] = response.json()
        return answer

    def _request(self, method: str, address: str, **arguments: Any) -> httpx.Response:
        try:
            response = self._client.request(method, address, **arguments)
        except httpx.HTTPError as error:
            raise NoAnswerError(
                f"no answer from {address}: {error}", hint="`runner emulator start` starts the emulator"
            ) from error
        if not response.is_success:
            path = urlsplit(address).path
            raise RequestError(
                f"{method} {path} was refused with {response.status_code}: {_message(response)}",
                http=response.status_code,
                said=_message(response),
            )
        return response


def _message(response: httpx.Response) -> str:
    try:
        return str(response.json()["error"]["message"])
    except (ValueError, KeyError, TypeError):
        return response.text[:300]
