"""Keys of service accounts, and the tokens that clients get with keys or permissions.

This server creates a key's private half, returns it once in the file that Google's libraries read, and does not store
it. Its `token_uri` is this server's, so that a client with the file proves possession of the key to the emulator.
"""

from __future__ import annotations

import asyncio
import base64
import json
import secrets
import sqlite3
from datetime import timedelta
from typing import Any
from urllib.parse import parse_qs

from starlette.responses import Response

from runner.emulator import enablement, store
from runner.emulator.errors import ApiError, invalid, not_here
from runner.emulator.iam import assertions, callers, tokens
from runner.emulator.iam.accounts import KEY_KIND
from runner.emulator.iam.assertions import InvalidAssertionError
from runner.emulator.iam.service_accounts import find, policies_on
from runner.emulator.resources import reading, writing
from runner.emulator.routing import ApiRequest, json_response

GRANT = "urn:ietf:params:oauth:grant-type:jwt-bearer"
_LIFETIME = timedelta(seconds=3600)
_MAX_KEYS = 10
_FOREVER = "9999-12-31T23:59:59Z"


class _OauthError(Exception):
    """An error of the token endpoint, in OAuth's format (RFC 6749, 5.2)."""

    def __init__(self, error: str, description: str) -> None:
        super().__init__(description)
        self.body = {"error": error, "error_description": description}


async def create_key(request: ApiRequest) -> Response:
    """Create a key and return it with its private half, for the only time."""
    body = await request.read_json()
    kind = body.get("privateKeyType", "TYPE_GOOGLE_CREDENTIALS_FILE")
    algorithm = body.get("keyAlgorithm", "KEY_ALG_RSA_2048")
    if kind not in ("TYPE_GOOGLE_CREDENTIALS_FILE", "TYPE_UNSPECIFIED"):
        raise not_here("The emulator makes keys as credentials files only.")
    if algorithm not in ("KEY_ALG_RSA_2048", "KEY_ALG_UNSPECIFIED"):
        raise not_here("The emulator makes 2048-bit RSA keys only.")
    private, public = await asyncio.to_thread(_new_key)
    key_id = secrets.token_hex(20)

    def work(connection: sqlite3.Connection) -> dict[str, Any]:
        account = find(connection, request.fields["project"], request.fields["account"])
        if len(list(store.scan(connection, KEY_KIND, f"{account['uniqueId']}/"))) >= _MAX_KEYS:
            raise ApiError("FAILED_PRECONDITION", "Precondition check failed: the account has 10 keys already.")
        document = {
            "name": f"{account['name']}/keys/{key_id}",
            "validAfterTime": request.emulator.clock.now().strftime("%Y-%m-%dT%H:%M:%SZ"),
            "validBeforeTime": _FOREVER,
            "keyAlgorithm": "KEY_ALG_RSA_2048",
            "keyOrigin": "GOOGLE_PROVIDED",
            "keyType": "USER_MANAGED",
        }
        store.insert(connection, KEY_KIND, f"{account['uniqueId']}/{key_id}", {**document, "publicKey": public})
        credentials = _credentials_file(request, account, key_id, private)
        file = base64.b64encode(json.dumps(credentials, indent=2).encode()).decode()
        return {**document, "privateKeyType": "TYPE_GOOGLE_CREDENTIALS_FILE", "privateKeyData": file}

    return json_response(await request.emulator.store.write(work))


def _new_key() -> tuple[str, str]:
    """Return a new RSA key as PEM: the private half, the public half."""
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import rsa

    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    public = key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    return private.decode(), public.decode()


def _credentials_file(request: ApiRequest, account: dict[str, Any], key_id: str, private: str) -> dict[str, str]:
    return {
        "type": "service_account",
        "project_id": account["projectId"],
        "private_key_id": key_id,
        "private_key": private,
        "client_email": account["email"],
        "client_id": account["uniqueId"],
        "auth_uri": f"{request.base}/auth",
        "token_uri": f"{request.base}/token",
        "universe_domain": "googleapis.com",
    }


