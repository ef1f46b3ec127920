"""Listing objects: order of UTF-8 bytes, folders by delimiter, pages."""

from __future__ import annotations

import base64
import binascii
import json
import re
import sqlite3
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from runner.emulator.routing import ApiRequest
from runner.emulator.storage import buckets, context_filter, object_views, objects, records
from runner.emulator.storage.context_filter import Filter
from runner.emulator.storage.faults import bad_request
from runner.emulator.storage.parameters import boolean, count
from runner.emulator.storage.records import StoredObject

Json = dict[str, Any]
Key = tuple[str, int]
"""The start of a page: name and generation, inclusive."""

_MAX_PAGE = 1000
_BATCH = 256


@dataclass(frozen=True, slots=True)
class Query:
    """The parameters of a listing."""

    prefix: str
    delimiter: str
    trailing: bool
    """Whether names that end with the delimiter are also listed as objects."""
    limit: int
    begin: Key
    start: str
    end: str
    glob: re.Pattern[str] | None
    states: tuple[str, ...]
    wanted: Filter | None = None
    """The condition for listed objects."""

    @classmethod
    def of(cls, parameters: Mapping[str, str]) -> Query:
        """Read query parameters. Raises ApiError 400."""
        limit = count(parameters, "maxResults")
        states: tuple[str, ...] = ("live",)
        if boolean(parameters, "softDeleted"):
            if boolean(parameters, "versions"):
                raise bad_request("softDeleted and versions cannot be used together.")
            states = ("soft",)
        elif boolean(parameters, "versions"):
            states = ("live", "noncurrent")
        glob = parameters.get("matchGlob")
        return cls(
            prefix=parameters.get("prefix", ""),
            delimiter=parameters.get("delimiter", ""),
            trailing=boolean(parameters, "includeTrailingDelimiter"),
            limit=min(limit or _MAX_PAGE, _MAX_PAGE),
            begin=_decode_token(parameters.get("pageToken", "")),
            start=parameters.get("startOffset", ""),
            end=parameters.get("endOffset", ""),
            glob=compile_glob(glob) if glob else None,
            states=states,
            wanted=context_filter.parse(parameters["filter"]) if parameters.get("filter") else None,
        )


def list_objects(connection: sqlite3.Connection, request: ApiRequest, query: Query) -> Json:
    """Return one page. Raises ApiError NOT_FOUND."""
    bucket = request.fields["bucket"]
    home, full = buckets.require(connection, bucket), object_views.is_full(request)

    def shown(record: StoredObject) -> Json:
        return object_views.shown(connection, request, record, home, full=full)

    items: list[Json] = []
    prefixes: list[str] = []
    answer: Json = {"kind": "storage#objects"}
    for found in _walk(connection, bucket, query):
        if len(items) + len(prefixes) >= query.limit:
            key = (found, 0) if isinstance(found, str) else (found.name, found.generation)
            answer["nextPageToken"] = _encode_token(key)
            break
        if isinstance(found, StoredObject):
            items.append(shown(found))
            continue
        prefixes.append(found)
        if query.trailing and "live" in query.states:
            record = records.load(connection, bucket, found)
            items += [] if record is None else [shown(record)]
    if prefixes:
        answer["prefixes"] = prefixes
    if items:
        answer["items"] = items
    return answer


def _walk(connection: sqlite3.Connection, bucket: str, query: Query) -> Iterator[StoredObject | str]:
    """Yield objects, and folders as text, from the start of the page."""
    name, generation = query.begin
    floor = max(query.start, query.prefix)
    if floor > name:
        name, generation = floor, 0
    ends = [end for end in (query.end, objects.after_prefix(query.prefix)) if end]
    condition = " AND ".join(
        [
            "bucket = ?",
            "name >= ?",
            "(name > ? OR generation >= ?)",
            "state = 'live'" if query.states == ("live",) else f"state IN {query.states!r}".replace(",)", ")"),
            *(["name < ?"] if ends else []),
        ]
    )
    order = "name" if query.states == ("live",) else "name, generation"
    while True:
        batch = records.select(
            connection,
            f"{condition} ORDER BY {order} LIMIT {_BATCH}",
            (bucket, name, name, generation, *([min(ends)] if ends else [])),
        )
        following: Key | None = (batch[-1].name, batch[-1].generation + 1) if len(batch) == _BATCH else None
        for record in batch:
            if query.wanted is not None and not query.wanted(record):
                continue
            folder = _folder(record.name, query)
            if query.glob is None or query.glob.match(folder or record.name):
                yield folder or record
            if folder is not None:
                # Skip the rest of the folder with the index instead of reading it.
                after = objects.after_prefix(folder)
                following = None if after is None else (after, 0)
                break
        if following is None:
            return
        name, generation = following


def _folder(name: str, query: Query) -> str | None:
    """Return the folder that contains a name; None if the name itself is listed."""
    if not query.delimiter:
        return None
    at = name.find(query.delimiter, len(query.prefix))
    return None if at < 0 else name[: at + len(query.delimiter)]


def _encode_token(key: Key) -> str:
    return base64.urlsafe_b64encode(json.dumps(key).encode()).decode()


def _decode_token(token: str) -> Key:
    if not token:
        return "", 0
    try:
        name, generation = json.loads(base64.urlsafe_b64decode(token.encode()))
        if not isinstance(name, str) or not isinstance(generation, int):
            raise ValueError(token)
        name.encode()
    except (ValueError, TypeError, binascii.Error, UnicodeError) as error:
        raise bad_request(f"Invalid value for pageToken: '{token}'", "invalidParameter") from error
    return name, generation


def compile_glob(glob: str) -> re.Pattern[str]:
    """Return the expression of a `matchGlob`: `*`, `**`, `?`, `[a-z]`, `{a,b}`. Raises ApiError 400."""
    if len(glob) > 1024:
        raise bad_request("matchGlob is too long.", "invalidParameter")
    parts: list[str] = []
    depth = at = 0
    while at < len(glob):
        character = glob[at]
        if character == "*":
            end = at
            while end < len(glob) and glob[end] == "*":
                end += 1
            if end - at > 1 and glob[end : end + 1] == "/":
                parts.append("(?:.*/)?")  # `**/x` matches x in any folder, and without a folder
                end += 1
            else:
                parts.append(".*" if end - at > 1 else "[^/]*")
            at = end
            continue
        if character == "[" and (close := glob.find("]", at + 2)) > 0:
            inner = glob[at + 1 : close]
            negated = inner[0] in "!^"
            body = re.sub(r"([\\\]\[^&~|])", r"\\\1", inner[1:] if negated else inner)
            parts.append(f"[{'^' if negated else ''}{body}]")
            at = close + 1
            continue
        if character == "\\" and at + 1 < len(glob):
            at += 1
            parts.append(re.escape(glob[at]))
        elif character == "{":
            depth += 1
            parts.append("(?:")
        elif character == "}" and depth:
            depth -= 1
            parts.append(")")
        elif character == "," and depth:
            parts.append("|")
        else:
            parts.append("[^/]" if character == "?" else re.escape(character))
        at += 1
    try:
        return re.compile("".join(parts) + r"\Z", re.DOTALL)
    except re.error as error:
        raise bad_request(f"Invalid value for matchGlob: '{glob}'", "invalidParameter") from error
