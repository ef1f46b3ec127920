"""Environments whose document can be in a bucket."""

from __future__ import annotations

from collections.abc import Mapping

from runner import environment as environments
from runner.environment import Environment
from runner.gcp.session import Session


def open_environment(flags: Mapping[str, str | None]) -> Environment:
    """Return `environment.resolve(flags)`, reading a `gs://` environment document through Cloud Storage.

    Only flags and variables determine the address and the token for reading the document.

    Raises:
        ConfigurationError, GoogleApiError, UnreachableError: see `environment.resolve` and `downloads.read_bytes`.
    """

    def read_object(uri: str) -> bytes:
        from runner.gcp.downloads import read_bytes

        first = environments.resolve({**flags, "environment": None}, read_object=None, use_document=False)
        with Session(first) as session:
            return read_bytes(session, uri)

    return environments.resolve(flags, read_object=read_object)
