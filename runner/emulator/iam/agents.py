"""Service agents: the accounts through which Google's services act in a project.

Enabling Vertex AI creates its primary agent. The first tuning job of an open model, or `generateServiceAgents`, creates
the agent that reads training data, vertex-moss-ft; before that, no policy can name it.
"""

from __future__ import annotations

import hashlib
import sqlite3
from dataclasses import dataclass

from runner.emulator import projects, store
from runner.emulator.iam import project_policies
from runner.emulator.iam.accounts import AGENT_KIND, exists

__all__ = [
    "AIPLATFORM",
    "Agent",
    "aiplatform_agent",
    "exists",
    "generate",
    "generate_primary",
    "of_service",
    "tuning_agent",
    "unique_id",
]

AIPLATFORM = "aiplatform.googleapis.com"


@dataclass(frozen=True, slots=True)
class Agent:
    """One service agent: the pattern of its address, its role on the project, and how it is created."""

    pattern: str
    role: str
    primary: bool = True


_AGENTS: dict[str, tuple[Agent, ...]] = {
    AIPLATFORM: (
        Agent("service-{n}@gcp-sa-aiplatform.iam.gserviceaccount.com", "roles/aiplatform.serviceAgent"),
        Agent(
            "service-{n}@gcp-sa-vertex-moss-ft.iam.gserviceaccount.com", "roles/aiplatform.tuningServiceAgent", False
        ),
    ),
}


def aiplatform_agent(number: str) -> str:
    """Return the address of the Vertex AI Service Agent of a project number."""
    return f"service-{number}@gcp-sa-aiplatform.iam.gserviceaccount.com"


def tuning_agent(number: str) -> str:
    """Return the address of the Managed OSS Fine Tuning Service Agent of a project number."""
    return f"service-{number}@gcp-sa-vertex-moss-ft.iam.gserviceaccount.com"


def unique_id(email: str) -> str:
    """Return the numeric ID of an agent: 21 digits that are derived from the address, the first one 1 as at Google."""
    return "1" + str(int.from_bytes(hashlib.sha256(email.encode()).digest()[:9], "big") % 10**20).zfill(20)


def of_service(number: str, service: str, *, primary_only: bool = False) -> list[tuple[str, str]]:
    """Return (address, role) of the agents of a service; the primary one first."""
    known = _AGENTS.get(service) or (Agent(_generic(service), ""),)
    return [(agent.pattern.format(n=number), agent.role) for agent in known if agent.primary or not primary_only]


def _generic(service: str) -> str:
    return f"service-{{n}}@gcp-sa-{service.removesuffix('.googleapis.com')}.iam.gserviceaccount.com"


def generate(connection: sqlite3.Connection, project: projects.Project, service: str) -> list[tuple[str, str]]:
    """Create all agents of a service, like `generateServiceAgents` and a first tuning job; grant each its role.

    Returns (address, role) of each. Existing agents are unchanged.
    """
    return _make(connection, project, of_service(project.number, service))


def generate_primary(connection: sqlite3.Connection, project: projects.Project, service: str) -> str:
    """Create the primary agent of a service, like enabling it and `generateServiceIdentity`; return its address."""
    made = _make(connection, project, of_service(project.number, service, primary_only=True))
    return made[0][0]


def _make(
    connection: sqlite3.Connection, project: projects.Project, wanted: list[tuple[str, str]]
) -> list[tuple[str, str]]:
    projects.ensure(connection, project.id)
    for email, role in wanted:
        if store.find(connection, AGENT_KIND, email) is None:
            store.put(connection, AGENT_KIND, email, {"project": project.id})
            if role:
                project_policies.add_binding(connection, project, role, f"serviceAccount:{email}")
    return wanted
