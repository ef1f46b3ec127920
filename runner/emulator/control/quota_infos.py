"""Cloud Quotas: the current values of the quotas for tuning and deployments."""

from __future__ import annotations

import sqlite3
from typing import Any

from runner.emulator import enablement, projects
from runner.emulator.control import quotas
from runner.emulator.errors import not_found
from runner.emulator.projects import Project
from runner.emulator.regions import REGIONS
from runner.emulator.resources import listing, reading
from runner.emulator.routing import ApiRequest
from runner.emulator.serviceusage.known import TITLES

_SERVING = {
    f"CustomModelServing{name}PerProjectPerRegion": f"custom_model_serving_{metric}"
    for name, metric in {
        "P4GPUs": "nvidia_p4_gpus",
        "T4GPUs": "nvidia_t4_gpus",
        "L4GPUs": "nvidia_l4_gpus",
        "K80GPUs": "nvidia_k80_gpus",
        "V100GPUs": "nvidia_v100_gpus",
        "P100GPUs": "nvidia_p100_gpus",
        "A100GPUs": "nvidia_a100_gpus",
        "A10080GBGPUs": "nvidia_a100_80gb_gpus",
        "H100GPUs": "nvidia_h100_gpus",
        "V5ETPU": "v5e_tpu",
    }.items()
}
"""Quotas of accelerators of deployed models, by the IDs that gcloud uses, and their metrics."""
SERVING_LIMIT = 8
"""Accelerators of each kind that a project can use in a region; none counts as used."""


def _infos(connection: sqlite3.Connection, request: ApiRequest) -> list[dict[str, Any]]:
    project = projects.resolve(connection, request.fields["project"])
    enablement.require(connection, project, "cloudquotas.googleapis.com")
    service = request.fields["service"]
    if service not in TITLES:
        raise not_found(f"Service {service} was not found")
    if service != quotas.SERVICE:
        return []
    tuning = quotas.granted(connection, project, request.emulator.settings.concurrent_tuning_jobs)
    found = [_info(project, quotas.TUNING_QUOTA, "global_concurrent_managed_oss_model_tuning_jobs", tuning, [])]
    return found + [_info(project, key, metric, SERVING_LIMIT, list(REGIONS)) for key, metric in _SERVING.items()]


def _info(project: Project, quota_id: str, metric: str, value: int, regions: list[str]) -> dict[str, Any]:
    """Return a quota: of the whole project, or of each region."""
    details = {"details": {"value": str(value)}}
    # A part for each region, because gcloud reads the first location of each.
    parts = [{"dimensions": {"region": one}, **details, "applicableLocations": [one]} for one in regions]
    return {
        "name": f"projects/{project.number}/locations/global/services/{quotas.SERVICE}/quotaInfos/{quota_id}",
        "quotaId": quota_id,
        "metric": f"{quotas.SERVICE}/{metric}",
        "service": quotas.SERVICE,
        "containerType": "PROJECT",
        "metricDisplayName": quota_id,
        "quotaDisplayName": quota_id,
        "metricUnit": "1",
        "quotaIncreaseEligibility": {"isEligible": True},
        "dimensionsInfos": parts or [{**details, "applicableLocations": ["global"]}],
        **({"dimensions": ["region"]} if regions else {}),
    }


@listing("quotaInfos")
def list_infos(connection: sqlite3.Connection, request: ApiRequest) -> list[dict[str, Any]]:
    """Return one page of the quotas of a service."""
    return _infos(connection, request)


@reading
def get(connection: sqlite3.Connection, request: ApiRequest) -> dict[str, Any]:
    """Return one quota."""
    wanted = request.fields["id"]
    for info in _infos(connection, request):
        if info["quotaId"] == wanted:
            return info
    raise not_found(f"Quota {wanted} was not found")
