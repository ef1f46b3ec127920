"""Exchanges held against Google's definitions.

Written apart from the emulator's own parser, from the same files: what both read the same way is so.
"""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import parse_qsl

from runner.emulator import services
from runner.emulator.definitions.documents import DATA, version_of
from runner.emulator.routing import Router
from runner.status_codes import HTTP
from tests.conformance.extras import ANSWERS, ERRORS, SYSTEM_PARAMETERS, UNCHECKED

Exchange = Mapping[str, Any]

_INT = re.compile(r"-?\d+\Z")
_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,9})?(Z|[+-]\d\d:\d\d)\Z")
_DURATION = re.compile(r"-?\d+(\.\d{1,9})?s\Z")


@functools.cache
def document(name: str) -> Any:
    """Return a file of definitions, None if there is none."""
    path = DATA / f"{name}.json"
    return json.loads(path.read_bytes()) if path.exists() else None


@functools.cache
def _router() -> Router:
    return Router(services.all_methods())


def violations(exchange: Exchange) -> list[str]:
    """Return what Google's definitions do not allow in an exchange, each with the method's id and the place."""
    http = exchange["headers"].get("x-http-method-override", exchange["http"])
    found = _router().find({"method": http, "path": exchange["path"], "raw_path": exchange["path"].encode()})
    if found is None or found[0].id.startswith(UNCHECKED) or _is_media(exchange):
        return []
    method_id = found[0].id
    api, _, short = method_id.partition(".")
    version = "v1" if api == "storage" else version_of(exchange["path"])
    definitions = document(f"{api}.{version}")
    if exchange["path"].startswith("/ui/") and "aiplatform.v1." in exchange["answer"]:
        # Below /ui/, operations show the version that has started them.
        definitions = document(f"{api}.v1")
    if exchange["status"] >= 400:
        faults = list(_error(exchange))
    elif definitions is None or short not in definitions["methods"]:
        faults = ["a method that this version does not have was answered"]
    else:
        http, query, request, _, response = definitions["methods"][short]
        opaque = response == "GoogleApiHttpBody"
        # Cloud Storage takes parameters that it does not know: Node's client sends `versions` to delete.
        faults = [] if method_id.startswith("storage.") else [f"query {text}" for text in _query(exchange, query)]
        if not opaque:
            if exchange["request"] and http != "GET" and not exchange["headers"].get("content-type", "").count("form"):
                faults += [f"request{text}" for text in _request(definitions, request, exchange["request"])]
            faults += [f"answer{text}" for text in _answer(definitions, response, exchange)]
    allowed = ANSWERS.get(method_id, {}) | ANSWERS["*"]
    return [f"{method_id}: {fault}" for fault in faults if not any(fault.startswith(name) for name in allowed)]


def _is_media(exchange: Exchange) -> bool:
    """Tell whether an exchange is an object's content, or a piece of it."""
    return "alt=media" in exchange["query"] or exchange["path"].startswith(("/upload/", "/resumable/", "/download/"))


def _query(exchange: Exchange, query: Mapping[str, str]) -> Iterator[str]:
    for key, value in parse_qsl(exchange["query"], keep_blank_values=True):
        if key.removeprefix("$") in SYSTEM_PARAMETERS:
            continue
        kind = query.get(key) or query.get(_camel(key))
        if kind is None:
            yield f"{key}: no such parameter"
        elif kind.lstrip("[").startswith("int") and value and not _INT.match(value):
            yield f"{key}: {value!r} is no number"


def _camel(name: str) -> str:
    return re.sub(r"_([a-z0-9])", lambda match: match[1].upper(), name)


def _request(definitions: Any, message: str, text: str) -> Iterator[str]:
    body = json.loads(text)
    if body is None:  # Go's clients send `null` for a message without fields
        return
    if message:
        yield from _message(definitions, message, body, "", request=True)
    elif body:
        yield f": a body {text[:60]!r} where there is none"


