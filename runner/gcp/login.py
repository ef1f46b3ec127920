"""The login: a service account key, or the credentials that `google_login` finds on this machine.

With a key of the usual type, this module signs the token requests with cryptography: google-auth takes a sixth of a
second of CPU time for that, more than everything else in a read-only command. google-auth handles all other
credentials, and keys that it should refuse.
"""

from __future__ import annotations

import base64
import json
import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol
from urllib.parse import urlencode

from runner.addresses import is_safe
from runner.errors import GoogleApiError, PermissionDeniedError
from runner.gcp.failures import call, document_of
from runner.gcp.rest import Response, RestClient, StatusError
from runner.gcp.service_clock import ahead_of, elapsed, off
from runner.json_text import parsed

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey

SCOPE = "https://www.googleapis.com/auth/cloud-platform"
AUDIENCE = "https://oauth2.googleapis.com/token"
"""The audience of each assertion, regardless of the address that gets it."""
VARIABLE = "GOOGLE_APPLICATION_CREDENTIALS"
_GRANT = "urn:ietf:params:oauth:grant-type:jwt-bearer"
_VALID_SECONDS = 3600
EARLY_SECONDS = 225.0
"""Seconds before its end from which a token is no longer used, as in google-auth."""
_REFUSALS = frozenset({400, 401, 403, 404})


class Login(Protocol):
    """Gets tokens."""

    @property
    def token(self) -> str | None:
        """The bearer token; None before the first `refresh`."""

    @property
    def valid(self) -> bool:
        """Whether the token can still be used."""

    def refresh(self) -> None:
        """Get a new token. Raises PermissionDeniedError, UnreachableError, GoogleApiError."""


def key_given() -> ServiceAccountKey | None:
    """Return the service account key that the environment names; None if google-auth finds another login."""
    path = os.environ.get(VARIABLE)
    return _key_in(Path(path)) if path else None


def refused(message: str, otherwise: str = "", *, ahead: float | None = None) -> PermissionDeniedError:
    """Return the error for credentials that are missing or cannot be used.

    Args:
        message: the error.
        otherwise: the end of the hint.
        ahead: by how many seconds this machine's clock was ahead of the response that refused them.
    """
    clock = off(ahead)
    hint = "set the clock (`sudo timedatectl set-ntp true`) and run the same command again; otherwise " if clock else ""
    return PermissionDeniedError(
        f"{message}; {clock}" if clock else message,
        status="UNAUTHENTICATED",
        http=401,
        hint=f"{hint}`gcloud auth application-default login`{otherwise}",
    )


def useless(path: object, why: str, *, ahead: float | None = None) -> PermissionDeniedError:
    """Return the error for a credentials file without a valid token; the arguments are those of `refused`."""
    message = f"the Google credentials in {path} cannot be refreshed: {why}"
    return refused(message, f", or another file in {VARIABLE}", ahead=ahead)


@dataclass(slots=True)
class ServiceAccountKey:
    """The key of a service account."""

    account: str
    id: str
    address: str
    """Address of the token service."""
    key: RSAPrivateKey
    file: Path
    """Path of the key file."""
    token: str | None = None
    _until: float = 0.0

    @property
    def valid(self) -> bool:
        """Return whether the token can still be used."""
        return self.token is not None and elapsed() < self._until

    def refresh(self) -> None:
        """Get a new token. Raises PermissionDeniedError, UnreachableError, GoogleApiError."""
        if not is_safe(self.address):
            raise useless(self.file, f"its token_uri {self.address!r} is neither https:// nor on this machine")
        method = "oauth2.token"
        body = urlencode({"assertion": self.assertion(int(time.time())), "grant_type": _GRANT}).encode()
        headers = {"Content-Type": "application/x-www-form-urlencoded"}

        def ask() -> Response:
            with RestClient() as client:
                return client.post(self.address, content=body, headers=headers).raise_for_status()

        asked = elapsed()
        try:
            answer = document_of(call(method, self.account, ask, idempotent=True), method, self.account)
        except GoogleApiError as error:
            if error.http not in _REFUSALS:
                raise
            cause = error.__cause__
            ahead = ahead_of(cause.response.headers) if isinstance(cause, StatusError) else None
            raise useless(self.file, error.message, ahead=ahead) from error
        token, seconds = answer.get("access_token"), answer.get("expires_in", _VALID_SECONDS)
        if not isinstance(token, str) or not token or not str(seconds).isdecimal():
            raise useless(self.file, "the answer holds no token")
        self.token, self._until = token, asked + int(seconds) - EARLY_SECONDS

    def assertion(self, now: int) -> str:
        """Return the signed assertion for this account (RFC 7523), with the time `now` in seconds since 1970."""
        from cryptography.exceptions import InvalidSignature
        from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
        from cryptography.hazmat.primitives.hashes import SHA256

        claims = {"iat": now, "exp": now + _VALID_SECONDS, "iss": self.account, "aud": AUDIENCE, "scope": SCOPE}
        text = f"{_base64({'typ': 'JWT', 'alg': 'RS256', 'kid': self.id})}.{_base64(claims)}"
        signature = self.key.sign(text.encode(), PKCS1v15(), SHA256())
        try:
            # The key's numbers were not proved when it was read; a signature by wrong ones would reveal the key.
            self.key.public_key().verify(signature, text.encode(), PKCS1v15(), SHA256())
        except InvalidSignature:
            raise refused(f"the private key of {self.account} in {self.file} is damaged") from None
        return f"{text}.{_base64(signature)}"


def _key_in(path: Path) -> ServiceAccountKey | None:
    """Return the key in a file; None if google-auth should read it, or report its error."""
    try:
        from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
        from cryptography.hazmat.primitives.serialization import load_pem_private_key

        body = parsed(path.read_bytes())
        if body["type"] != "service_account" or body.get("universe_domain", "googleapis.com") != "googleapis.com":
            return None
        account, number, address = body["client_email"], body["private_key_id"], body["token_uri"]
        # Proving that the numbers are primes takes longer than everything else; `assertion` checks the signature
        # instead.
        key = load_pem_private_key(body["private_key"].encode(), None, unsafe_skip_rsa_key_validation=True)
    except Exception:
        return None
    if not isinstance(key, RSAPrivateKey) or not all(isinstance(text, str) for text in (account, number, address)):
        return None
    return ServiceAccountKey(account, number, address, key, path)


def _base64(value: bytes | dict[str, object]) -> str:
    content = value if isinstance(value, bytes) else json.dumps(value).encode()
    return base64.urlsafe_b64encode(content).decode().rstrip("=")
