"""Uploads with an HTML form with a signed policy (https://cloud.google.com/storage/docs/authentication/signatures#policy-document)."""

from __future__ import annotations

import base64
import binascii
import json
import re
from datetime import datetime
from typing import Any
from urllib.parse import quote, urlencode

from starlette.responses import Response

from runner.emulator.errors import ApiError
from runner.emulator.routing import ApiRequest
from runner.emulator.storage import access, blobs, naming, objects, signatures
from runner.emulator.storage.faults import bad_request
from runner.emulator.storage.metadata import checked
from runner.emulator.storage.preconditions import NONE
from runner.emulator.storage.related import boundary_of
from runner.emulator.storage.xml import EXTENSIONS, SETTINGS, camel, document, element

Json = dict[str, Any]

_PARAMETER = re.compile(r';\s*(\w+)="((?:[^"\\]|\\.)*)"')
_SETTINGS = SETTINGS | {f"x-goog-{name}": field for name, field in EXTENSIONS.items()}
_UNCONDITIONAL = {"policy", "file", "signature", "googleaccessid", "x-goog-signature", "x-amz-signature"}
"""Fields that need no condition."""


async def take(request: ApiRequest) -> Response:
    """Store the file of a form. Raises ApiError 400, 403."""
    fields, data, name_of_file = parse(await request.read_body(), request.headers["content-type"])
    bucket = request.fields["bucket"]
    name = naming.check_object_name(fields.get("key", "").replace("${filename}", name_of_file))
    if "policy" in fields:
        _check_policy(request, fields, bucket, name, len(data))
    request.emulator.store.read(
        lambda connection: access.require_on(connection, request, "storage.objects.create", bucket=bucket, name=name)
    )
    given: Json = {field: fields[key] for key, field in _SETTINGS.items() if fields.get(key)}
    custom = {
        key.removeprefix("x-goog-meta-"): value for key, value in fields.items() if key.startswith("x-goog-meta-")
    }
    settings = checked(given | ({"metadata": custom} if custom else {}))
    if fields.get("acl"):
        settings["acl"] = camel(fields["acl"])
    writer = blobs.BlobWriter(request.emulator.blobs)
    await writer.write(data)
    record = await objects.insert(request.emulator, bucket, name, await writer.finish(), settings, NONE)
    tag = f'"{record.tag}"'
    target = fields.get("success_action_redirect") or fields.get("redirect")
    if target:
        query = urlencode({"bucket": bucket, "key": name, "etag": tag})
        return Response(status_code=303, headers={"Location": f"{target}{'&' if '?' in target else '?'}{query}"})
    link = f"{request.base}/{bucket}/{quote(name)}"
    if fields.get("success_action_status") == "201":
        parts = {"Location": link, "Bucket": bucket, "Key": name, "ETag": tag}
        return document("PostResponse", "".join(element(key, value) for key, value in parts.items()), 201)
    status = 200 if fields.get("success_action_status") == "200" else 204
    return Response(status_code=status, headers={"ETag": tag, "Location": link})


def parse(body: bytes, content_type: str) -> tuple[dict[str, str], bytes, str]:
    """Return a form's fields by their lowercase names, its file, and the file's name. Raises ApiError 400."""
    delimiter = b"--" + boundary_of(content_type)
    fields: dict[str, str] = {}
    for part in (b"\r\n" + body).split(b"\r\n" + delimiter)[1:]:
        if part.startswith(b"--"):
            break
        head, separator, data = part.partition(b"\r\n\r\n")
        disposition = next(
            (line for line in head.decode("utf-8", "replace").splitlines() if line.lower().startswith("content-disp")),
            "",
        )
        parameters = dict(_PARAMETER.findall(disposition))
        name = parameters.get("name", "").lower()
        if not separator or not name:
            raise bad_request("The form is malformed.", "MalformedPOSTRequest")
        if name == "file":  # what follows it is ignored, as on the service
            return fields, data, parameters.get("filename", "")
        fields[name] = data.decode("utf-8", "replace")
    raise bad_request("The form has no file.", "InvalidArgument")


def _check_policy(request: ApiRequest, fields: dict[str, str], bucket: str, name: str, size: int) -> None:
    encoded = fields["policy"]
    try:
        policy = json.loads(base64.b64decode(encoded, validate=True))
        expiration = datetime.fromisoformat(policy["expiration"])
        conditions = policy.get("conditions", [])
        late = request.emulator.clock.of_clients() > expiration
    except (ValueError, KeyError, TypeError, binascii.Error) as error:
        raise bad_request(f"Invalid policy document: {error}", "InvalidPolicyDocument") from error
    for prefix in ("x-goog-", "x-amz-"):
        if f"{prefix}signature" in fields:
            algorithm, credential, date = (fields.get(prefix + key, "") for key in ("algorithm", "credential", "date"))
            signed = signatures.Signed(algorithm, credential, date, "", fields[f"{prefix}signature"])
            signatures.verify_text(request, signed, encoded.encode("latin-1", "replace"))
            break
    else:
        if "signature" not in fields:
            raise bad_request("The policy has no signature.", "InvalidArgument")
        signatures.verify_policy_v2(request, fields.get("googleaccessid", ""), fields["signature"], encoded)
    if late:
        raise bad_request("Invalid policy document: it has expired.", "ExpiredToken")
    try:
        _check_conditions(conditions, {**fields, "bucket": bucket, "key": name}, size)
    except (TypeError, ValueError, AttributeError) as error:
        raise bad_request(f"Invalid policy document: {error}", "InvalidPolicyDocument") from error


def _check_conditions(conditions: Any, fields: dict[str, str], size: int) -> None:
    named = set(_UNCONDITIONAL) | {"bucket"}
    for condition in conditions:
        if isinstance(condition, dict):
            for key, value in condition.items():
                named.add(key.lower())
                _hold(fields.get(key.lower()) == str(value), condition)
            continue
        kind, first, second = condition if isinstance(condition, list) and len(condition) == 3 else ("", "", "")
        key = str(first).removeprefix("$").lower()
        if kind == "content-length-range":
            if not int(first) <= size <= int(second):
                code = "EntityTooLarge" if size > int(second) else "EntityTooSmall"
                raise bad_request(f"The file has {size} bytes; the policy allows {first} to {second}.", code)
            continue
        named.add(key)
        value = fields.get(key, "")
        _hold(value == second if kind == "eq" else kind == "starts-with" and value.startswith(str(second)), condition)
    for key in fields:
        _hold(key in named or key.startswith("x-ignore-"), {key: "no condition names this field"})


def _hold(holds: bool, condition: object) -> None:
    if not holds:
        raise ApiError(
            "PERMISSION_DENIED",
            f"Policy did not reference these fields, or they do not match: {json.dumps(condition)}",
            reason="AccessDenied",
        )
