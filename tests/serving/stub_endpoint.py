"""A real HTTP server that answers as an endpoint does, counts what it was asked, and fails now and then."""

from __future__ import annotations

import json
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from tests.local_server import Handler, LocalServer

BASE_MODEL = "meta/llama3_1@llama-3.1-8b-instruct"
PARENT = "projects/p/locations/us-central1"
ENDPOINT = f"{PARENT}/endpoints/77"


@dataclass(slots=True)
class StubEndpoint(LocalServer):
    """A context manager; `asked` counts answers sent by question, `most` is how many were under way at once."""

    seconds: float = 0.004
    resources: dict[str, Any] = field(default_factory=dict)
    """Of the deployed model: `{"dedicatedResources": …}`."""
    failing: dict[int, int] = field(default_factory=dict)
    """HTTP status by number of the request."""
    refusals: tuple[int, ...] = ()
    """HTTP statuses that every question meets before it is answered."""
    asked: Counter[str] = field(default_factory=Counter)
    refused: Counter[str] = field(default_factory=Counter)
    most: int = 0
    _requests: int = 0
    _now: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def handler(self) -> type[Handler]:
        """Return what answers as one endpoint."""
        stub = self

        class Endpoint(Handler):
            def answer_get(self) -> None:
                served = {"id": "1", "model": "m", **stub.resources}
                one = {"name": ENDPOINT, "displayName": "stub", "deployedModels": [served]}
                job = {"name": f"{PARENT}/tuningJobs/1", "baseModel": BASE_MODEL, "tunedModel": {"model": "m"}}
                lists = {"endpoints": [one], "tuningJobs": [job]}
                kind = self.path.split("?")[0].rpartition("/")[2]
                self.send_json(200, {kind: lists[kind]} if kind in lists else one)

            def answer_post(self) -> None:
                self.send_json(*stub._answer(json.loads(self.body())))

        return Endpoint

    def _answer(self, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        with self._lock:
            number = self._requests
            self._requests += 1
            self._now += 1
            self.most = max(self.most, self._now)
        try:
            # Later questions are answered sooner, so that answers come out of order.
            time.sleep(self.seconds * (1 + (number * 7) % 3))
            status = self.failing.get(number, 200)
            if status != 200:
                return status, {"error": {"code": status, "message": "injected", "status": "UNAVAILABLE"}}
            key = json.dumps(body.get("instances") or body.get("messages"))
            with self._lock:
                before = self.refused[key]
                self.refused[key] += before < len(self.refusals)
            if before < len(self.refusals):
                error = {"code": self.refusals[before], "message": "injected", "status": "UNAVAILABLE"}
                return self.refusals[before], {"error": error}
            if "instances" in body:
                question = str(body["instances"][0]["prompt"])
                answers = [f"answer to {instance['prompt']}" for instance in body["instances"]]
                answer: dict[str, Any] = {"predictions": answers}
            else:
                question = str(body["messages"][-1]["content"])
                if question == "forbidden":
                    return 400, {"error": {"code": 400, "message": "no", "status": "INVALID_ARGUMENT"}}
                message = {"role": "assistant", "content": f"answer to {question}"}
                answer = {
                    "model": "stub",
                    "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
                    "usage": {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5},
                }
            with self._lock:
                self.asked[question] += 1
            return 200, answer
        finally:
            with self._lock:
                self._now -= 1
