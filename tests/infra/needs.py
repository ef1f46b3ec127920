"""Which permission each method of Google's APIs needs, and which methods were called.

An operation is polled with the permission to get what it works on (Google, "Vertex AI IAM permissions"). The rest
follows Google's naming, SERVICE.RESOURCE.VERB; none of it has been compared with a real project.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import httpx

from runner.emulator import services

_LOCATION = "aiplatform.projects.locations"
_ENDPOINTS = {
    "create": "create",
    "delete": "delete",
    "deployModel": "deploy",
    "get": "get",
    "list": "list",
    "patch": "update",
    "predict": "predict",
    "rawPredict": "predict",
    "streamRawPredict": "predict",
    "undeployModel": "undeploy",
}
NEEDS: dict[str, str] = {
    **{
        f"{_LOCATION}.tuningJobs.{verb}": f"aiplatform.tuningJobs.{verb}"
        for verb in ("cancel", "create", "get", "list")
    },
    **{f"{_LOCATION}.endpoints.{method}": f"aiplatform.endpoints.{verb}" for method, verb in _ENDPOINTS.items()},
    **{
        f"{_LOCATION}.models.{method}": f"aiplatform.models.{verb}"
        for method, verb in {
            "delete": "delete",
            "get": "get",
            "list": "list",
            "patch": "update",
            "upload": "upload",
        }.items()
    },
    f"{_LOCATION}.endpoints.operations.get": "aiplatform.endpoints.get",
    f"{_LOCATION}.models.operations.get": "aiplatform.models.get",
    "monitoring.projects.timeSeries.list": "monitoring.timeSeries.list",
}
"""Permission by method."""


def permissions(methods: Iterable[str]) -> set[str]:
    """Return what these methods need together. Raises KeyError for a method that the table lacks."""
    return {NEEDS[method] for method in methods}


def methods_of(permission: str) -> list[str]:
    """Return the methods that need a permission."""
    return sorted(method for method, needed in NEEDS.items() if needed == permission)


@contextmanager
def recorded(url: str) -> Iterator[set[str]]:
    """Note the ids of the methods of Vertex AI, Monitoring and Storage that an emulator answers; filled at the end.

    A fault that delays by nothing is armed for each method: the emulator itself then tells which have been hit.
    """
    ids = {method.id for method in services.all_methods()}
    wanted = sorted(name for name in ids if name.startswith(("aiplatform.", "monitoring.", "storage.")))
    called: set[str] = set()
    with httpx.Client(base_url=url, timeout=30, trust_env=False) as client:
        client.post("/_emulator/faults", json={"faults": [f"{name}:delay=0" for name in wanted]}).raise_for_status()
        try:
            yield called
        finally:
            for fault in client.delete("/_emulator/faults").json()["faults"]:
                if fault["hits"]:
                    called.add(fault["method"])


@contextmanager
def withheld(url: str, permission: str) -> Iterator[None]:
    """Refuse every method that needs a permission, as Google does for an account without it."""
    texts = [f"{method}:status=403" for method in methods_of(permission)]
    with httpx.Client(base_url=url, timeout=30, trust_env=False) as client:
        client.post("/_emulator/faults", json={"faults": texts}).raise_for_status()
        try:
            yield
        finally:
            client.delete("/_emulator/faults").raise_for_status()
