"""Formats previews for pipelines: one comment on a pull request, one issue while there is drift.

    python -m infra.automation.report comment PATH...        Markdown of the comment
    python -m infra.automation.report drift PATH...          Markdown of the issue; exit code 1 if there is drift
    python -m infra.automation.report counts PATH...         JSON for GitLab's report of infrastructure changes
    python -m infra.automation.report markdown FILE MARK     a report of `runner plan` or `drift` as a comment

A path is a file `preview-STACK.json`, or a folder of such files, with the output of
`runner infra preview --format json`: standard output or, after a failure, standard error. The code of a change may have
written the files, so they are not trusted: they are read up to a limit, every field is checked, and no text becomes
markup, a mention or a link. Only Python is required, so the job that can write comments runs no code of the change.
"""

from __future__ import annotations

import hashlib
import json
import re
import sys
from pathlib import Path
from typing import Any

from runner.wording import counted

COMMENT_MARK = "<!-- runner infra preview -->"
DRIFT_MARK = "<!-- runner infra drift: {} -->"
LIMIT = 65_000
"""Maximum length of a comment: GitHub refuses more than 65 536 characters."""
LARGEST = 4 * 1024 * 1024
"""Maximum size of a file in bytes; a larger file counts as a failure."""
MOST = 32
"""Maximum number of files that are read."""

_SECRETS = (
    # Not `google-beta@9.35.0`, which is a version.
    (re.compile(r"\b[\w.+-]+@(?!\d+(?:\.\d+)+\b)[\w-]+(\.[\w-]+)+\b"), "ACCOUNT"),
    (re.compile(r"principal(Set)?://\S+"), "PRINCIPAL"),
    (re.compile(r"\b[0-9A-F]{6}-[0-9A-F]{6}-[0-9A-F]{6}\b"), "BILLING-ACCOUNT"),
    (re.compile(r"\bya29\.[\w.-]+"), "TOKEN"),
    (re.compile(r"\bprojects/[0-9]{6,}\b"), "projects/NUMBER"),
)
_DESTRUCTIVE = ("delete", "replace")
_BACKTICKS = re.compile(r"`{3,}")
_FILE = re.compile(r"preview-([A-Za-z0-9][A-Za-z0-9_.-]{0,62})\.json")
_WORD = re.compile(r"[A-Za-z][A-Za-z0-9 _-]{0,39}")
_UNSEEN = re.compile(  # characters that move the cursor, change the text direction, or are invisible
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\U000e0000-\U000e007f]"
)
_TAGS = frozenset({"<details>", "</details>", "<summary>", "</summary>", "<br>"})
_MARKUP = re.compile(r"</?\w+>|[<@]|#(?=\d)|!(?=\[)|\](?=[(\[:])|:(?=//)|(?<=www)\.", re.IGNORECASE)


def redacted(text: str) -> str:
    """Return a text with accounts, principals, billing accounts, tokens and project numbers removed."""
    for pattern, word in _SECRETS:
        text = pattern.sub(word, text)
    return text


