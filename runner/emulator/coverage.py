"""The table of supported methods in docs/emulator.md, made from the routes themselves."""

from __future__ import annotations

from collections.abc import Iterable

from runner.emulator.routing import Method


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
            requests = "<br>".join(dict.fromkeys(f"`{method.http} {_cell(method.path)}`" for method in same))
            parts.append(f"| `{method_id}` | {requests} |")
        parts.append("")
    return "\n".join(parts).rstrip() + "\n"


def _cell(path: str) -> str:
    return path.replace("|", "\\|")
