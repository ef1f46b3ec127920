"""Tokens signed with a service account key: JSON Web Tokens, exchanged for access tokens or sent instead.

Google's libraries send them directly if they need no particular scopes: gapic and Node sign a token for each address.
"""

from __future__ import annotations

import base64
import sqlite3
from datetime import datetime, timedelta
from typing import Any

from runner.emulator import store, wire_json
from runner.emulator.errors import ApiError
from runner.emulator.iam.accounts import ACCOUNT_KIND, KEY_KIND

_LIFETIME = timedelta(seconds=3600)
_SKEW = timedelta(seconds=300)


class InvalidAssertionError(Exception):
    """A token that does not prove its account; the message is Google's."""


def read(connection: sqlite3.Connection, assertion: str, now: datetime) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the account that signed a token, and the token's contents. Raises InvalidAssertionError."""
    header, claims, signed, signature = _parse(assertion)
    account = store.find(connection, ACCOUNT_KIND, str(claims.get("iss", "")))
    if account is None:
        raise InvalidAssertionError("Invalid grant: account not found")
    if account.get("disabled"):
        raise InvalidAssertionError("Invalid grant: account is disabled")
    key = store.find(connection, KEY_KIND, f"{account['uniqueId']}/{header.get('kid', '')}")
    if header.get("alg") != "RS256" or key is None or not verifies(key["publicKey"], signature, signed):
        raise InvalidAssertionError("Invalid JWT Signature.")
    _check_times(claims, now)
    return account, claims


def sender(connection: sqlite3.Connection, token: str, now: datetime) -> str | None:
    """Return the address of the account whose key signed a token; None for a token of no account here.

    Raises:
        InvalidAssertionError: it names an account of this server without a proof, or names no purpose.
    """
    if token.count(".") != 2:
        return None
    try:
        named = str(_parse(token)[1].get("iss", ""))
    except InvalidAssertionError:
        return None
    if store.find(connection, ACCOUNT_KIND, named) is None:
        return None
    account, claims = read(connection, token, now)
    if not claims.get("scope") and not str(claims.get("aud", "")).startswith(("https://", "http://")):
        raise InvalidAssertionError("Invalid JWT: it has neither scope nor audience.")
    return str(account["email"])


def _parse(assertion: str) -> tuple[dict[str, Any], dict[str, Any], bytes, bytes]:
    parts = assertion.split(".")
    try:
        header, claims, signature = (base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)) for part in parts)
        decoded = wire_json.loads(header), wire_json.loads(claims)
    except (ValueError, ApiError) as error:
        raise InvalidAssertionError("Invalid JWT: Failed to parse the token.") from error
    return *decoded, ".".join(parts[:2]).encode(), signature


def _check_times(claims: dict[str, Any], now: datetime) -> None:
    try:
        issued, expires = float(claims["iat"]), float(claims["exp"])
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise InvalidAssertionError("Invalid JWT: iat and exp are required.") from error
    seconds, skew = now.timestamp(), _SKEW.total_seconds()
    if not issued - skew <= seconds <= expires + skew or expires - issued > _LIFETIME.total_seconds():
        raise InvalidAssertionError(
            "Invalid JWT: Token must be a short-lived token (60 minutes) and in a reasonable timeframe. "
            "Check your iat and exp values in the JWT claim."
        )


def verifies(public: str, signature: bytes, signed: bytes) -> bool:
    """Return whether a public key (PEM) of a service account verifies a signature (RSA PKCS #1 v1.5, SHA-256)."""
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import padding, rsa
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    key = load_pem_public_key(public.encode())
    if not isinstance(key, rsa.RSAPublicKey):
        return False
    try:
        key.verify(signature, signed, padding.PKCS1v15(), hashes.SHA256())
    except InvalidSignature:
        return False
    return True
