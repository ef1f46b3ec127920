"""Access tokens of service accounts.

A token issued here belongs to its account until it expires, and is refused afterwards; so does a token that the
account's key has signed. Any other token, or none, belongs to the developer, who has all permissions, so that the
emulator can be used without credentials.
"""

from __future__ import annotations

import hashlib
import secrets
import sqlite3
from datetime import datetime, timedelta

from runner.emulator import store
from runner.emulator.errors import ApiError

KIND = "access-token"
_PREFIX = "ya29.emulator-"
"""Distinguishes a token that was issued here and deleted since from a developer's own."""


def issue(connection: sqlite3.Connection, email: str, now: datetime, lifetime: timedelta) -> tuple[str, datetime]:
    """Return a new access token of an account and its expiry. Only its hash is stored."""
    for name, body in store.scan(connection, KIND):
        if datetime.fromisoformat(body["expires"]) <= now:
            store.remove(connection, KIND, name)
    token = _PREFIX + secrets.token_urlsafe(48)
    expires = now + lifetime
    store.put(connection, KIND, _hash(token), {"email": email, "expires": expires.isoformat()})
    return token, expires


def owner(connection: sqlite3.Connection, token: str, now: datetime) -> str | None:
    """Return the address of a token's account; None if it was not issued here.

    Raises:
        ApiError: UNAUTHENTICATED if it was issued here and has expired.
    """
    body = store.find(connection, KIND, _hash(token))
    if body is not None and datetime.fromisoformat(body["expires"]) > now:
        return str(body["email"])
    if body is not None or token.startswith(_PREFIX):
        raise refused()
    return None


def refused() -> ApiError:
    """Return the 401 for invalid credentials."""
    return ApiError(
        "UNAUTHENTICATED",
        "Request had invalid authentication credentials. Expected OAuth 2 access token, login cookie or other"
        " valid authentication credential. See https://developers.google.com/identity/sign-in/web/devconsole-project.",
    )


def _hash(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()
