"""Fixtures of the library's tests: a session on a provisioned project."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from runner.environment import Environment, service_agents_of
from runner.gcp.session import Session
from tests.provisioning import Provisioned


def environment_of(project: Provisioned) -> Environment:
    """Return the environment that names a provisioned project."""
    return Environment(
        project=project.project,
        project_number=project.number,
        location=project.location,
        datasets_bucket=project.datasets,
        images_bucket=project.images,
        outputs_bucket=project.outputs,
        service_agents=service_agents_of(project.number),
        vertex_url=project.url,
        storage_url=project.url,
        token="a-token",
    )


@pytest.fixture
def session(project: Provisioned) -> Iterator[Session]:
    with Session(environment_of(project)) as opened:
        yield opened
