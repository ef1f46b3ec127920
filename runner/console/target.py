"""Where the console works, in words that stand on every page."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import urlsplit

from runner.environment import Environment


@dataclass(frozen=True, slots=True)
class Target:
    """What is changed when something is changed."""

    kind: str
    """`local` or `google`: it decides the colour."""
    name: str
    project: str
    location: str
    cost: str


def target_of(environment: Environment) -> Target:
    """Return the target of an environment."""
    if environment.vertex_url is None:
        return Target("google", "Google Cloud", environment.project, environment.location, "billed")
    host = urlsplit(environment.vertex_url)
    local = host.hostname in {"127.0.0.1", "localhost", "::1"}
    name = f"Emulator at {host.netloc}" if local else host.netloc
    cost = "free" if local else "billed"
    return Target("local" if local else "google", name, environment.project, environment.location, cost)
