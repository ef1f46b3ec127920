"""Requests held against Google's definitions before a handler sees them, and answers cut to what was asked for.

What is checked here is what Google checks before a request reaches a service: that the version has the method, that the
query has only its parameters, that the body is a message of the right type. What a service checks beyond that (required
combinations, names, locations) is the handlers' matter.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qsl

from starlette.responses import Response, StreamingResponse

from runner.emulator import field_selection, wire_json
from runner.emulator.definitions import documents, parsing, shaping
from runner.emulator.definitions.documents import Document, MethodDefinition
from runner.emulator.errors import ApiError, invalid, not_here
from runner.emulator.routing import ApiRequest, Method

_SYSTEM = frozenset(
    {
        *("alt", "fields", "prettyPrint", "key", "access_token", "oauth_token", "quotaUser", "userIp", "userProject"),
        *("upload_protocol", "uploadType", "callback", "apiVersion", ".xgafv"),
    }
)
"""Parameters that every method has (https://cloud.google.com/apis/docs/system-parameters); `$` may precede them."""
_NOT_GOOGLES = ("emulator.", "oauth2.")
_OLDER = frozenset({"aiplatform.v1"})
"""What is stored is of a newer version."""
_FORM = "application/x-www-form-urlencoded"


def exists(method: Method, path: str) -> bool:
    """Return whether the version of the API that a path asks for has the method that was found for it."""
    if method.id.startswith("storage.xml."):
        # The paths of XML are any at all: those of another API must not be taken for a bucket and an object.
        return not documents.version_of(path)
    unversioned = method.style == "storage" or method.id.startswith(_NOT_GOOGLES)
    return unversioned or documents.method(method.id, path) is not None


def checked(method: Method) -> Method:
    """Return the method with its requests checked.

    Its handler finds the parsed body in `request.read_json()`: camelCase, enums by name, int64 as text, without fields
    that only the service sets.
    """
    if method.id.startswith(_NOT_GOOGLES):
        return method
    inner = method.handler

    async def handler(request: ApiRequest) -> Response:
        definition = documents.method(method.id, request.scope["path"])
        assert definition is not None, "`exists` has been asked"  # noqa: S101
        faults: parsing.Faults = []
        settings = _query(request, definition, faults)
        if not definition.opaque:
            await _body(request, definition, faults)
        if faults:
            raise parsing.refusal(faults)
        _masks(definition, settings)
        return _formed(definition, settings, await inner(request))

    return Method(method.id, method.http, method.path, handler, method.style)


def absent(http: str, path: str) -> ApiError:
    """Return what is answered to a request that no method here takes.

    404, as Google answers, where it has no method either. A method that Google has gets 400 and not 404, which
    Terraform and Pulumi take for a resource that is gone.
    """
    if documents.find(http, path) is None:
        return ApiError("NOT_FOUND", f"Method not found. Google has no {http} {path}.")
    return not_here(f"Google's API has {http} {path}, but the emulator does not support it.")


def _query(request: ApiRequest, definition: MethodDefinition, faults: parsing.Faults) -> dict[str, str]:
    """Check the query; return the parameters that say what the answer shall hold, and the masks."""
    settings: dict[str, str] = {}
    if (selection := request.headers.get("x-goog-fieldmask")) is not None:
        settings["fields"] = selection
    known = definition.query
    for key, value in request.query_params.multi_items():
        plain = key.removeprefix("$")
        if plain in _SYSTEM:
            settings[plain] = value
            continue
        name = key if key in known else wire_json.camel_name(key)
        kind = known.get(name)
        if kind is None:
            faults.append(("", _unbound(key)))
            continue
        if kind.startswith("mask"):
            settings[name] = value
        _parameter(definition, name, kind.lstrip("["), value, faults)
    return settings


def _parameter(definition: MethodDefinition, name: str, kind: str, value: str, faults: parsing.Faults) -> None:
    if value == "":
        return
    # Booleans are written by Python too.
    text = value.lower() if kind.startswith("bool") else value
    text = {"1": "true", "0": "false"}.get(text, text) if kind.startswith("bool") else text
    parsing.parser(definition.document, kind)(text, parsing.snake(name), faults)


def _unbound(key: str) -> str:
    return (
        f'Invalid JSON payload received. Unknown name "{key}": Cannot bind query parameter. '
        f"Field '{key}' could not be found in request message."
    )


async def _body(request: ApiRequest, definition: MethodDefinition, faults: parsing.Faults) -> None:
    if definition.http == "GET":
        return
    content = await request.read_body()
    if content and request.headers.get("content-type", "").partition(";")[0].strip().lower() == _FORM:
        # Google takes a form for parameters; that is what curl sends where nobody says what a body is.
        pairs = parse_qsl(content.decode("utf-8", "replace"), keep_blank_values=True)
        faults += [("", _unbound(key)) for key, _ in pairs if key not in definition.query and key not in _SYSTEM]
        content = b""
    body = wire_json.loads(content)
    if definition.request:
        parser = parsing.message(definition.document, definition.request)
        request.message = parser.parse(body, definition.root, faults) or {}
    else:
        faults += [("", f'Invalid JSON payload received. Unknown name "{key}": Cannot find field.') for key in body]
        request.message = {}


def _masks(definition: MethodDefinition, settings: Mapping[str, str]) -> None:
    """Check the paths of the masks of a query. Raises ApiError INVALID_ARGUMENT."""
    for name in ("updateMask", "readMask"):
        target = definition.request if name == "updateMask" else _read(definition)
        for path in wire_json.mask_paths(settings.get(name)):
            if path != ["*"] and not reaches(definition.document, target, path):
                text = ".".join(path)
                raise parsing.refusal(
                    [(parsing.snake(name), f"Invalid {parsing.snake(name)}: {target} has no field '{text}'.")]
                )


def reaches(document: Document, key: str, path: list[str]) -> bool:
    """Return whether a path of camelCase names leads to a field of a message; into a map and any value, all do."""
    kind = f"@{key}"
    for name in path:
        if kind.startswith("{") or kind.startswith("any"):
            return True
        if not kind.startswith("@"):
            return False
        found = parsing.message(document, kind[1:].rstrip("-!?")).fields.get(name)
        if found is None:
            return False
        kind = found[2].lstrip("[").rstrip("-!?")
    return True


def _read(definition: MethodDefinition) -> str:
    """Return the message that a read mask is about: that of a list's items, else that of the answer."""
    fields = definition.document.messages[definition.response]["fields"]
    items = [kind[2:] for name, kind in fields.items() if kind.startswith("[@") and name != "unreachable"]
    return items[0].rstrip("-!?") if "nextPageToken" in fields and items else definition.response


def _formed(definition: MethodDefinition, settings: Mapping[str, str], response: Response) -> Response:
    """Return an answer as the query asks for it. Raises ApiError INVALID_ARGUMENT."""
    older = definition.document.name in _OLDER
    if definition.opaque or not (settings or older):
        return response
    alt = settings.get("alt", "json").partition(";")[0]
    if alt == "sse" and isinstance(response, StreamingResponse):
        return response
    if alt != "json":
        raise invalid(f"Invalid value at 'alt' (TYPE_ENUM), \"{alt}\": the emulator returns only JSON.")
    if "callback" in settings:
        raise invalid("The emulator does not support JSONP; remove the parameter 'callback'.")
    selection, mask = settings.get("fields"), settings.get("readMask")
    pretty = settings.get("prettyPrint", "").lower() in ("true", "1")
    if not (selection or mask or pretty or older) or isinstance(response, StreamingResponse):
        return response
    body = json.loads(bytes(response.body))
    if older:
        body = shaping.shaped(definition.document, definition.response, body)
    if mask and mask != "*":
        body = _masked(definition, body, wire_json.mask_paths(mask))
    if selection:
        tree = field_selection.selection(selection.replace(".", "/"))  # either parts the names of a path
        _check_selection(definition, selection, tree)
        body = field_selection.pick(body, tree)
    if pretty:
        response.body = (json.dumps(body, ensure_ascii=False, indent=2) + "\n").encode()
    else:
        response.body = json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode()
    response.headers["content-length"] = str(len(response.body))
    return response


def _masked(definition: MethodDefinition, body: Any, paths: list[list[str]]) -> Any:
    tree: dict[str, Any] = {}
    for path in paths:
        node = tree
        for name in path:
            node = node.setdefault(name, {})
    if _read(definition) == definition.response:
        return field_selection.pick(body, tree)
    return {key: field_selection.pick(value, tree) if isinstance(value, list) else value for key, value in body.items()}


def _check_selection(definition: MethodDefinition, text: str, tree: Mapping[str, Any]) -> None:
    for path in _leaves(tree):
        if "*" not in path and not reaches(definition.document, definition.response, path):
            shown = ".".join(path)
            said = f"Error expanding 'fields' parameter. Cannot find matching fields for path '{shown}'."
            error = parsing.refusal([(text, said)])
            error.message = "Request contains an invalid argument."
            raise error


def _leaves(tree: Mapping[str, Any]) -> list[list[str]]:
    return [[key, *rest] for key, below in tree.items() for rest in (_leaves(below) if below else [[]])]
