"""One project of the emulator, to which the tests apply the program without the engine."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from infra.embedded import ApplyResult, apply, destroy
from infra.naming import endpoint_id
from tests.loopback import NO_TLS

GUARDRAILS = {
    "labels": '{"team": "ml"}',
    "githubRepository": "owner/repository",
    "githubRepositoryId": "1234",
    "githubOwnerId": "56",
    "runnerImpersonators": '["user:ada@example.com"]',
    "notificationEmails": '["ml@example.com"]',
    "budgetAmount": "100",
    "billingAccount": "012345-6789AB-CDEF01",
    "dataAccessAudit": "true",
    "concurrentTuningJobs": "3",
}


@dataclass(frozen=True, slots=True)
class Stack:
    """One project of the emulator, and what is applied to it."""

    url: str
    project: str
    state: Path
    name: str = "local"

    def apply(self, **config: str) -> ApplyResult:
        return apply(self.url, project=self.project, config=config, state=self.state, stack=self.name)

    def destroy(self) -> ApplyResult:
        return destroy(self.state, project=self.project, stack=self.name)

    def request(self, method: str, path: str, body: Any = None) -> Any:
        response = httpx.request(method, f"{self.url}{path}", json=body, trust_env=False, timeout=60, verify=NO_TLS)
        assert response.is_success, response.text
        return response.json() if response.content else {}

    def status(self, path: str) -> int:
        return httpx.get(f"{self.url}{path}", trust_env=False, timeout=60, verify=NO_TLS).status_code

    @property
    def account(self) -> str:
        name = f"tuning-runner@{self.project}.iam.gserviceaccount.com"
        return f"/v1/projects/{self.project}/serviceAccounts/{name}"

    @property
    def endpoint(self) -> str:
        number = endpoint_id(self.project, "us-central1", self.project)
        return f"/v1/projects/{self.project}/locations/us-central1/endpoints/{number}"

    def members(self, kind: str) -> set[tuple[str, str]]:
        policy = self.request("GET", f"/storage/v1/b/{self.project}-{kind}/iam")
        return {(item["role"], member) for item in policy.get("bindings", []) for member in item["members"]}
