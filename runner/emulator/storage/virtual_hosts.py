"""Buckets in the host name, `BUCKET.storage.googleapis.com`, as in Cloud Storage's XML API.

A page cannot send such a request: Google's names do not resolve to this machine, and browsers resolve `*.localhost` to
it only for pages whose requests are refused.
"""

from __future__ import annotations

import re

from starlette.types import Scope

from runner.emulator.remembered import HOST, remembered

SERVICE = "storage.googleapis.com"
_HOST = re.compile(
    rf"(?:(?P<bucket>[a-z0-9][a-z0-9._-]{{1,220}}[a-z0-9])\.)?(?:{re.escape(SERVICE)}|localhost)(?::\d+)?"
)
_SENT = "emulator.sent_path"


def placed(scope: Scope, host: str) -> Scope:
    """Return the scope with the bucket of its host before its path; unchanged if the host contains none."""
    bucket = _bucket(host.lower())
    if not bucket:
        return scope
    raw: bytes = scope.get("raw_path") or scope["path"].encode()
    return {**scope, "path": f"/{bucket}{scope['path']}", "raw_path": f"/{bucket}".encode() + raw, _SENT: raw}


@remembered(HOST)
def _bucket(host: str) -> str:
    found = _HOST.fullmatch(host)
    return (found and found["bucket"]) or ""


def is_storage(host: str) -> bool:
    """Return whether a host without its port is Cloud Storage's, or that of a bucket here."""
    found = _HOST.fullmatch(host.lower())
    return found is not None and (bool(found["bucket"]) or host.lower() == SERVICE)


def sent_path(scope: Scope) -> bytes:
    """Return the path as sent and signed by the client."""
    sent: bytes = scope.get(_SENT) or scope["raw_path"]
    return sent
