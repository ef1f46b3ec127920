"""Access tokens of service accounts.

A token issued here stands for its account until it expires. Any other token, or none, is the developer: it may do
everything, which is what lets the emulator be used without credentials.
"""

from __future__ import annotations

import hashlib
import secrets
import sqlite3
from datetime import datetime, timedelta

from runner.emulator import store

KIND = "access-token"


def issue(connection: sqlite3.Connection, email: str, now: datetime, lifetime: timedelta) -> tuple[str, datetime]:
    """Return a new access token of an account and the time it expires. Only its hash is stored."""
    for name, body in store.scan(connection, KIND):
        if datetime.fromisoformat(body["expires"]) <= now:
            store.remove(connection, KIND, name)
    token = "ya29." + secrets.token_urlsafe(48)
    expires = now + lifetime
    store.put(connection, KIND, _hash(token), {"email": email, "expires": expires.isoformat()})
    return token, expires


def owner(connection: sqlite3.Connection, token: str, now: datetime) -> str | None:
    """Return the address of the account a token belongs to, None when it is not one of ours or has expired."""
    body = store.find(connection, KIND, _hash(token))
    if body is None or datetime.fromisoformat(body["expires"]) <= now:
        return None
    return str(body["email"])


def _hash(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()
