"""Requests to a stack's service: to Google's addresses with a user's credentials, or to the stack's own addresses."""

from __future__ import annotations

import os
from argparse import Namespace

from infra.addresses import GOOGLE
from infra.automation.stack import configuration
from infra.embedded.rest import PLACEHOLDER_TOKEN, Rest
from infra.settings.stack import Settings


def rest(options: Namespace) -> Rest:
    """Return a connection for a stack's own service.

    Raises:
        ConfigurationError: the stack's settings have mistakes, or there are no credentials.
    """
    settings = Settings.load(configuration(options))
    if settings.api_endpoints:
        return Rest(settings.api_endpoints, token=settings.access_token or PLACEHOLDER_TOKEN)
    return Rest(GOOGLE, token=settings.access_token or google_token(settings.project))


def google_token(project: str) -> str:
    """Return an access token of the current user."""
    given = os.environ.get("RUNNER_TOKEN") or os.environ.get("GOOGLE_OAUTH_ACCESS_TOKEN")
    if given:
        return given
    from runner.environment import Environment
    from runner.gcp.session import Session

    with Session(Environment(project=project)) as session:
        return session.token()