def _shown(document: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in document.items() if name != "publicKey"}


@reading
def list_keys(connection: sqlite3.Connection, request: ApiRequest) -> dict[str, Any]:
    """List an account's keys."""
    account = find(connection, request.fields["project"], request.fields["account"])
    return {"keys": [_shown(body) for _, body in store.scan(connection, KEY_KIND, f"{account['uniqueId']}/")]}


def _key(connection: sqlite3.Connection, request: ApiRequest) -> tuple[str, dict[str, Any]]:
    account = find(connection, request.fields["project"], request.fields["account"])
    name = f"{account['uniqueId']}/{request.fields['key']}"
    document = store.get(
        connection, KEY_KIND, name, missing=f"Service account key {request.fields['key']} does not exist."
    )
    return name, document


@reading
def get_key(connection: sqlite3.Connection, request: ApiRequest) -> dict[str, Any]:
    """Return a key without its private half."""
    return _shown(_key(connection, request)[1])


@writing
def delete_key(connection: sqlite3.Connection, request: ApiRequest) -> None:
    """Delete a key, which then gets no more tokens."""
    store.remove(connection, KEY_KIND, _key(connection, request)[0])


@writing
def generate_access_token(connection: sqlite3.Connection, request: ApiRequest) -> dict[str, Any]:
    """Return a token of an account to a caller that can impersonate it."""
    body = request.document
    if not body.get("scope"):
        raise invalid("The field 'scope' is required.")
    lifetime = timedelta(seconds=float(body.get("lifetime", "3600s").removesuffix("s")))
    if not timedelta(0) < lifetime <= _LIFETIME:
        raise invalid("The field 'lifetime' must be a duration of at most 3600s.")
    account = find(connection, request.fields["project"], request.fields["account"])
    enablement.require(connection, account["projectId"], "iamcredentials.googleapis.com")
    permission = "iam.serviceAccounts.getAccessToken"
    callers.require(connection, request, policies_on(connection, account), permission, account["name"])
    if account.get("disabled"):
        raise ApiError("FAILED_PRECONDITION", f"Service account {account['email']} is disabled.")
    token, expires = tokens.issue(connection, account["email"], request.emulator.clock.now(), lifetime)
    return {"accessToken": token, "expireTime": expires.strftime("%Y-%m-%dT%H:%M:%SZ")}


async def token(request: ApiRequest) -> Response:
    """Exchange a JWT signed with a service account's key for an access token (RFC 7523)."""
    form = parse_qs((await request.read_body()).decode("utf-8", "replace"))
    try:
        if form.get("grant_type") != [GRANT]:
            raise _OauthError("unsupported_grant_type", f"Invalid grant_type: {form.get('grant_type', [''])[0]}")
        body = await request.emulator.store.write(
            lambda connection: _exchange(connection, request, form.get("assertion", [""])[0])
        )
    except _OauthError as error:
        return json_response(error.body, 400)
    except InvalidAssertionError as error:
        return json_response({"error": "invalid_grant", "error_description": str(error)}, 400)
    return json_response(body)


def _exchange(connection: sqlite3.Connection, request: ApiRequest, assertion: str) -> dict[str, Any]:
    account, claims = assertions.read(connection, assertion, request.emulator.clock.of_clients())
    audience = claims.get("aud")
    if audience not in (f"{request.base}/token", "https://oauth2.googleapis.com/token"):
        raise InvalidAssertionError(f"Invalid JWT: the audience {audience!r} is not this token endpoint.")
    if "target_audience" in claims:
        raise _OauthError("unsupported_response_type", "The emulator issues access tokens, no identity tokens.")
    value, _ = tokens.issue(connection, account["email"], request.emulator.clock.now(), _LIFETIME)
    return {"access_token": value, "expires_in": int(_LIFETIME.total_seconds()) - 1, "token_type": "Bearer"}
