"""A project ready for tuning, made with plain REST calls: what `pulumi up` would leave, in milliseconds."""

from __future__ import annotations

from dataclasses import dataclass

import httpx

from tests.loopback import NO_TLS


@dataclass(frozen=True, slots=True, kw_only=True)
class Provisioned:
    """Names of what was made."""

    url: str
    project: str
    number: str
    location: str
    datasets: str
    images: str
    outputs: str

    @property
    def parent(self) -> str:
        """Return `projects/P/locations/L`."""
        return f"projects/{self.project}/locations/{self.location}"


def provision(url: str, project: str, *, location: str = "us-central1", grant: bool = True) -> Provisioned:
    """Enable the APIs, make both service agents and three buckets.

    And grant objectUser on them unless `grant` is false.
    """
    with httpx.Client(base_url=url, timeout=120, verify=NO_TLS) as client:

        def call(method: str, path: str, body: object | None = None) -> dict[str, object]:
            response = client.request(method, path, json=body)
            assert response.status_code < 300, f"{method} {path}: {response.status_code} {response.text}"
            answer: dict[str, object] = response.json() if response.content else {}
            return answer

        number = str(call("GET", f"/v1/projects/{project}")["projectNumber"])
        services = ["aiplatform.googleapis.com", "storage.googleapis.com"]
        call("POST", f"/v1/projects/{project}/services:batchEnable", {"serviceIds": services})
        parent = f"projects/{number}/locations/global/serviceProducers/aiplatform.googleapis.com"
        call("POST", f"/workloadidentity/v1/{parent}:generateServiceAgents", {"parent": parent})
        agents = [
            f"serviceAccount:service-{number}@gcp-sa-{name}.iam.gserviceaccount.com"
            for name in ("aiplatform", "vertex-moss-ft")
        ]
        names = {kind: f"{project}-{kind}" for kind in ("datasets", "images", "outputs")}
        for bucket in names.values():
            call("POST", f"/storage/v1/b?project={project}", {"name": bucket, "location": location})
            if grant:
                policy = {"bindings": [{"role": "roles/storage.objectUser", "members": agents}]}
                call("PUT", f"/storage/v1/b/{bucket}/iam", policy)
    return Provisioned(url=url, project=project, number=number, location=location, **names)