def comment(previews: dict[str, dict[str, Any]]) -> str:
    """Return the comment for the previews of several stacks, by stack name."""
    lines = [COMMENT_MARK, "## Infrastructure preview", "", "| stack | result | |", "|---|---|---|"]
    for stack, preview in sorted(previews.items()):
        warning = "**deletes or replaces**" if _destroys(preview) else ""
        lines.append(f"| {stack} | {_summary(preview)} | {warning} |")
    room = LIMIT - sum(len(line) + 1 for line in lines)
    for stack, preview in sorted(previews.items()):
        text = _BACKTICKS.sub("``", redacted(_UNSEEN.sub("\ufffd", _text(preview)[:LARGEST])))
        share = max(0, room // max(1, len(previews)) - 200)
        if len(text) > share:
            text = text[:share] + "\n… the rest is in the run's log"
        lines += ["", f"<details><summary>{stack}</summary>", "", "```text", text, "```", "</details>"]
    return "\n".join(lines) + "\n"


def drift(previews: dict[str, dict[str, Any]]) -> str:
    """Return the issue that reports drift, or "" if there is none. Its fingerprint uses repeatable counts."""
    drifted = {stack: preview for stack, preview in previews.items() if _summary(preview) != "no changes"}
    if not drifted:
        return ""
    counted = json.dumps({stack: _summary(preview) for stack, preview in sorted(drifted.items())}, sort_keys=True)
    fingerprint = hashlib.sha256(counted.encode()).hexdigest()[:16]
    lines = [DRIFT_MARK.format(fingerprint), "What is there is not what the program says:", ""]
    lines += [f"- **{stack}**: {_summary(preview)}" for stack, preview in sorted(drifted.items())]
    lines += ["", "`runner infra preview --stack STACK` shows it, `runner infra up --stack STACK` repairs it."]
    return "\n".join(lines) + "\n"


def counts(previews: dict[str, dict[str, Any]]) -> dict[str, int]:
    """Return what GitLab shows in a merge request: only numbers, so nothing needs redaction, and no token is needed.

    A replacement counts as one deletion and one creation.
    """
    found = {"create": 0, "update": 0, "delete": 0}
    for preview in previews.values():
        for name, count in _changes(preview).items():
            for word in ("create", "delete") if name == "replace" else (name,):
                if word in found:
                    found[word] += count
    return found


def inert(text: str) -> str:
    """Return Markdown without mentions, references, images, links, and tags other than those that fold a part."""

    def escaped(match: re.Match[str]) -> str:
        return match[0] if match[0] in _TAGS else f"&#{ord(match[0][0])};{match[0][1:]}"

    return _MARKUP.sub(escaped, _UNSEEN.sub("\ufffd", text))


def markdown(text: str, mark: str = "<!-- runner -->") -> str:
    """Return a report about tuning jobs as a comment that begins with a marker."""
    body = inert(redacted(text))
    room = LIMIT - len(mark)
    return f"{mark}\n{body if len(body) <= room else body[:room] + ' … the rest is in the run'}\n"


def _changes(preview: dict[str, Any]) -> dict[str, int]:
    """Return the counts by operation; entries that are not a word with a count are omitted."""
    summary = preview.get("summary")
    pairs = summary.items() if isinstance(summary, dict) else ()
    return {
        word: count
        for name, count in pairs
        if (word := str(name).rsplit(".", 1)[-1].lower())
        and _WORD.fullmatch(word)
        and isinstance(count, int)
        and not isinstance(count, bool)
        and 0 <= count < 1_000_000
    }


def _text(preview: dict[str, Any]) -> str:
    error = preview.get("error")
    if "error" in preview:
        return str(error.get("message", "")) if isinstance(error, dict) else ""
    return str(preview.get("diff") or preview.get("text") or json.dumps(preview, indent=1))


def _summary(preview: dict[str, Any]) -> str:
    if "error" in preview:
        code = preview["error"].get("code") if isinstance(preview["error"], dict) else None
        return f"failed: {code if isinstance(code, str) and _WORD.fullmatch(code) else 'unknown'}"
    changes = [f"{count} {name}" for name, count in sorted(_changes(preview).items()) if name != "same"]
    if changes:
        return ", ".join(changes)
    total = preview.get("changes")
    if not total and isinstance(total, int | None):
        return "no changes"
    return counted(total, "change") if isinstance(total, int) and total < 1_000_000 else "unknown changes"


def _destroys(preview: dict[str, Any]) -> bool:
    return any(word in name for name in _changes(preview) for word in _DESTRUCTIVE)


def read(paths: list[Path]) -> dict[str, dict[str, Any]]:
    """Return the previews by stack. A file that is not a JSON object, too large or not regular counts as a failure.

    In a folder, files not named `preview-STACK.json` and all files after the first `MOST` are ignored.
    """
    found: dict[str, dict[str, Any]] = {}
    for path in paths:
        for file in sorted(path.iterdir()) if path.is_dir() else [path]:
            match = _FILE.fullmatch(file.name)
            if match and len(found) < MOST:
                found[match[1]] = _read(file)
    return found


def _read(file: Path) -> dict[str, Any]:
    failure = {"error": {"code": "no result", "message": "see the run's log"}}
    if file.is_symlink() or not file.is_file():
        return failure
    with file.open("rb") as stream:
        content = stream.read(LARGEST + 1)
    try:
        body = json.loads(content) if len(content) <= LARGEST else None
    except (ValueError, RecursionError):
        body = None
    return body if isinstance(body, dict) else failure


def main(arguments: list[str]) -> int:
    """Print the requested report and return the exit status."""
    if len(arguments) < 2 or arguments[0] not in {"comment", "counts", "drift", "markdown"}:
        sys.stderr.write(__doc__ or "")
        return 2
    if arguments[0] == "markdown":
        with Path(arguments[1]).open("rb") as stream:
            sys.stdout.write(markdown(stream.read(LARGEST).decode("utf-8", "replace"), *arguments[2:3]))
        return 0
    previews = read([Path(name) for name in arguments[1:]])
    if arguments[0] == "counts":
        sys.stdout.write(json.dumps(counts(previews)) + "\n")
        return 0
    if not previews:
        previews = {"none": {"error": {"code": "no result", "message": "no preview was made"}}}
    text = comment(previews) if arguments[0] == "comment" else drift(previews)
    sys.stdout.write(text)
    return 1 if arguments[0] == "drift" and text else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
