"""Google's own accounts that do the work of a tuning job."""

from __future__ import annotations

import pulumi
from pulumi_gcp.iam.workload_identity_service_agent import WorkloadIdentityServiceAgent
from pulumi_gcp.projects.service_identity import ServiceIdentity

from infra.components import TYPE_PREFIX
from infra.settings.stack import Settings

AGENT_DOMAINS = {"aiplatform": "gcp-sa-aiplatform", "tuning": "gcp-sa-vertex-moss-ft"}
"""The accounts of the specification: `service-PROJECT_NUMBER@DOMAIN.iam.gserviceaccount.com`."""


class ServiceAgents(pulumi.ComponentResource):
    """Makes sure that both agents exist before they are granted anything.

    Enabling Vertex AI creates neither. The first agent has a resource of its own. The tuning agent otherwise appears
    with the project's first tuning job, which is too late for its grants, so all agents of Vertex AI are generated.
    The addresses are built from the project number, because the API's identity response does not always contain them.
    """

    emails: dict[str, pulumi.Output[str]]
    """Addresses by `aiplatform` and `tuning`."""
    granted: dict[str, pulumi.Output[str]]
    """The agents that are granted permissions."""

    def __init__(
        self,
        name: str,
        settings: Settings,
        project_number: pulumi.Output[str],
        opts: pulumi.ResourceOptions | None = None,
    ) -> None:
        super().__init__(f"{TYPE_PREFIX}:ServiceAgents", name, None, opts)
        child = pulumi.ResourceOptions(parent=self)
        self.generated: list[pulumi.Resource] = [
            ServiceIdentity(
                "aiplatform-agent", project=settings.project, service="aiplatform.googleapis.com", opts=child
            )
        ]
        if settings.service_agents == "generate":
            parent = pulumi.Output.concat(
                "projects/", project_number, "/locations/global/serviceProducers/aiplatform.googleapis.com"
            )
            self.generated.append(WorkloadIdentityServiceAgent("aiplatform-agents", parent=parent, opts=child))
        self.emails = {
            key: pulumi.Output.concat("service-", project_number, f"@{domain}.iam.gserviceaccount.com")
            for key, domain in AGENT_DOMAINS.items()
        }
        left_out = {"tuning"} if settings.service_agents == "skip" else set()
        self.granted = {key: email for key, email in self.emails.items() if key not in left_out}
        self.register_outputs({"emails": self.emails})
