"""Signed requests of the XML API: signed URLs, signed headers, and signed forms (V4 and V2).

See https://cloud.google.com/storage/docs/authentication/signatures. The signature names its signer, which determines
the key: a service account key of this server, or an HMAC key created here. With such a key, a signature must be right,
and the request belongs to the account. For other signers, only the time is checked, and the request belongs to the
developer.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import re
import sqlite3
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from urllib.parse import parse_qsl, quote, urlencode

from runner.emulator import store
from runner.emulator.errors import ApiError
from runner.emulator.iam.accounts import ACCOUNT_KIND, KEY_KIND
from runner.emulator.iam.assertions import verifies
from runner.emulator.routing import ApiRequest
from runner.emulator.storage import hmac_keys, virtual_hosts
from runner.emulator.storage.faults import bad_request, unsupported

SIGNER = "storage.signer"
"""Key in a request's scope: address of the service account that signed it."""
UNSIGNED = "UNSIGNED-PAYLOAD"
_LONGEST = 7 * 86400
_SKEW = timedelta(minutes=15)
_V4 = re.compile(r"(GOOG4-RSA-SHA256|GOOG4-HMAC-SHA256|AWS4-HMAC-SHA256)\Z")
_V4_HEADER = re.compile(r"((?:GOOG4|AWS4)-[A-Z]+-SHA256)\s+(.*)\Z", re.DOTALL)
_V2_HEADER = re.compile(r"(GOOG1|AWS)\s+([^:\s]+):(\S+)\Z")
_SUBRESOURCES = frozenset(
    {"acl", "cors", "delete", "lifecycle", "location", "logging", "partNumber", "storageClass", "uploadId", "uploads"}
    | {"versioning", "versions", "website", "tagging", "encryption", "billing"}
)
"""Query parameters in V2's canonical resource; others (`generation`, `response-…`) are not signed."""


@dataclass(frozen=True, slots=True)
class Signed:
    """The parameters of a V4 signature."""

    algorithm: str
    credential: str
    date: str
    headers: str
    """Names of the signed headers, with semicolons."""
    signature: str

    @property
    def scope(self) -> str:
        """Return the credential's scope: day, location, service and kind."""
        return "/".join(self._parts()[1:])

    @property
    def owner(self) -> str:
        """Return the signer: an account's address or an access ID."""
        return self._parts()[0]

    def _parts(self) -> list[str]:
        return self.credential.rsplit("/", 4)


def verify(request: ApiRequest) -> None:
    """Check a request's signature, if it has one, and store the signing account in its scope.

    Raises ApiError 400 (invalid, expired), 403 (wrong).
    """
    lower = {key.lower(): value for key, value in request.query_params.items()}
    for prefix in ("x-goog-", "x-amz-"):
        if f"{prefix}signature" in lower or f"{prefix}algorithm" in lower:
            _verify_url(request, lower, prefix)
            return
    if "signature" in lower and ("googleaccessid" in lower or "awsaccesskeyid" in lower):
        _verify_v2_url(request, lower)
        return
    header = request.headers.get("authorization", "")
    if match := _V4_HEADER.match(header):
        _verify_header(request, match[1], match[2])
    elif match := _V2_HEADER.match(header):
        text = _v2_text(request, _v2_date(request.headers))
        _note(request, match[2], lambda key: _is_v2(key, match[3], [text]), text)


def verify_text(request: ApiRequest, signed: Signed, text: bytes) -> None:
    """Check the signature of a text, which is a form's policy. Raises ApiError 403."""
    _note(request, signed.owner, lambda key: _is_v4(key, signed, text), text.decode("latin-1"))


def verify_policy_v2(request: ApiRequest, access_id: str, signature: str, text: str) -> None:
    """Check the V2 signature of a form's policy. Raises ApiError 403."""
    _note(request, access_id, lambda key: _is_v2(key, signature, [text]), text)


