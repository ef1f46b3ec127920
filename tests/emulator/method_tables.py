"""The table of supported methods in docs/emulator.md, made from the routes themselves."""

from __future__ import annotations

import re
from collections.abc import Iterable

from runner.emulator.definitions import documents
from runner.emulator.routing import Method

_VERSIONS = re.compile(r"\{v(?:ersion)?=([^}]+)\}")


def markdown_table(methods: Iterable[Method]) -> str:
    """Return a Markdown section per API: its methods' ids, verbs and paths, in order of id."""
    by_api: dict[str, dict[str, list[Method]]] = {}
    for method in methods:
        api = method.id.split(".", 1)[0]
        by_api.setdefault(api, {}).setdefault(method.id, []).append(method)
    parts: list[str] = []
    for api in sorted(by_api):
        parts.append(f"### {api}\n\n| method | request |\n|---|---|")
        for method_id, same in sorted(by_api[api].items()):
            requests = "<br>".join(dict.fromkeys(f"`{method.http} {_cell(_path(method))}`" for method in same))
            parts.append(f"| `{method_id}` | {requests} |")
        parts.append("")
    return "\n".join(parts).rstrip() + "\n"


def definitions_table() -> str:
    """Return a Markdown table of the revisions of Google's definitions."""
    rows = [f"| {name.replace('.', ' ')} | {revision} |" for name, revision in documents.revisions().items()]
    return "\n".join(["| API | revision |", "|---|---|", *rows]) + "\n"


def _path(method: Method) -> str:
    """Return a method's path with the versions that have the method."""
    match = _VERSIONS.search(method.path)
    if match is None or method.id.startswith("storage."):
        return method.path
    there = [one for one in match[1].split("|") if documents.method(method.id, f"/{one}/")]
    shown = there[0] if len(there) == 1 else f"{{version={'|'.join(there)}}}"
    return method.path.replace(match[0], shown)


def _cell(path: str) -> str:
    return path.replace("|", "\\|")