def _answer(definitions: Any, message: str, exchange: Exchange) -> Iterator[str]:
    if not exchange["answer"]:
        if message and message != "GoogleProtobufEmpty" and exchange["status"] == 200:
            yield ": empty"
        return
    body = json.loads(exchange["answer"])
    # A stream that is no stream of events is a list of messages.
    streamed = isinstance(body, list) and ":stream" in exchange["path"]
    for piece in body if streamed else [body]:
        if message:
            yield from _message(definitions, message, piece, "", request=False)


def _error(exchange: Exchange) -> Iterator[str]:
    if not exchange["answer"] or exchange["http"] == "HEAD":
        return
    error = json.loads(exchange["answer"]).get("error")
    if not isinstance(error, dict):
        yield "error: no message of google.rpc"
        return
    for key in error.keys() - {"code", "message", "status", "details", "errors"}:
        yield f"error.{key}: no such field"
    if error.get("code") != exchange["status"]:
        yield f"error.code: {error.get('code')} in an answer {exchange['status']}"
    status = error.get("status")
    if status is not None and HTTP.get(status) != exchange["status"]:
        pair = (exchange["status"], status)
        if pair not in ERRORS and "x-emulator-fault" not in exchange["headers"]:
            yield f"error.status: {status} in an answer {exchange['status']}"


def _message(definitions: Any, message: str, body: Any, path: str, *, request: bool) -> Iterator[str]:
    if message not in definitions["messages"]:
        return
    if not isinstance(body, dict):
        yield f"{path}: {str(body)[:40]!r} is no message"
        return
    fields = definitions["messages"][message]["fields"]
    for key, value in body.items():
        name = _camel(key) if request and key not in fields else key  # Cloud Storage has fields in snake case
        if name not in fields:
            yield f"{path}.{key}: no such field of {message}"
        elif value is not None or not request:
            yield from _value(definitions, fields[name].rstrip("-!?"), value, f"{path}.{key}", request=request)


def _typed(definitions: Any, value: Mapping[str, Any], path: str, *, request: bool) -> Iterator[str]:
    """Check a google.protobuf.Any, by what it says it is."""
    name = str(value["@type"]).rpartition("/")[2]
    package = definitions["package"]
    if name.startswith("google.cloud.aiplatform.") and not name.startswith(f"{package}."):
        yield f"{path}: @type {name} of another version"
        return
    rest = {key: item for key, item in value.items() if key != "@type"}
    yield from _message(definitions, name.removeprefix(f"{package}."), rest, path, request=request)


def _value(definitions: Any, kind: str, value: Any, path: str, *, request: bool) -> Iterator[str]:
    if kind == "{any" and isinstance(value, dict) and "@type" in value:
        yield from _typed(definitions, value, path, request=request)
    elif kind.startswith("["):
        if not isinstance(value, list):
            yield f"{path}: no list"
            return
        for item in value:
            yield from _value(definitions, kind[1:], item, f"{path}[]", request=request)
    elif kind.startswith("{"):
        if not isinstance(value, dict):
            yield f"{path}: no map"
            return
        for item in (item for item in value.values() if item is not None or not request):
            yield from _value(definitions, kind[1:], item, f"{path}{{}}", request=request)
    elif kind.startswith("@"):
        yield from _message(definitions, kind[1:], value, path, request=request)
    elif kind.startswith("#"):
        definition = definitions["enums"][int(kind[1:])]
        values = definition["values"] if isinstance(definition, dict) else definition
        if value not in values and not (request and isinstance(value, int)):
            yield f"{path}: {value!r} is no value of its enum"
    elif not _fits(kind, value, request):
        yield f"{path}: {str(value)[:40]!r} is no {kind}"


def _fits(kind: str, value: Any, request: bool) -> bool:
    if kind == "any":
        return True
    if kind == "bool":
        return isinstance(value, bool)
    if kind in ("int64", "uint64"):
        return (isinstance(value, str) and bool(_INT.match(value))) or (request and isinstance(value, int | float))
    if kind in ("int32", "uint32"):
        return isinstance(value, int) and not isinstance(value, bool)
    if kind in ("double", "float"):
        return isinstance(value, int | float) and not isinstance(value, bool)
    if not isinstance(value, str):
        return False
    pattern = {"time": _TIME, "duration": _DURATION}.get(kind)
    return pattern is None or bool(pattern.match(value))
