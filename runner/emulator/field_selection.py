"""Partial responses: the `fields` parameter (https://cloud.google.com/storage/docs/json_api#partial-response)."""

from __future__ import annotations

import re
from typing import Any

from runner.emulator.errors import ApiError
from runner.emulator.remembered import remembered

Tree = dict[str, Any]
"""Requested names, each with the tree of requested names below it; an empty tree means everything."""

_TOKEN = re.compile(r"[(),/]|[A-Za-z0-9_.*-]+|\S")
_NAME = re.compile(r"[A-Za-z0-9_.*-]+\Z")
_MAX_DEPTH = 50


@remembered(512, entries=64)
def selection(fields: str) -> Tree:
    """Read `items(name,owner/id),nextPageToken`. Raises ApiError INVALID_ARGUMENT."""
    tokens: list[str] = _TOKEN.findall(fields)
    tree, end = _read_list(tokens, 0, 0)
    if end != len(tokens):
        raise _invalid(fields)
    return tree


def _read_list(tokens: list[str], at: int, depth: int) -> tuple[Tree, int]:
    tree: Tree = {}
    while True:
        at = _read_path(tokens, at, depth, tree)
        if at >= len(tokens) or tokens[at] != ",":
            return tree, at
        at += 1


def _read_path(tokens: list[str], at: int, depth: int, tree: Tree) -> int:
    """Add `a/b(c,d)` to a tree; return where it ends."""
    if depth > _MAX_DEPTH or at >= len(tokens) or not _NAME.match(tokens[at]):
        raise _invalid("".join(tokens))
    name, at = tokens[at], at + 1
    known = name in tree
    below: Tree = {}
    if at < len(tokens) and tokens[at] == "/":
        at = _read_path(tokens, at + 1, depth + 1, below)
    elif at < len(tokens) and tokens[at] == "(":
        below, at = _read_list(tokens, at + 1, depth + 1)
        if at >= len(tokens) or tokens[at] != ")":
            raise _invalid("".join(tokens))
        at += 1
    # `a,a/b` requests all of a; `a/b,a/c` requests both.
    tree[name] = {**tree[name], **below} if known and tree[name] and below else ({} if known else below)
    return at


def pick(value: Any, tree: Tree) -> Any:
    """Return the requested part of a JSON value."""
    if not tree:
        return value
    if isinstance(value, list):
        return [pick(item, tree) for item in value]
    if not isinstance(value, dict):
        return value
    everything = tree.get("*")
    return {key: pick(item, below) for key, item in value.items() if (below := tree.get(key, everything)) is not None}


def _invalid(fields: str) -> ApiError:
    return ApiError("INVALID_ARGUMENT", f"Invalid field selection {fields}", reason="invalidParameter")
