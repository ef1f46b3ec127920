"""Partial responses: the `fields` parameter (https://cloud.google.com/storage/docs/json_api#partial-response)."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Any

from starlette.responses import Response

from runner.emulator.routing import ApiRequest, json_response
from runner.emulator.storage.faults import bad_request

Tree = dict[str, Any]
"""Wanted names, each with the tree of what is wanted below it; an empty one means everything."""

_TOKEN = re.compile(r"[(),/]|[^(),/\s]+")
_MAX_DEPTH = 16


def reply(request: ApiRequest, resource: dict[str, Any], status: int = 200) -> Response:
    """Answer with a resource, reduced to `fields` when the request has them. Raises ApiError 400."""
    fields = request.query_params.get("fields")
    return json_response(pick(resource, parse(fields)) if fields else resource, status)


@lru_cache(maxsize=128)
def parse(fields: str) -> Tree:
    """Read `items(name,owner/id),nextPageToken`. Raises ApiError 400."""
    tokens: list[str] = _TOKEN.findall(fields)
    tree, end = _parse_list(tokens, 0, 0)
    if end != len(tokens):
        raise _invalid(fields)
    return tree


def _parse_list(tokens: list[str], at: int, depth: int) -> tuple[Tree, int]:
    tree: Tree = {}
    while True:
        at = _parse_path(tokens, at, depth, tree)
        if at >= len(tokens) or tokens[at] != ",":
            return tree, at
        at += 1


def _parse_path(tokens: list[str], at: int, depth: int, tree: Tree) -> int:
    """Add `a/b(c,d)` to a tree; return where it ends."""
    if depth > _MAX_DEPTH or at >= len(tokens) or tokens[at] in "(),/":
        raise _invalid("".join(tokens))
    name, at = tokens[at], at + 1
    known = name in tree
    below: Tree = {}
    if at < len(tokens) and tokens[at] == "/":
        at = _parse_path(tokens, at + 1, depth + 1, below)
    elif at < len(tokens) and tokens[at] == "(":
        below, at = _parse_list(tokens, at + 1, depth + 1)
        if at >= len(tokens) or tokens[at] != ")":
            raise _invalid("".join(tokens))
        at += 1
    # `a,a/b` wants all of a; `a/b,a/c` wants both.
    tree[name] = {**tree[name], **below} if known and tree[name] and below else ({} if known else below)
    return at


def pick(value: Any, tree: Tree) -> Any:
    """Return what a tree wants of a JSON value."""
    if not tree:
        return value
    if isinstance(value, list):
        return [pick(item, tree) for item in value]
    if not isinstance(value, dict):
        return value
    everything = tree.get("*")
    picked = {}
    for key, item in value.items():
        below = tree.get(key, everything)
        if below is not None:
            picked[key] = pick(item, below)
    return picked


def _invalid(fields: str) -> Exception:
    return bad_request(f"Invalid field selection {fields}", "invalidParameter")
