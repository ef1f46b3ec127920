"""Open the session for the flags, the variables and the emulator on this machine."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

from runner import running_emulator
from runner.environment import Environment, state_directory
from runner.gcp.environments import open_environment
from runner.gcp.session import Session


def connect(flags: Mapping[str, str | None]) -> Session:
    """Return a session for the environment of `flags`; see `environment.resolve`. Sends nothing to a service.

    Raises:
        ConfigurationError: a flag, a variable or the environment document is incorrect.
        GoogleApiError, UnreachableError: the document is an object that cannot be read.
    """
    return Session(_with_local_token(open_environment(flags)))


def _with_local_token(environment: Environment) -> Environment:
    """Add the token of this user's emulator to an environment that uses this emulator and has no token."""
    if environment.vertex_url is None or not environment.sources.get("token", "").startswith("default"):
        return environment
    directory = state_directory() / "emulator"
    if not (directory / running_emulator.SERVER_FILE).exists():
        return environment
    server = running_emulator.find(directory)
    if server is None or not server.token or server.url != environment.vertex_url:
        return environment
    sources = {**environment.sources, "token": "running emulator"}
    return dataclasses.replace(environment, token=server.token, sources=sources)
