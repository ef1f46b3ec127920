"""Existing service accounts of all kinds, which a policy can name."""

from __future__ import annotations

import re
import sqlite3

from runner.emulator import projects, store

KEY_KIND = "service-account-key"
ACCOUNT_KIND = "service-account"
AGENT_KIND = "service-agent"

_IMPLIED = re.compile(
    # These exist from the creation of the project, or from the first request for them.
    r"(?:service-(\d+)@gs-project-accounts\.iam|(\d+)@cloudservices|(\d+)-compute@developer)\.gserviceaccount\.com\Z"
)
_PROJECT_ACCOUNT = re.compile(r"[a-z0-9-]+@([a-z0-9.-]+)\.iam\.gserviceaccount\.com\Z")


def exists(connection: sqlite3.Connection, email: str) -> bool:
    """Return whether a service account exists: a project's own or a service agent.

    Accounts outside `gserviceaccount.com` are never Google's: they do not exist.
    """
    implied = _IMPLIED.match(email)
    if implied:
        return projects.known(connection, next(number for number in implied.groups() if number))
    if store.find(connection, AGENT_KIND, email) is not None:
        return True
    account = _PROJECT_ACCOUNT.match(email)
    return account is not None and store.find(connection, ACCOUNT_KIND, email) is not None
