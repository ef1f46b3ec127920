"""What a deletion would fail on or break: objects in buckets, jobs that use them, models on endpoints.

The check runs before anything is deleted.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

import httpx

from infra.embedded.registry import BUCKET, ENDPOINT, OBJECT
from infra.embedded.rest import RequestError, Rest
from infra.urns import key_of
from runner.errors import RunnerError
from runner.gcp.job_states import ENDED
from runner.wording import counted

__all__ = ["Doomed", "ObstacleError", "look"]

Doomed = tuple[str, str, str, dict[str, Any]]
"""A resource that is to be deleted: type token, name in the program, id, inputs."""


class ObstacleError(RunnerError):
    """A resource that would be deleted contains or serves something. Nothing was deleted."""

    code = "infrastructure"
    usual_hint = "delete or move it, then run the command again"
    details = ("problems",)

    def __init__(self, problems: list[str], hints: list[str]) -> None:
        super().__init__("nothing was deleted: " + "; ".join(problems), hint="; ".join(dict.fromkeys(hints)))
        self.problems = problems


def look(rest: Rest, doomed: Iterable[Doomed]) -> None:
    """Do nothing if all of the resources can be deleted.

    Raises:
        ObstacleError: names each resource that cannot be deleted, and what to do first.
        EmbeddedError: the service does not answer.
    """
    doomed = list(doomed)
    written = [inputs for type_, _, _, inputs in doomed if type_ == OBJECT]
    problems: list[str] = []
    hints: list[str] = []
    jobs = _jobs(rest, [inputs for type_, _, _, inputs in doomed if type_ == BUCKET])
    for type_, name, id_, inputs in doomed:
        key = key_of(f"::::{type_}::{name}")
        for job in jobs if type_ == BUCKET else ():
            if f'"gs://{inputs["name"]}/' in json.dumps(job):
                number = str(job["name"]).rsplit("/", 1)[-1]
                problems.append(f"{key}: tuning job {number} has not ended and uses gs://{inputs['name']}")
                hints.append(f"wait for `runner jobs wait {number}`, or `runner jobs cancel {number}`")
        if type_ == BUCKET and not inputs.get("forceDestroy"):
            own = {item.get("name") for item in written if item.get("bucket") == inputs["name"]}
            held = _objects(rest, inputs["name"], own)
            if held:
                problems.append(f"{key}: gs://{inputs['name']} holds objects, such as {held}")
                hints.append("to delete them with the bucket, set open-model-tuning:forceDestroy to true, then apply")
        elif type_ == ENDPOINT:
            models = (rest.find("vertex", id_) or {}).get("deployedModels") or []
            if models:
                number = id_.rsplit("/", 1)[-1]
                problems.append(f"{key}: endpoint {number} has {counted(len(models), 'deployed model')}")
                hints.append(f"`runner endpoints undeploy {number}` undeploys what this tool deployed there")
    if problems:
        raise ObstacleError(problems, hints)


def _jobs(rest: Rest, buckets: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the unfinished tuning jobs in the projects of the buckets; none if this account cannot list them."""
    places = {
        f"projects/{item['project']}/locations/{location}"
        for item in buckets
        if item.get("project")
        for location in (str(item.get("location", "")).lower(), "global")
    }
    found: list[dict[str, Any]] = []
    for place in sorted(places):
        try:
            found += rest.items("jobs", f"{place}/tuningJobs", "tuningJobs", params={"pageSize": "100"})
        except RequestError as error:
            # An account that can delete the stack may lack permission to list jobs, and the API may be disabled.
            if error.http != httpx.codes.FORBIDDEN:
                raise
    return [job for job in found if job.get("state") not in ENDED]


def _objects(rest: Rest, bucket: str, own: set[Any]) -> str:
    """Return the name of an object that the program did not write, including old versions; "" if there is none."""
    params = {"versions": "true", "maxResults": str(len(own) + 100)}
    names = (str(item["name"]) for item in rest.items("storage", f"b/{bucket}/o", "items", params=params))
    return next((name for name in names if name not in own), "")