def check_time(request: ApiRequest, date: str, seconds: str) -> None:
    """Raise ApiError 400 unless now is within `seconds` from `date` (`20260101T000000Z`)."""
    now = request.emulator.clock.of_clients()
    try:
        begin = datetime.strptime(date, "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
        lifetime = int(seconds)
    except ValueError as error:
        raise bad_request("Malformed X-Goog-Date or X-Goog-Expires.", "InvalidArgument") from error
    if not 0 < lifetime <= _LONGEST:
        raise bad_request(f"X-Goog-Expires must be from 1 to {_LONGEST} seconds.", "InvalidArgument")
    if now > begin + timedelta(seconds=lifetime):
        raise bad_request(f"Request signature expired at: {begin + timedelta(seconds=lifetime)}", "ExpiredToken")
    if now < begin - _SKEW:
        raise bad_request("The signed URL is not valid yet.", "InvalidArgument")


def _verify_url(request: ApiRequest, lower: Mapping[str, str], prefix: str) -> None:
    names = ("algorithm", "credential", "date", "expires", "signedheaders", "signature")
    missing = [name for name in names if f"{prefix}{name}" not in lower]
    if missing:
        raise bad_request(f"Missing query parameters of a signed URL: {', '.join(missing)}", "InvalidArgument")
    check_time(request, lower[f"{prefix}date"], lower[f"{prefix}expires"])
    algorithm, credential, date, _, headers, signature = (lower[f"{prefix}{name}"] for name in names)
    signed = Signed(algorithm, credential, date, headers, signature)
    _verify_v4(request, signed, request.headers.get(f"{prefix}content-sha256", UNSIGNED))


def _verify_header(request: ApiRequest, algorithm: str, rest: str) -> None:
    prefix = "x-amz-" if algorithm.startswith("AWS4") else "x-goog-"
    pairs = dict(part.strip().partition("=")[::2] for part in rest.split(","))
    headers = request.headers
    date = headers.get(f"{prefix}date", "")
    payload = headers.get(f"{prefix}content-sha256", UNSIGNED)
    if payload.startswith("STREAMING-"):
        raise unsupported("bodies signed in chunks (aws-chunked), as Cloud Storage does not either")
    check_time(request, date, str(int(_SKEW.total_seconds())))
    signed = Signed(
        algorithm, pairs.get("Credential", ""), date, pairs.get("SignedHeaders", ""), pairs.get("Signature", "")
    )
    _verify_v4(request, signed, payload)


def _verify_v4(request: ApiRequest, signed: Signed, payload: str) -> None:
    if not _V4.match(signed.algorithm):
        raise bad_request(f"Unknown signing algorithm {signed.algorithm}.", "InvalidArgument")
    if not signed.headers.isascii():
        raise bad_request("Malformed names of signed headers.", "InvalidArgument")
    hosts = [request.headers.get("host", ""), "storage.googleapis.com"]  # a URL for the service, sent to the emulator
    texts = [_canonical(request, signed, payload, host) for host in hosts]
    strings = [
        "\n".join([signed.algorithm, signed.date, signed.scope, hashlib.sha256(_bytes(text)).hexdigest()])
        for text in texts
    ]
    _note(
        request,
        signed.owner,
        lambda key: any(_is_v4(key, signed, string.encode()) for string in strings),
        f"{strings[0]}\n\n{texts[0]}",
    )


def _canonical(request: ApiRequest, signed: Signed, payload: str, host: str) -> str:
    """Return the canonical request (https://cloud.google.com/storage/docs/authentication/canonical-requests)."""
    pairs = [
        (quote(key, safe="-_.~"), quote(value, safe="-_.~"))
        for key, value in parse_qsl(request.scope["query_string"].decode("latin-1"), keep_blank_values=True)
        if key.lower() not in ("x-goog-signature", "x-amz-signature")
    ]
    lines = []
    for name in signed.headers.split(";"):
        value = host if name == "host" else ",".join(request.headers.getlist(name))
        lines.append(f"{name}:{' '.join(value.split())}\n")
    query = "&".join(f"{key}={value}" for key, value in sorted(pairs))
    path = virtual_hosts.sent_path(request.scope).split(b"?", 1)[0].decode("latin-1")
    return "\n".join([request.method, path, query, "".join(lines), signed.headers, payload])


def _path(request: ApiRequest) -> str:
    raw: bytes = request.scope["raw_path"]
    return raw.split(b"?", 1)[0].decode("latin-1")


def _verify_v2_url(request: ApiRequest, lower: Mapping[str, str]) -> None:
    expires = lower.get("expires", "")
    if not expires.isascii() or not expires.isdigit():
        raise bad_request("Malformed Expires.", "InvalidArgument")
    if request.emulator.clock.of_clients().timestamp() > int(expires):
        raise bad_request(f"Request signature expired at: {expires}", "ExpiredToken")
    texts = [_v2_text(request, expires), _v2_text(request, expires, whole=True)]
    owner = lower.get("googleaccessid") or lower.get("awsaccesskeyid", "")
    _note(request, owner, lambda key: _is_v2(key, lower["signature"], texts), texts[0])


def _v2_date(headers: Mapping[str, str]) -> str:
    return "" if "x-amz-date" in headers or "x-goog-date" in headers else headers.get("date", "")


def _v2_text(request: ApiRequest, date: str, *, whole: bool = False) -> str:
    """Return the text that V2 signs; `whole` includes all other query parameters, as some clients do."""
    own = {"googleaccessid", "awsaccesskeyid", "expires", "signature"}
    pairs = [
        (key, value)
        for key, value in parse_qsl(request.scope["query_string"].decode("latin-1"), keep_blank_values=True)
        if (key.lower() not in own if whole else key in _SUBRESOURCES)
    ]
    resource = _path(request)
    if whole and pairs:
        resource += "?" + urlencode(pairs)
    elif pairs:
        resource += "?" + "&".join(f"{key}={value}" if value else key for key, value in sorted(pairs))
    headers = request.headers
    extension = sorted(
        {
            name: ",".join(headers.getlist(name))
            for name in headers
            if name.startswith(("x-goog-", "x-amz-")) and not name.startswith("x-goog-encryption-key")
        }.items()
    )
    lines = [request.method, headers.get("content-md5", ""), headers.get("content-type", ""), date]
    return "\n".join([*lines, *(f"{name}:{value}" for name, value in extension), resource])


@dataclass(frozen=True, slots=True)
class _Keys:
    """The key for checking a signature, and its owner."""

    email: str
    public: tuple[str, ...] = ()
    """Public keys of the account, PEM."""
    secret: str = ""


def _keys(connection: sqlite3.Connection, owner: str) -> _Keys | None:
    if "@" not in owner:
        key = hmac_keys.find(connection, owner)
        return None if key is None else _Keys(key["serviceAccountEmail"], secret=key["secret"])
    account = store.find(connection, ACCOUNT_KIND, owner)
    if account is None:
        return None
    public = [body["publicKey"] for _, body in store.scan(connection, KEY_KIND, f"{account['uniqueId']}/")]
    return _Keys(owner, tuple(public))


def _note(request: ApiRequest, owner: str, is_right: Callable[[_Keys], bool], text: str) -> None:
    keys = request.emulator.store.read(lambda connection: _keys(connection, owner))
    if keys is None:
        if owner.startswith(hmac_keys.PREFIX):
            raise ApiError("PERMISSION_DENIED", f"Access denied: {owner} is not in use.", reason="InvalidAccessKeyId")
        return
    if not is_right(keys):
        raise ApiError("PERMISSION_DENIED", f"The string to sign is:\n{text}", reason="SignatureDoesNotMatch")
    request.scope[SIGNER] = keys.email


def _is_v4(keys: _Keys, signed: Signed, text: bytes) -> bool:
    if not keys.secret:
        try:
            signature = binascii.unhexlify(signed.signature)
        except (ValueError, binascii.Error):
            return False
        return any(verifies(public, signature, text) for public in keys.public)
    kind = "AWS4" if signed.algorithm.startswith("AWS4") else "GOOG4"
    key = f"{kind}{keys.secret}".encode()
    for part in signed.scope.split("/"):
        key = hmac.digest(key, part.encode(), "sha256")
    return hmac.compare_digest(hmac.digest(key, text, "sha256").hex().encode(), signed.signature.encode())


def _is_v2(keys: _Keys, signature: str, texts: list[str]) -> bool:
    try:
        given = base64.b64decode(signature)
    except (ValueError, binascii.Error):
        return False
    if keys.secret:
        return any(
            hmac.compare_digest(hmac.digest(keys.secret.encode(), _bytes(text), "sha1"), given) for text in texts
        )
    return any(verifies(public, given, _bytes(text)) for public in keys.public for text in texts)


def _bytes(text: str) -> bytes:
    """Return what the client signed: paths and headers were read as Latin-1, byte by byte."""
    return text.encode("latin-1", "replace")
