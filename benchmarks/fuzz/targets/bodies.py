"""Requests to the emulator: the first line of an input is the verb and the path, the rest is the body.

The emulator must answer every request, and never with a 500. No job is trained and no model served.
"""

from __future__ import annotations

import contextlib
import json
import random
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx

from benchmarks.fuzz.driver import Survive, Target
from benchmarks.fuzz.mutations import broken, of_document
from runner.emulator import services
from runner.emulator.definitions import documents, parsing
from runner.emulator.routing import Method
from runner.emulator.server import EmulatorServer
from runner.emulator.settings import EmulatorSettings
from tests.provisioning import provision

_PROJECT = "fuzzed"
_PLACE = re.compile(r"\{(\w+)(?::\w+)?(?:=([^}]+))?\}")
_VALUES = {"project": _PROJECT, "location": "us-central1", "bucket": f"{_PROJECT}-datasets", "object": "o"}
_LAUNCHES = ("deployModel", ":deploy", "predict", "rawPredict", "Content", "completions", "batchPredictionJobs")
"""Parts of paths that start a process if the request is valid."""
_EXPECTED = frozenset({501, 503, 507})
_SAMPLES: dict[str, Any] = {
    **{"string": "a", "bool": True, "int32": 1, "uint32": 1, "int64": "1", "uint64": "1", "float": 0.5, "double": 0.5},
    **{"bytes": "AAAA", "time": "2026-01-01T00:00:00Z", "duration": "86400s", "mask": "name", "any": {}},
}
_DEPTH = 2


class Bodies(Target):
    """Requests of every method."""

    name = "bodies"

    def seeds(self) -> list[bytes]:
        """Return a request of each method, with a body that has every field, and those of Google's own provider."""
        found = [_request(method) for method in services.all_methods() if not _launches(method.path)]
        talk = Path(__file__).parents[3] / "tests" / "contract" / "data" / "provider_conversation.jsonl"
        for line in talk.read_text("utf-8").splitlines():
            asked = json.loads(line)
            path = asked["path"].replace("{project}", _PROJECT).replace("{number}", "1")
            if not _launches(path):
                found.append(_joined(asked["method"], path, json.dumps(asked["body"]) if "body" in asked else ""))
        return sorted(set(found))

    def broken(self, draw: random.Random, data: bytes) -> bytes:
        """Return the request with another body or path."""
        head, _, body = data.partition(b"\n")
        if draw.random() < 0.3:
            return broken(draw, head, 1) + b"\n" + body
        return head + b"\n" + of_document(draw, body, json.loads, lambda value: json.dumps(value).encode())

    @contextlib.contextmanager
    def opened(self) -> Iterator[Survive]:
        """Run an emulator with a project; no job can start."""
        with tempfile.TemporaryDirectory() as name:
            settings = EmulatorSettings(directory=Path(name), stand_in="tiny", concurrent_tuning_jobs=0)
            with EmulatorServer(settings) as server, httpx.Client(base_url=server.url, timeout=30) as client:
                provision(server.url, _PROJECT)
                yield lambda data: _survive(client, data)


def _survive(client: httpx.Client, data: bytes) -> list[str]:
    head, _, body = data.partition(b"\n")
    verb, _, path = head.decode("latin-1").partition(" ")
    verb = verb if verb in {"GET", "POST", "PUT", "PATCH", "DELETE", "HEAD"} else "POST"
    path = "/" + re.sub(r"[^!-~]", lambda found: f"%{ord(found[0]):02X}", path).lstrip("/").replace("#", "%23")
    if _launches(path) or path.startswith("/_emulator/"):
        return ["left out"]
    try:
        url = httpx.URL(str(client.base_url).rstrip("/") + path)
    except httpx.InvalidURL:
        return ["no address"]
    answer = client.request(verb, url, content=body, headers={"content-type": "application/json"})
    assert answer.status_code < 500 or answer.status_code in _EXPECTED, f"{answer.status_code} {answer.text[:500]}"
    if answer.headers.get("content-type", "").startswith("application/json") and answer.content:
        document = answer.json()
        error = document.get("error", {}) if isinstance(document, dict) else {}
        return [f"{answer.status_code} {error.get('status', '') if isinstance(error, dict) else error}"]
    return [str(answer.status_code)]


def _launches(path: str) -> bool:
    return any(part in path for part in _LAUNCHES)


def _joined(verb: str, path: str, body: str) -> bytes:
    return f"{verb} {path}\n{body}".encode()


def _request(method: Method) -> bytes:
    def filled(match: re.Match[str]) -> str:
        name, alternatives = match[1], match[2]
        return str(alternatives.split("|")[0]) if alternatives else _VALUES.get(name, "1")

    path = _PLACE.sub(filled, method.path)
    definition = documents.method(method.id, path)
    if definition is None or not definition.request:
        return _joined(method.http, path, "{}" if method.http in {"POST", "PUT", "PATCH"} else "")
    return _joined(method.http, path, json.dumps(_sample(definition.document, definition.request, 0)))


def _sample(document: documents.Document, message: str, depth: int) -> dict[str, Any]:
    made: dict[str, Any] = {}
    for name, kind in document.messages[message]["fields"].items():
        plain = kind.rstrip("-!?").lstrip("[{")
        if parsing.is_output(kind) or plain.startswith("#"):
            continue
        if plain.startswith("@"):
            if depth == _DEPTH:
                continue
            value: Any = _sample(document, plain[1:], depth + 1)
        else:
            value = _SAMPLES[plain]
        made[name] = [value] if kind.startswith("[") else {"key": value} if kind.startswith("{") else value
    return made
