"""The requests of two Pulumi programs, as the google provider sent them, replayed in order.

`data/provider_conversation.jsonl` has one request a line: `phase` (up, unchanged, destroy), `method`, `path`, `body` or
`media`, the `status` that the provider needs (null: it goes on whatever comes) and the part of the `response` that it
reads. Names that a server draws are placeholders: `{project}`, `{number}`, `{etag}` (the one last read of that
resource), or what an earlier line has under `save`; `{any}` in a response only has to be there. A read without a
`response` expects the one before it again. Lines with `added` are not the provider's: they enable APIs and make the
service agent that the recorded programs did not ask for.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import httpx
import pytest

from runner.emulator.server import EmulatorServer

CONVERSATION = [
    json.loads(line)
    for line in (Path(__file__).parent / "data" / "provider_conversation.jsonl").read_text().splitlines()
]
_PLACEHOLDER = re.compile(r"\{(\w+)\}")


def _resource(path: str) -> str:
    """Return what a policy request is about."""
    return re.sub(r"(:[gs]etIamPolicy|/iam)$", "", path.split("?", 1)[0])


def _reads(line: dict[str, Any]) -> bool:
    return line["method"] == "GET" or ":getIamPolicy" in line["path"]


def _lacking(expected: Any, actual: Any, where: str = "") -> list[str]:
    """Return where `actual` lacks something of `expected`; lists are compared as sets of what must be in them."""
    if expected == "{any}":
        return [] if actual not in (None, "") else [f"{where}: missing"]
    if isinstance(expected, dict):
        if not isinstance(actual, dict):
            return [f"{where}: {actual!r} is no object"]
        return [
            problem for key, value in expected.items() for problem in _lacking(value, actual.get(key), f"{where}.{key}")
        ]
    if isinstance(expected, list):
        if not expected:
            return []
        if not isinstance(actual, list):
            return [f"{where}: {actual!r} is no list"]
        return [f"{where}: no {item!r}" for item in expected if all(_lacking(item, other) for other in actual)]
    return [] if expected == actual else [f"{where}: {actual!r}, not {expected!r}"]


class Replay:
    """Sends the conversation to one server in the name of one project."""

    def __init__(self, client: httpx.Client, project: str) -> None:
        self.client = client
        number = client.get(f"/v1/projects/{project}").json()["projectNumber"]
        self.values = {"project": project, "number": number}
        self.etags: dict[str, str] = {}
        self.expected: dict[str, Any] = {}
        self.seen: dict[tuple[str, str], Any] = {}

    def fill(self, value: Any, etag: str = "") -> Any:
        """Return a value with its placeholders filled in; `{any}` stays."""
        if isinstance(value, dict):
            return {key: self.fill(item, etag) for key, item in value.items()}
        if isinstance(value, list):
            return [self.fill(item, etag) for item in value]
        if not isinstance(value, str):
            return value
        known = {**self.values, "etag": etag}
        return _PLACEHOLDER.sub(lambda match: known.get(match.group(1), match.group()), value)

    def send(self, line: dict[str, Any]) -> tuple[str, httpx.Response]:
        """Send one line's request."""
        path = self.fill(line["path"])
        if "media" in line:
            content = (
                '--sep\r\nContent-Type: application/json\r\n\r\n{"contentType": "application/json"}\r\n'
                f"--sep\r\nContent-Type: application/json\r\n\r\n{line['media']}\r\n--sep--\r\n"
            )
            headers = {"Content-Type": "multipart/related; boundary=sep"}
            return path, self.client.post(path, content=content, headers=headers)
        body = self.fill(line.get("body"), self.etags.get(_resource(path), ""))
        return path, self.client.request(line["method"], path, json=body)

    def step(self, line: dict[str, Any]) -> list[str]:
        """Send one line; return what the provider would have stumbled over."""
        path, response = self.send(line)
        head = f"{line['method']} {path}"
        if line["status"] is None:
            return []
        if response.status_code != line["status"]:
            return [f"{head}: {response.status_code} {response.text}"]
        answer = response.json() if response.content else {}
        if "save" in line:
            self.values[line["save"]] = answer["name"].rsplit("/", 1)[-1]
        if "etag" in answer:
            self.etags[_resource(path)] = answer["etag"]
        expected = line.get("response", self.expected.get(head, {}) if _reads(line) else {})
        self.expected[head] = expected
        return _lacking(self.fill(expected), answer, head) + self.changes(line, path, answer)

    def changes(self, line: dict[str, Any], path: str, answer: Any) -> list[str]:
        """Return what a run with nothing to do finds changed since the run before it."""
        key = (line["method"], path)
        if not _reads(line):
            assert line["phase"] != "unchanged", "a run with nothing to do writes nothing"
            return []
        if line["phase"] == "unchanged" and key in self.seen and self.seen[key] != answer:
            return [f"{path} changed: {self.seen[key]} became {answer}"]
        self.seen[key] = answer
        return []


@pytest.mark.parametrize("project", ["conversation-one", "conversation-two"])
def test_the_provider_gets_the_answers_it_needs(emulator: EmulatorServer, project: str) -> None:
    with httpx.Client(base_url=emulator.url, timeout=120) as client:
        replay = Replay(client, project)
        problems = [problem for line in CONVERSATION for problem in replay.step(line)]
        assert problems == []
        _assert_destroyed(client, project)


def _assert_destroyed(client: httpx.Client, project: str) -> None:
    """After the last line nothing is left but what Google keeps as well: keys, quotas, pools marked deleted."""
    for path, field in (
        (f"/storage/v1/b?project={project}", "items"),
        (f"/v1/projects/{project}/serviceAccounts", "accounts"),
        (f"/v1/projects/{project}/locations/us-central1/endpoints", "endpoints"),
        (f"/v3/projects/{project}/alertPolicies", "alertPolicies"),
        (f"/v3/projects/{project}/notificationChannels", "notificationChannels"),
    ):
        answer = client.get(path)
        assert answer.status_code == 200, path
        assert field not in answer.json(), path
    pool = client.get(f"/v1/projects/{project}/locations/global/workloadIdentityPools/github").json()
    assert pool["state"] == "DELETED"
    gone = client.get(f"/storage/v1/b/{project}-datasets")
    assert gone.status_code == 404
    assert gone.json()["error"]["errors"][0]["reason"] == "notFound"
