"""Command lines of the sweep that deploy, take down and ask."""

from __future__ import annotations

import json
import time
from typing import Any

from runner.gcp import endpoints
from runner.gcp.endpoints import Endpoint
from runner.serving import leases
from runner.serving.deployment import deploy
from runner.serving.leaks import find_leaks
from runner.serving.plan import plan_deployment
from tests.breaking.flows.flow import Flow
from tests.breaking.serving import answer_to
from tests.breaking.world import Ended

MACHINE = "g2-standard-12"
QUESTIONS = 3


class _Serving(Flow):
    def prepare(self) -> None:
        """Store weights, and deploy a model that is somebody else's."""
        bucket = self.place.environment.outputs_bucket
        self.place.put(b'{"model_type": "llama"}', "weights/config.json", bucket)
        self.place.put(b"never read", "weights/model.safetensors", bucket)
        self.source = f"gs://{bucket}/weights"
        self.theirs: set[str] = set()

    def deploy(self, name: str, endpoint: str | None = None, percent: int = 100) -> Endpoint:
        """Deploy with the library."""
        session = self.place.direct
        plan = plan_deployment(
            session, self.source, machine_type=MACHINE, endpoint=endpoint, display_name=name, percent=percent
        )
        return deploy(session, plan, poll=0.1)

    def truth(self) -> set[str]:
        """Return the names of all endpoints, models and deployed models."""
        found: set[str] = set()
        for collection in ("endpoints", "models"):
            path = f"/v1beta1/{self.place.environment.parent}/{collection}"
            for item in self.place.direct.http.get(path).json().get(collection, []):
                found.add(item["name"])
                found |= {f"{item['name']}/deployedModels/{one['id']}" for one in item.get("deployedModels", [])}
        return found

    def unlisted(self, ended: Ended) -> list[str]:
        """Return what is there after a failed deployment and no `leaks` names."""
        deadline = time.monotonic() + 120
        with self.place.entered():
            while True:  # until the service is at rest
                before = self.truth()
                shown = find_leaks(self.place.direct, grace=-3600.0)
                if before == self.truth() or time.monotonic() > deadline:
                    break
        named = {name for leak in shown for name in leak.resources}
        return [f"{name} is not listed" for name in sorted(before - named - self.theirs)]


class Deploy(_Serving):
    """`endpoints deploy` to a new endpoint."""

    name = "deploy"

    def command(self) -> list[str]:
        """Deploy."""
        return [*("endpoints", "deploy", self.source, "--machine-type", MACHINE), "--yes", "--format", "json"]

    def after(self, ended: Ended) -> list[str]:
        """Success means that it serves, failure that whatever is left is listed."""
        if ended.code != 0:
            return self.unlisted(ended)
        served = [name for name in self.truth() if "/deployedModels/" in name]
        return [] if len(served) == 1 else [f"success, and {len(served)} models serve"]

    def again(self) -> list[str]:
        """Remove what is left."""
        return ["leaks", "--clean", "--yes", "--format", "json"]

    def finally_(self, ended: Ended) -> list[str]:
        """Nothing is left but a deployment that was finished, which has a lease."""
        wrong = []
        for endpoint in endpoints.list_endpoints(self.place.direct):
            for item in endpoint.deployed_models:
                wrong += [] if item.labels else ["it serves without a lease"]
        served = {name for name in self.truth() if "/deployedModels/" in name}
        left = sorted(self.truth()) if not served else []
        return [*wrong, *(f"{name} is left" for name in left)]


class DeployStanding(Deploy):
    """`endpoints deploy` to an endpoint that is there."""

    name = "deploy to an endpoint"

    def prepare(self) -> None:
        """Make the endpoint."""
        super().prepare()
        path = f"/v1beta1/{self.place.environment.parent}/endpoints"
        answer = self.place.direct.http.post(path, json={"displayName": "standing"}).raise_for_status().json()
        self.standing = str(answer["response"]["name"])
        self.theirs = {self.standing, *self.truth()}

    def command(self) -> list[str]:
        """Deploy."""
        return [*super().command()[:3], "--machine-type", MACHINE, "--endpoint", self.standing, "--yes", "--json"]

    def finally_(self, ended: Ended) -> list[str]:
        """The endpoint stays, and what serves there has a lease."""
        return [line for line in super().finally_(ended) if not any(name in line for name in self.theirs)]


class Promote(_Serving):
    """`endpoints promote` of the newer of two models."""

    name = "promote"

    def prepare(self) -> None:
        """Deploy both."""
        super().prepare()
        self.older = self.deploy("older")
        self.endpoint = self.deploy("newer", self.older.id, percent=50)
        [new] = {item.id for item in self.endpoint.deployed_models} - {self.older.deployed_models[0].id}
        self.new = new

    def command(self) -> list[str]:
        """Promote."""
        return ["endpoints", "promote", self.endpoint.id, "--model", self.new, "--yes", "--format", "json"]

    def after(self, ended: Ended) -> list[str]:
        """The traffic is whole; success means that only the new model serves."""
        now = endpoints.get_endpoint(self.place.direct, self.endpoint.id)
        serving = {item.id for item in now.deployed_models}
        wrong = [] if self.new in serving else ["the new model is gone"]
        wrong += [] if sum(now.traffic.values()) == 100 and set(now.traffic) <= serving else [f"traffic {now.traffic}"]
        if ended.code == 0 and (serving != {self.new} or now.traffic != {self.new: 100}):
            wrong.append(f"success, and {now.traffic} of {serving}")
        return wrong

    def finally_(self, ended: Ended) -> list[str]:
        """Only the new model serves."""
        return self.after(ended)


