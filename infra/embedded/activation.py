"""Types that enable something and have nothing to delete: APIs and Google's service agents."""

from __future__ import annotations

from typing import Any

from infra.embedded.resource_type import Context, Inputs, Live, ResourceType
from infra.embedded.rest import Rest


class _Activation(ResourceType):
    """Common behavior of these types."""

    def update(self, context: Context, live: Live, inputs: Inputs, changes: dict[str, Any]) -> Live:
        """Change nothing: these types have no inputs that can change."""
        return live

    def delete(self, context: Context, id_: str, inputs: Inputs) -> bool:
        """Leave it enabled, as the provider does by default."""
        return False


class ServiceType(_Activation):
    """An enabled API."""

    token = "gcp:projects/service:Service"  # noqa: S105 - a type token
    fixed = frozenset({"service", "project"})

    def make(self, context: Context, inputs: Inputs) -> Live:
        """Enable it if it is not enabled."""
        found = self.read(context, "", inputs)
        if found is not None:
            return found
        path = f"projects/{inputs['project']}/services/{inputs['service']}:enable"
        context.rest.wait("serviceusage", context.rest.call("serviceusage", "POST", path, {}))
        context.enabled[inputs["project"]].add(inputs["service"])
        return Live(self._id(inputs), {})

    def read(self, context: Context, id_: str, inputs: Inputs) -> Live | None:
        """Look it up in the list of enabled APIs, which is read once per evaluation."""
        project = inputs["project"]
        if project not in context.enabled:
            context.enabled[project] = enabled_apis(context.rest, project)
        return Live(self._id(inputs), {}) if inputs["service"] in context.enabled[project] else None

    def delete(self, context: Context, id_: str, inputs: Inputs) -> bool:
        """Disable it if the program requested that."""
        if not inputs.get("disableOnDestroy"):
            return False
        path = f"projects/{inputs['project']}/services/{inputs['service']}:disable"
        context.rest.wait("serviceusage", context.rest.call("serviceusage", "POST", path, {}))
        return True

    def _id(self, inputs: Inputs) -> str:
        return f"{inputs['project']}/{inputs['service']}"


def enabled_apis(rest: Rest, project: str) -> set[str]:
    """Return the names of the enabled APIs of a project."""
    params = {"filter": "state:ENABLED", "pageSize": "200", "fields": "services/name,nextPageToken"}
    found = rest.items("serviceusage", f"projects/{project}/services", "services", params=params)
    return {item["name"].rsplit("/", 1)[-1] for item in found}


class ServiceIdentityType(_Activation):
    """A service's primary agent. The API has no read method: repeating the request returns the existing agent."""

    token = "gcp:projects/serviceIdentity:ServiceIdentity"  # noqa: S105 - a type token
    fixed = frozenset({"service", "project"})

    def make(self, context: Context, inputs: Inputs) -> Live:
        """Request the agent."""
        path = f"projects/{inputs['project']}/services/{inputs['service']}:generateServiceIdentity"
        answer = context.rest.wait("serviceusage", context.rest.call("serviceusage", "POST", path))
        return Live(f"projects/{inputs['project']}/services/{inputs['service']}", answer)

    def read(self, context: Context, id_: str, inputs: Inputs) -> Live | None:
        """Request the agent again."""
        return self.make(context, inputs)

    def outputs(self, inputs: Inputs, live: Live) -> dict[str, Any]:
        """Add the agent's address."""
        email = live.body.get("email", "")
        return {**inputs, "email": email, "member": f"serviceAccount:{email}"}


class ServiceAgentsType(_Activation):
    """All agents of a service. The API has no read method either; repeating the request changes nothing."""

    token = "gcp:iam/workloadIdentityServiceAgent:WorkloadIdentityServiceAgent"  # noqa: S105 - a type token
    fixed = frozenset({"parent"})

    def make(self, context: Context, inputs: Inputs) -> Live:
        """Request the agents."""
        parent = inputs["parent"]
        operation = context.rest.call("workloadidentity", "POST", f"{parent}:generateServiceAgents", {"parent": parent})
        return Live(parent, context.rest.wait("workloadidentity", operation))

    def read(self, context: Context, id_: str, inputs: Inputs) -> Live | None:
        """Request the agents again."""
        return self.make(context, inputs)

    def outputs(self, inputs: Inputs, live: Live) -> dict[str, Any]:
        """Add the agents."""
        return {**inputs, "serviceAgents": live.body.get("serviceAgents", [])}
