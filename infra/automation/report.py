"""What pipelines say of previews: one comment on a pull request, one issue while there is drift.

    python -m infra.automation.report comment preview-*.json     Markdown of the comment
    python -m infra.automation.report drift preview-*.json       Markdown of the issue; exit code 1 when there is drift
    python -m infra.automation.report counts preview-*.json      JSON of GitLab's report on changes of infrastructure

The files are what `runner infra preview --format json` printed, on standard output or, where it failed, on standard
error. It needs nothing but Python, so the job that may write comments runs no code of the change.
"""

from __future__ import annotations

import hashlib
import json
import re
import sys
from pathlib import Path
from typing import Any

COMMENT_MARK = "<!-- runner infra preview -->"
DRIFT_MARK = "<!-- runner infra drift: {} -->"
LIMIT = 65_000
"""GitHub refuses comments of more than 65 536 characters."""

_SECRETS = (
    (re.compile(r"\b[\w.+-]+@[\w-]+(\.[\w-]+)+\b"), "ACCOUNT"),
    (re.compile(r"principal(Set)?://\S+"), "PRINCIPAL"),
    (re.compile(r"\b[0-9A-F]{6}-[0-9A-F]{6}-[0-9A-F]{6}\b"), "BILLING-ACCOUNT"),
    (re.compile(r"\bya29\.[\w.-]+"), "TOKEN"),
    (re.compile(r"\bprojects/[0-9]{6,}\b"), "projects/NUMBER"),
)
_DESTRUCTIVE = ("delete", "replace")
_BACKTICKS = re.compile(r"`{3,}")


def redacted(text: str) -> str:
    """Return a text without accounts, principals, billing accounts, tokens and project numbers."""
    for pattern, word in _SECRETS:
        text = pattern.sub(word, text)
    return text


def comment(previews: dict[str, dict[str, Any]]) -> str:
    """Return the comment for the previews of some stacks, by the stack's name."""
    lines = [COMMENT_MARK, "## Infrastructure preview", "", "| stack | result | |", "|---|---|---|"]
    for stack, preview in sorted(previews.items()):
        warning = "**deletes or replaces**" if _destroys(preview) else ""
        lines.append(f"| {stack} | {_summary(preview)} | {warning} |")
    room = LIMIT - sum(len(line) + 1 for line in lines)
    for stack, preview in sorted(previews.items()):
        text = _BACKTICKS.sub("``", redacted(_text(preview)))
        share = max(0, room // max(1, len(previews)) - 200)
        if len(text) > share:
            text = text[:share] + "\n… the rest is in the run's log"
        lines += ["", f"<details><summary>{stack}</summary>", "", "```text", text, "```", "</details>"]
    return "\n".join(lines) + "\n"


def drift(previews: dict[str, dict[str, Any]]) -> str:
    """Return the issue that says what drifted, "" when nothing did. Its fingerprint is of counts, which repeat."""
    drifted = {stack: preview for stack, preview in previews.items() if "error" in preview or preview.get("changes")}
    if not drifted:
        return ""
    counted = json.dumps({stack: _summary(preview) for stack, preview in sorted(drifted.items())}, sort_keys=True)
    fingerprint = hashlib.sha256(counted.encode()).hexdigest()[:16]
    lines = [DRIFT_MARK.format(fingerprint), "What is there is not what the program says:", ""]
    lines += [f"- **{stack}**: {_summary(preview)}" for stack, preview in sorted(drifted.items())]
    lines += ["", "`runner infra preview --stack STACK` shows it, `runner infra up --stack STACK` repairs it."]
    return "\n".join(lines) + "\n"


def counts(previews: dict[str, dict[str, Any]]) -> dict[str, int]:
    """Return what GitLab shows in a merge request: numbers only, so there is nothing to redact, and no token is needed.

    A replacement is one deletion and one creation.
    """
    found = {"create": 0, "update": 0, "delete": 0}
    for preview in previews.values():
        for name, count in _changes(preview).items():
            for word in ("create", "delete") if name == "replace" else (name,):
                if word in found:
                    found[word] += count
    return found


def _changes(preview: dict[str, Any]) -> dict[str, int]:
    return {name.rsplit(".", 1)[-1].lower(): count for name, count in (preview.get("summary") or {}).items()}


def _text(preview: dict[str, Any]) -> str:
    if "error" in preview:
        return str(preview["error"].get("message", ""))
    return str(preview.get("diff") or preview.get("text") or json.dumps(preview, indent=1))


def _summary(preview: dict[str, Any]) -> str:
    if "error" in preview:
        return f"failed: {preview['error'].get('code', 'unknown')}"
    changes = [f"{count} {name}" for name, count in sorted(_changes(preview).items()) if name != "same"]
    return ", ".join(changes) or ("no changes" if not preview.get("changes") else f"{preview['changes']} changes")


def _destroys(preview: dict[str, Any]) -> bool:
    return any(word in name.lower() for name in preview.get("summary") or {} for word in _DESTRUCTIVE)


def read(paths: list[Path]) -> dict[str, dict[str, Any]]:
    """Return the previews by stack: `preview-STACK.json`. What is no JSON counts as a failure."""
    found: dict[str, dict[str, Any]] = {}
    for path in paths:
        stack = path.stem.removeprefix("preview-")
        try:
            body = json.loads(path.read_text("utf-8"))
        except ValueError:
            body = None
        found[stack] = (
            body if isinstance(body, dict) else {"error": {"code": "no result", "message": "see the run's log"}}
        )
    return found


def main(arguments: list[str]) -> int:
    """Print what is asked for and return the exit status."""
    if len(arguments) < 2 or arguments[0] not in {"comment", "counts", "drift"}:
        sys.stderr.write(__doc__ or "")
        return 2
    previews = read([Path(name) for name in arguments[1:]])
    if arguments[0] == "counts":
        sys.stdout.write(json.dumps(counts(previews)) + "\n")
        return 0
    text = comment(previews) if arguments[0] == "comment" else drift(previews)
    sys.stdout.write(text)
    return 1 if arguments[0] == "drift" and text else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