class Undeploy(_Serving):
    """`endpoints undeploy --delete`."""

    name = "undeploy"

    def prepare(self) -> None:
        """Deploy."""
        super().prepare()
        self.endpoint = self.deploy("served")

    def command(self) -> list[str]:
        """Undeploy."""
        return ["endpoints", "undeploy", self.endpoint.id, "--delete", "--yes", "--format", "json"]

    def after(self, ended: Ended) -> list[str]:
        """Success means that nothing is there any more."""
        return [f"success, and {name} is there" for name in sorted(self.truth())] if ended.code == 0 else []

    def again(self) -> list[str]:
        """Undeploy what still is; of a model alone, the command that removes it."""
        there = self.truth()
        if self.endpoint.name in there:
            return self.command()
        return ["leaks", "--clean", "--yes", "--format", "json"]

    def finally_(self, ended: Ended) -> list[str]:
        """Nothing is billed."""
        return [f"{name} is billed" for name in sorted(self.truth()) if "/deployedModels/" in name]


class Leaks(_Serving):
    """`leaks --clean` of an expired deployment, beside one whose lease goes on."""

    name = "leaks --clean"

    def prepare(self) -> None:
        """Deploy both."""
        super().prepare()
        self.kept = self.deploy("kept")
        kept = self.truth()
        self.ended = self.deploy("ended")
        leases.extend(self.place.direct, self.ended, -5.0)
        self.theirs = kept

    def command(self) -> list[str]:
        """Clean."""
        return ["leaks", "--clean", "--yes", "--format", "json"]

    def after(self, ended: Ended) -> list[str]:
        """What is in use stays; success means that the rest is gone."""
        now = self.truth()
        wrong = [f"{name} was removed" for name in sorted(self.theirs - now)]
        return wrong + ([f"success, and {name} is there" for name in sorted(now - self.theirs)] * (ended.code == 0))

    def finally_(self, ended: Ended) -> list[str]:
        """Nothing but what is in use is billed."""
        now = self.truth()
        wrong = [f"{name} was removed" for name in sorted(self.theirs - now)]
        return wrong + [f"{name} is billed" for name in sorted(now - self.theirs) if "/deployedModels/" in name]


class _Asking(_Serving):
    def prepare(self) -> None:
        """Deploy two models, once for all, and write questions."""
        shared = self.place.world.shared
        if "asked" in shared:
            self.place.environment, self.tuned, self.base = shared["asked"]
        else:
            super().prepare()
            self.tuned, self.base = self.deploy("tuned").id, self.deploy("base").id
            shared["asked"] = self.place.environment, self.tuned, self.base
        self.questions = self.place.folder / "questions.jsonl"


class Batch(_Asking):
    """`batch` of a few questions."""

    name = "batch"

    def command(self) -> list[str]:
        """Ask."""
        lines = [{"messages": [{"role": "user", "content": f"q{i}"}]} for i in range(QUESTIONS)]
        self.questions.write_text("".join(json.dumps(line) + "\n" for line in lines))
        self.output = self.place.folder / "answers.jsonl"
        return [
            *("batch", str(self.questions), "--endpoint", self.tuned, "-o", str(self.output)),
            *("--concurrency", "1", "--format", "json"),
        ]

    def after(self, ended: Ended) -> list[str]:
        """Success means all answers, in order."""
        if ended.code != 0:
            return []
        found = [json.loads(line) for line in self.output.read_text().splitlines()] if self.output.exists() else []
        wanted = [answer_to(f"q{i}") for i in range(QUESTIONS)]
        return [] if [item.get("answer") for item in found] == wanted else [f"success, and {found}"]

    def finally_(self, ended: Ended) -> list[str]:
        """All answers are there."""
        return self.after(ended)


class Eval(_Asking):
    """`eval` of two endpoints."""

    name = "eval"

    def command(self) -> list[str]:
        """Ask both."""
        lines = [{"prompt": f"q{i}", "completion": f"answer to q{i}"} for i in range(QUESTIONS)]
        self.questions.write_text("".join(json.dumps(line) + "\n" for line in lines))
        return [
            *("eval", str(self.questions), "--endpoint", self.tuned, "--base-endpoint", self.base),
            *("--concurrency", "1", "--yes", "--format", "json"),
        ]

    def after(self, ended: Ended) -> list[str]:
        """Success means that every question was scored."""
        if ended.code != 0:
            return []
        body: Any = ended.document
        found = [(pair["base"], pair["tuned"]) for pair in body["pairs"]]
        wanted = [(answer_to(f"q{i}"), answer_to(f"q{i}")) for i in range(QUESTIONS)]
        return [] if found == wanted else [f"success, and {found}"]

    def finally_(self, ended: Ended) -> list[str]:
        """Every question was scored."""
        return self.after(ended)
