"""Cloud Quotas: the preference that raises the number of concurrent tuning jobs."""

from __future__ import annotations

import sqlite3

from runner.emulator import store
from runner.emulator.cloudresourcemanager.projects import Project

KIND = "quota-preference"
SERVICE = "aiplatform.googleapis.com"
TUNING_QUOTA = "GlobalConcurrentManagedOssModelTuningJobs"
"""Quota id of `Global concurrent managed OSS model fine-tuning jobs per project`."""


def granted(connection: sqlite3.Connection, project: Project, default: int) -> int:
    """Return how many tuning jobs of open models a project may run at once: the granted preference, else `default`."""
    for _, preference in store.scan(connection, KIND, f"projects/{project.id}/"):
        if preference.get("service") == SERVICE and preference.get("quotaId") == TUNING_QUOTA:
            return int(preference["quotaConfig"]["grantedValue"])
    return default
