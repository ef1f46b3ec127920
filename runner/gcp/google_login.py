"""Application Default Credentials. Only this module imports google-auth, and only the parts that the login needs."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import google.auth
import google.auth._cloud_sdk
import google.auth.exceptions
import google.auth.transport
from google.auth.credentials import Credentials

from runner.addresses import is_safe
from runner.errors import UnreachableError
from runner.gcp.login import SCOPE, VARIABLE, refused, useless
from runner.gcp.rest import RestClient, TransportError
from runner.gcp.service_clock import ahead_of

_TIMEOUT_SECONDS = 120.0
"""The same as in google-auth's own transport."""
_PLAIN = ("google.oauth2.service_account", "google.oauth2.credentials", "google.auth.compute_engine.credentials")
"""Modules of credentials that send plain requests. Others may need a client certificate or a session of `requests`."""


def found() -> DefaultLogin:
    """Return Application Default Credentials. Raises PermissionDeniedError if there are none."""
    try:
        credentials, _ = google.auth.default(scopes=[SCOPE])
    except google.auth.exceptions.DefaultCredentialsError as error:
        raise refused("no Google credentials were found on this machine", ", or set RUNNER_TOKEN") from error
    return DefaultLogin(credentials)


class DefaultLogin:
    """Application Default Credentials."""

    def __init__(self, credentials: Credentials) -> None:
        self._credentials = credentials

    @property
    def token(self) -> str | None:
        """The bearer token; None before the first `refresh`."""
        token: str | None = self._credentials.token
        return token

    @property
    def valid(self) -> bool:
        """Return whether the token can still be used."""
        return bool(self._credentials.valid)

    def refresh(self) -> None:
        """Get a new token. Raises PermissionDeniedError, UnreachableError."""
        transport = _transport(self._credentials)
        try:
            self._credentials.refresh(transport)  # type: ignore[no-untyped-call]
        except google.auth.exceptions.TransportError as error:
            raise UnreachableError(f"the token service cannot be reached: {error}") from error
        except google.auth.exceptions.GoogleAuthError as error:
            ahead = transport.ahead if isinstance(transport, _PlainTransport) else None
            raise useless(_file(), str(error), ahead=ahead) from error


def _file() -> str:
    """Describe where google-auth found the credentials."""
    given = os.environ.get(VARIABLE)
    path = given or google.auth._cloud_sdk.get_application_default_credentials_path()  # type: ignore[no-untyped-call]
    return path if given or Path(path).exists() else "this machine's metadata server"


def _transport(credentials: Credentials) -> Any:
    """Return the transport of google-auth: the REST client if it suffices, because it is quick to import."""
    if type(credentials).__module__ in _PLAIN:
        return _PlainTransport()
    import google.auth.transport.requests

    return google.auth.transport.requests.Request()


class _PlainTransport(google.auth.transport.Request):
    ahead: float | None = None
    """By how many seconds this machine's clock was ahead of the last response."""

    def __call__(
        self,
        url: str,
        method: str = "GET",
        body: Any = None,
        headers: Any = None,
        timeout: float | None = _TIMEOUT_SECONDS,
        **_: Any,
    ) -> Any:
        content = body.encode() if isinstance(body, str) else body or b""
        if content and not is_safe(url):
            message = f"{url!r} is neither https:// nor on this machine: nothing was sent there"
            raise google.auth.exceptions.GoogleAuthError(message)  # type: ignore[no-untyped-call]
        try:
            with RestClient() as client:
                response = client.request(method, url, content=content, headers=headers, timeout=timeout)
        except TransportError as error:
            raise google.auth.exceptions.TransportError(error) from error  # type: ignore[no-untyped-call]
        self.ahead = ahead_of(response.headers)
        return _Answer(response.status_code, response.headers, response.content)


class _Answer(google.auth.transport.Response):
    def __init__(self, status: int, headers: Any, data: bytes) -> None:
        self._status, self._headers, self._data = status, headers, data

    @property
    def status(self) -> int:
        """HTTP status."""
        return self._status

    @property
    def headers(self) -> Any:
        """Headers with lowercase names."""
        return self._headers

    @property
    def data(self) -> bytes:
        """Body."""
        return self._data
