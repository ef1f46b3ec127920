"""Access control lists in the XML API (`?acl`)."""

from __future__ import annotations

from xml.sax.saxutils import quoteattr

from starlette.responses import Response

from runner.emulator.routing import ApiRequest
from runner.emulator.storage import acl_routes, records
from runner.emulator.storage.access_lists import Entry
from runner.emulator.storage.faults import bad_request
from runner.emulator.storage.xml import document, element, parsed, predefined_acl, texts

_PERMISSIONS = {"OWNER": "FULL_CONTROL", "WRITER": "WRITE", "READER": "READ"}
_SCOPES = {"user": "UserByEmail", "group": "GroupByEmail", "domain": "GroupByDomain", "project": "GroupById"}
_ANYBODY = {"allUsers": "AllUsers", "allAuthenticatedUsers": "AllAuthenticatedUsers"}


def shown(request: ApiRequest, lists: acl_routes.Lists) -> Response:
    """Return a list."""
    entries = request.emulator.store.read(lambda connection: acl_routes.load(connection, request, lists))
    content = "".join(
        f"<Entry>{_scope(entry['entity'])}{element('Permission', _PERMISSIONS[entry['role']])}</Entry>"
        for entry in entries
    )
    return document("AccessControlList", f"<Entries>{content}</Entries>")


async def replaced(request: ApiRequest, lists: acl_routes.Lists) -> Response:
    """Replace a list, by the predefined one of a header or by that of the body."""
    given = predefined_acl(request.headers) or _entries(await request.read_body())
    now = records.microseconds(request.emulator.clock.now())
    await request.emulator.store.write(lambda connection: acl_routes.save(connection, request, lists, given, now))
    return Response(status_code=200)


def _scope(entity: str) -> str:
    if entity in _ANYBODY:
        return f"<Scope type='{_ANYBODY[entity]}'/>"
    kind, _, name = entity.partition("-")
    tag = {"domain": "Domain", "project": "ID"}.get(kind, "EmailAddress")
    return f"<Scope type={quoteattr(_SCOPES[kind])}>{element(tag, name)}</Scope>"


def _entries(body: bytes) -> list[Entry]:
    roles = {permission: role for role, permission in _PERMISSIONS.items()}
    kinds = {scope: kind for kind, scope in _SCOPES.items()} | {scope: name for name, scope in _ANYBODY.items()}
    found = []
    for node in parsed(body, "MalformedACLError").iter():
        if node.tag.rpartition("}")[2] != "Entry":
            continue
        scope = next((child for child in node if child.tag.endswith("Scope")), None)
        kind = None if scope is None else kinds.get(scope.get("type", ""))
        permission = texts(node).get("Permission", "")
        if scope is None or kind is None or permission not in roles:
            raise bad_request("The XML you provided was not well-formed.", "MalformedACLError")
        name = next(iter(texts(scope).values()), "")
        found.append({"entity": f"{kind}-{name}" if kind in _SCOPES else kind, "role": roles[permission]})
    return found
