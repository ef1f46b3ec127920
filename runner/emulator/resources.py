"""What handlers share: routes at several prefixes, reading and changing the store, pages of lists."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Sequence
from functools import wraps
from typing import Any

from starlette.responses import Response

from runner.emulator import paging, store, update_mask
from runner.emulator.errors import ApiError, invalid, not_here
from runner.emulator.routing import ApiRequest, Handler, Method, json_response

Document = dict[str, Any]


def methods(prefixes: Sequence[str], rows: Sequence[tuple[str, str, str, Handler]]) -> list[Method]:
    """Return the methods of one API: every row (id, HTTP verb, path below the prefix, handler) at every prefix.

    Row by row, so that the order of rows decides which path wins.
    """
    return [Method(id_, http, prefix + path, handler) for id_, http, path, handler in rows for prefix in prefixes]


Work = Callable[[sqlite3.Connection, ApiRequest], Document | None]


def answering(
    answer: Callable[[ApiRequest, Document | None], Response],
) -> tuple[Callable[[Work], Handler], Callable[[Work], Handler]]:
    """Return what makes handlers of functions that read the store, and of those that change it.

    The body has been read when they are called; a change is on disk before it is answered.
    """

    def reading(work: Work) -> Handler:
        @wraps(work)
        async def handler(request: ApiRequest) -> Response:
            request.message = await request.read_json()
            return answer(request, request.emulator.store.read(lambda connection: work(connection, request)))

        return handler

    def writing(work: Work) -> Handler:
        @wraps(work)
        async def handler(request: ApiRequest) -> Response:
            request.message = await request.read_json()
            return answer(request, await request.emulator.store.write(lambda connection: work(connection, request)))

        return handler

    return reading, writing


reading, writing = answering(lambda request, document: json_response(document or {}))


def listing(
    field: str, *, default: int = 100, filtered: bool = False
) -> Callable[[Callable[[sqlite3.Connection, ApiRequest], Sequence[Document]]], Handler]:
    """Return what makes a handler that answers a `page` of what `work` finds.

    Args:
        field: of the answer, with the items.
        default: items of a page when the request asks for no number.
        filtered: `work` applies the filter of the request; else a filter is refused.
    """

    def made(work: Callable[[sqlite3.Connection, ApiRequest], Sequence[Document]]) -> Handler:
        @wraps(work)
        async def handler(request: ApiRequest) -> Response:
            if not filtered and request.query_params.get("filter"):
                raise not_here("The emulator does not support filters for this list.")
            found = request.emulator.store.read(lambda connection: work(connection, request))
            return page(request, field, found, default=default)

        return handler

    return made


def page(
    request: ApiRequest, field: str, items: Sequence[Document], *, default: int = 100, maximum: int = 1000
) -> Response:
    """Return one page of a list as `{field: [...], "nextPageToken": ...}`, both absent when empty."""
    query = request.query_params
    part, token = paging.page(items, query.get("pageSize"), query.get("pageToken"), default=default, maximum=maximum)
    return json_response(({field: part} if part else {}) | ({"nextPageToken": token} if token else {}))


def children(connection: sqlite3.Connection, kind: str, parent: str) -> list[Document]:
    """Return the documents of a kind right below `parent`, in order of name."""
    prefix = f"{parent}/"
    return [body for _, body in store.scan(connection, kind, prefix)]


def patched(
    request: ApiRequest, stored: Document, *, every: Iterable[str] = (), mask_required: bool = False
) -> Document:
    """Return a resource with the fields that the request's `updateMask` names taken from its body.

    Args:
        request: a PATCH.
        stored: the resource.
        every: fields that `*` stands for, where a client may not change all of them.
        mask_required: refuse a request without a mask.

    Raises ApiError ABORTED where the client has read an older version, INVALID_ARGUMENT.
    """
    mask = request.query_params.get("updateMask")
    if mask_required and not mask:
        raise invalid("The field 'update_mask' is required.")
    given = request.document.get("etag")
    if given and "etag" in stored and given != stored["etag"]:
        raise ApiError("ABORTED", f"The etag is stale: {stored['name']} has changed since.")
    return update_mask.apply(stored, request.document, mask, every=every)


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
