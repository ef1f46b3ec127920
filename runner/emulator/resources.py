"""What the handlers of the small services share: routes at several prefixes, reads, writes and document lists."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from starlette.responses import Response

from runner.emulator import paging, store
from runner.emulator.errors import invalid, not_here
from runner.emulator.routing import ApiRequest, Handler, Method, json_response

T = TypeVar("T")
Document = dict[str, Any]


def methods(prefixes: Sequence[str], rows: Sequence[tuple[str, str, str, Handler]]) -> list[Method]:
    """Return the methods of one API: every row (id, HTTP verb, path below the prefix, handler) at every prefix.

    Row by row, so that the order of rows decides which path wins.
    """
    return [Method(id_, http, prefix + path, handler) for id_, http, path, handler in rows for prefix in prefixes]


def read(request: ApiRequest, work: Callable[[sqlite3.Connection], T]) -> T:
    """Run a read."""
    return request.emulator.store.read(work)


async def write(request: ApiRequest, work: Callable[[sqlite3.Connection], T]) -> T:
    """Run a write; returns when it is on disk."""
    return await request.emulator.store.write(work)


def listed(request: ApiRequest, field: str, items: Sequence[Document], *, default: int = 100) -> Response:
    """Return one page of a list as `{field: [...], "nextPageToken": ...}`, both absent when empty."""
    query = request.query_params
    if query.get("filter"):
        raise not_here("The emulator does not filter this list.")
    part, token = paging.page(items, query.get("pageSize"), query.get("pageToken"), default=default)
    body: Document = {}
    if part:
        body[field] = part
    if token:
        body["nextPageToken"] = token
    return json_response(body)


def children(connection: sqlite3.Connection, kind: str, parent: str) -> list[Document]:
    """Return the documents of a kind right below `parent`, in order of name."""
    prefix = f"{parent}/"
    return [body for _, body in store.scan(connection, kind, prefix)]


def exactly_one(body: Document, names: Sequence[str]) -> str:
    """Return the one field of a oneof that is set. Raises ApiError INVALID_ARGUMENT for none or several."""
    given = [name for name in names if name in body]
    if len(given) != 1:
        raise invalid(f"Exactly one of {', '.join(names)} must be set.")
    return given[0]


def text(body: Document, name: str, *, maximum: int, required: bool = False) -> str:
    """Return a text field. Raises ApiError INVALID_ARGUMENT when it is missing, no text or too long."""
    value = body.get(name, "")
    if not isinstance(value, str):
        raise invalid(f"Invalid value at '{name}' (TYPE_STRING), {value!r}")
    if required and not value:
        raise invalid(f"The field '{name}' is required.")
    if len(value) > maximum:
        raise invalid(f"The field '{name}' must be no longer than {maximum} characters.")
    return value
