"""Maintains one issue on GitLab while there is drift: opens, updates and closes it.

    python -m infra.automation.gitlab_issue preview-*.json

GitLab sets all of these variables except the first: ISSUE_TOKEN (a project access token with the scope `api`, as a
protected variable, so that only pipelines of protected branches have it), CI_API_V4_URL, CI_PROJECT_ID. The exit code
is 1 while there is drift. Only Python is required.
"""

from __future__ import annotations

import json
import os
import sys
import urllib.parse
import urllib.request
from pathlib import Path
from typing import Any

from infra.automation.report import drift, read

TITLE = "Infrastructure drift"
LABEL = "infra-drift"
_TIMEOUT_SECONDS = 60


def settle(text: str) -> str:
    """Set the issue's text ("" if there is no drift), and return what was done."""
    query = urllib.parse.urlencode({"state": "opened", "labels": LABEL, "per_page": "1"})
    found = _call("GET", f"issues?{query}")
    if not text:
        if not found:
            return "no drift"
        _call("POST", f"issues/{found[0]['iid']}/notes", {"body": "The drift is gone."})
        _call("PUT", f"issues/{found[0]['iid']}", {"state_event": "close"})
        return "closed"
    if not found:
        _call("POST", "issues", {"title": TITLE, "description": text, "labels": LABEL})
        return "opened"
    # The first line is a fingerprint of the drift: if the same drift recurs each night, the issue is not updated.
    if text.splitlines()[0] in (found[0].get("description") or ""):
        return "known"
    _call("PUT", f"issues/{found[0]['iid']}", {"description": text})
    return "updated"


def _call(method: str, path: str, body: dict[str, str] | None = None) -> Any:
    url = f"{os.environ['CI_API_V4_URL']}/projects/{os.environ['CI_PROJECT_ID']}/{path}"
    headers = {"PRIVATE-TOKEN": os.environ["ISSUE_TOKEN"], "Content-Type": "application/json"}
    data = json.dumps(body).encode() if body is not None else None
    # GitLab itself gives this address to its pipelines.
    request = urllib.request.Request(url, data=data, headers=headers, method=method)  # noqa: S310
    with urllib.request.urlopen(request, timeout=_TIMEOUT_SECONDS) as answer:  # noqa: S310
        return json.loads(answer.read() or b"null")


def main(arguments: list[str]) -> int:
    """Update the issue and return the exit status."""
    if not arguments:
        sys.stderr.write(__doc__ or "")
        return 2
    text = drift(read([Path(name) for name in arguments]))
    done = settle(text) if os.environ.get("ISSUE_TOKEN") else "not reported: ISSUE_TOKEN is not set"
    sys.stdout.write(f"{text}issue: {done}\n")
    return 1 if text else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
