"""The program: reads settings and creates one environment. `pulumi up` and `infra.embedded` both evaluate it."""

from __future__ import annotations

from typing import Any

import pulumi

from infra import recorded as state
from infra.answers import sentence
from infra.components import TYPE_PREFIX
from infra.components.agent_access import AgentAccess
from infra.components.apis import Apis
from infra.components.buckets import TuningBuckets
from infra.components.environment_document import EnvironmentDocument
from infra.components.grants import Grants
from infra.components.guardrails import Guardrails
from infra.components.runner_identity import RunnerIdentity
from infra.components.service_agents import ServiceAgents
from infra.consistency import OnTaken, ask, retry_transient
from infra.held_data import OUTPUT, managed, refuse_losses
from infra.provider import make_provider
from infra.recorded import Recorded
from infra.settings.stack import Settings, current_configuration


class TuningPlatform(pulumi.ComponentResource):
    """Everything that tuning open models in one project needs, in one region or several.

    Parts that are switched off are not even imported: most of the time is spent on loading a service's classes.
    """

    def __init__(
        self,
        name: str,
        settings: Settings,
        recorded: Recorded,
        on_taken: OnTaken | None,
        opts: pulumi.ResourceOptions | None = None,
    ) -> None:
        waiting = pulumi.ResourceOptions(transformations=[retry_transient(on_taken)])
        super().__init__(f"{TYPE_PREFIX}:TuningPlatform", name, None, pulumi.ResourceOptions.merge(opts, waiting))
        grants = Grants(recorded)
        apis = Apis("apis", settings, pulumi.ResourceOptions(parent=self))
        # A component passes `depends_on` to its children: nothing is created before its API is enabled.
        after_apis = pulumi.ResourceOptions(parent=self, depends_on=apis.services)
        asked = {"projectId": settings.project}
        project = ask("gcp:organizations/getProject:getProject", asked, self, apis.services)
        number = project.apply(lambda found: str(found["number"]))
        agents = ServiceAgents("service-agents", settings, number, after_apis)
        buckets = TuningBuckets("buckets", settings, recorded, agents, grants, apis.services, after_apis)
        access = AgentAccess(
            "agent-access", settings, buckets.buckets, agents.granted, agents.generated, grants, after_apis
        )
        runner = RunnerIdentity("runner-identity", settings, buckets.buckets, grants, after_apis)
        endpoints: dict[str, pulumi.Output[str]] = {}
        if settings.endpoint:
            from infra.components.serving_endpoint import ServingEndpoint

            endpoints = ServingEndpoint("serving", settings, after_apis).resource_names
        self.pipelines = {}
        if settings.continuous_integration:
            from infra.components.pipelines import Pipelines

            self.pipelines = Pipelines(
                "pipelines", settings, buckets.buckets, runner.account, number, grants, after_apis
            ).document
        if settings.idle_guard:
            from infra.components.idle_guard import IdleGuard

            IdleGuard("idle-guard", settings, buckets.names(settings.region)["contract"], grants, after_apis)
        Guardrails("guardrails", settings, number, recorded, after_apis)
        # Published last: readers can rely on the grants being there.
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


def deploy(on_taken: OnTaken | None = None) -> pulumi.Output[dict[str, Any]]:
    """Read the configuration, declare the stack and export its outputs.

    Args:
        on_taken: returns the command to run if a resource with the same name exists.

    Returns:
        The environment document, after it is published.

    Raises:
        ConfigurationError: the configuration has mistakes; all are listed.
    """
    settings = Settings.load(current_configuration())
    recorded = state.read()
    provider = make_provider(settings)
    refuse_losses(settings, recorded, lambda bucket: _objects(bucket, provider))
    platform = TuningPlatform("tuning", settings, recorded, on_taken, pulumi.ResourceOptions(providers=[provider]))
    pulumi.export("environment", platform.environment.document)
    pulumi.export(OUTPUT, managed(settings, recorded))
    published: pulumi.Output[Any] = pulumi.Output.all(platform.environment.document, platform.environment.published.id)
    document: pulumi.Output[dict[str, Any]] = published.apply(lambda found: found[0])
    return document


def _objects(bucket: str, provider: pulumi.ProviderResource) -> list[str]:
    """Return the names of objects in a bucket that a change would delete; [] if the bucket does not exist."""
    from pulumi_gcp.storage.get_bucket_objects import get_bucket_objects

    try:
        found = get_bucket_objects(bucket=bucket, opts=pulumi.InvokeOptions(provider=provider))
    except Exception as error:  # the SDK has no class for a provider's response
        if "404" in str(error):
            return []
        raise pulumi.RunError(
            f"gs://{bucket} would be deleted, and what it holds cannot be seen: {sentence(str(error))}"
        ) from error
    return [str(item.name if hasattr(item, "name") else item["name"]) for item in found.bucket_objects]
