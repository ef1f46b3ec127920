"""The program: settings in, one environment out. `pulumi up` and `infra.embedded` both evaluate this."""

from __future__ import annotations

import pulumi

from infra.components import TYPE_PREFIX
from infra.components.agent_access import AgentAccess
from infra.components.apis import Apis
from infra.components.buckets import TuningBuckets
from infra.components.environment_document import EnvironmentDocument
from infra.components.guardrails import Guardrails
from infra.components.runner_identity import RunnerIdentity
from infra.components.service_agents import ServiceAgents
from infra.consistency import retry_transient
from infra.provider import make_provider
from infra.settings.stack import Settings, current_configuration


class TuningPlatform(pulumi.ComponentResource):
    """Everything that tuning open models in one project needs, in one region or several.

    Parts that are switched off are not even imported: loading a service's classes takes longer than all else.
    """

    def __init__(self, name: str, settings: Settings, opts: pulumi.ResourceOptions | None = None) -> None:
        # Not at the top: `infra.components` has to prepare the package first, and imports are sorted.
        from pulumi_gcp.organizations.get_project import get_project_output

        super().__init__(f"{TYPE_PREFIX}:TuningPlatform", name, None, opts)
        hooks = retry_transient()
        apis = Apis("apis", settings, pulumi.ResourceOptions(parent=self))
        # A component passes `depends_on` to its children: nothing is made before its API is on.
        after_apis = pulumi.ResourceOptions(parent=self, depends_on=apis.services)
        project = get_project_output(
            project_id=settings.project,
            opts=pulumi.InvokeOutputOptions(parent=self, depends_on=apis.services),
        )
        number = project.number.apply(str)
        agents = ServiceAgents("service-agents", settings, number, hooks, after_apis)
        buckets = TuningBuckets("buckets", settings, agents, hooks, apis.services, after_apis)
        access = AgentAccess(
            "agent-access", settings, buckets.buckets, agents.granted, agents.generated, hooks, after_apis
        )
        runner = RunnerIdentity("runner-identity", settings, buckets.buckets, hooks, after_apis)
        endpoints: dict[str, pulumi.Output[str]] = {}
        if settings.endpoint:
            from infra.components.serving_endpoint import ServingEndpoint

            endpoints = ServingEndpoint("serving", settings, after_apis).resource_names
        self.pipelines = {}
        if settings.continuous_integration:
            from infra.components.pipelines import Pipelines

            self.pipelines = Pipelines(
                "pipelines", settings, buckets.buckets, runner.account, number, hooks, after_apis
            ).document
        if settings.idle_guard:
            from infra.components.idle_guard import IdleGuard

            IdleGuard("idle-guard", settings, buckets.names(settings.region)["contract"], hooks, after_apis)
        Guardrails("guardrails", settings, number, after_apis)
        # Published last: whoever reads it may rely on the grants.
        self.environment = EnvironmentDocument(
            "environment-document",
            settings,
            project_number=number,
            bucket_names={stamp.region: buckets.names(stamp.region) for stamp in settings.stamps},
            agents=agents.emails,
            runner_email=runner.email,
            endpoints=endpoints,
            pipelines=self.pipelines,
            opts=pulumi.ResourceOptions(parent=self, depends_on=access.grants),
        )
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
