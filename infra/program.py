"""The program: settings in, one environment out. `pulumi up` and `infra.embedded` both evaluate this."""

from __future__ import annotations

import pulumi
from pulumi_gcp import organizations

from infra.components import TYPE_PREFIX
from infra.components.agent_access import AgentAccess
from infra.components.apis import Apis
from infra.components.buckets import TuningBuckets
from infra.components.environment_document import EnvironmentDocument
from infra.components.guardrails import Guardrails
from infra.components.runner_identity import RunnerIdentity
from infra.components.service_agents import ServiceAgents
from infra.components.serving_endpoint import ServingEndpoint
from infra.consistency import retry_transient
from infra.provider import make_provider
from infra.settings import Settings, current_configuration


class TuningPlatform(pulumi.ComponentResource):
    """Everything that tuning open models in one project and region needs."""

    def __init__(self, name: str, settings: Settings, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__(f"{TYPE_PREFIX}:TuningPlatform", name, None, opts)
        hooks = retry_transient()
        apis = Apis("apis", settings, pulumi.ResourceOptions(parent=self))
        # A component passes `depends_on` to its children: nothing is made before its API is on.
        after_apis = pulumi.ResourceOptions(parent=self, depends_on=apis.services)
        project = organizations.get_project_output(
            project_id=settings.project,
            opts=pulumi.InvokeOutputOptions(parent=self, depends_on=apis.services),
        )
        number = project.number.apply(str)
        agents = ServiceAgents("service-agents", settings, number, hooks, after_apis)
        buckets = TuningBuckets("buckets", settings, number, agents.emails, after_apis)
        access = AgentAccess(
            "agent-access", settings, buckets.buckets, agents.emails, agents.generated, hooks, after_apis
        )
        runner = RunnerIdentity("runner-identity", settings, buckets.buckets, number, hooks, after_apis)
        serving = ServingEndpoint("serving", settings, after_apis) if settings.endpoint else None
        Guardrails("guardrails", settings, number, after_apis)
        # Published last: whoever reads it may rely on the grants.
        self.environment = EnvironmentDocument(
            "environment-document",
            settings,
            project_number=number,
            bucket_names=buckets.names,
            agents=agents.emails,
            runner_email=runner.email,
            endpoints={"default": serving.resource_name} if serving else {},
            opts=pulumi.ResourceOptions(parent=self, depends_on=access.grants),
        )
        self.workload_identity_provider = runner.workload_identity_provider
        self.register_outputs({"environment": self.environment.document})


def deploy() -> None:
    """Read the configuration, declare the stack and export its outputs.

    Raises:
        ConfigurationError: the configuration has mistakes; all are listed.
    """
    settings = Settings.load(current_configuration())
    provider = make_provider(settings)
    platform = TuningPlatform("tuning", settings, pulumi.ResourceOptions(providers=[provider]))
    pulumi.export("environment", platform.environment.document)
    if platform.workload_identity_provider is not None:
        pulumi.export("workloadIdentityProvider", platform.workload_identity_provider)
