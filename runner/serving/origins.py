"""The origin of the weights of an endpoint."""

from __future__ import annotations

from dataclasses import dataclass

from runner.errors import RunnerError
from runner.gcp import endpoints
from runner.gcp.downloads import read_bytes
from runner.gcp.endpoints import Endpoint
from runner.gcp.session import Session
from runner.jobs.outputs.ownership import FOLDER
from runner.jobs.outputs.run_manifest import manifest_uri
from runner.json_text import parsed


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """The origin of weights. "" means unknown."""

    folder: str = ""
    """`gs://` folder of the weights."""
    base_model: str = ""
    """Their base model, from their run manifest."""


def origin_of(session: Session, endpoint: Endpoint) -> Origin:
    """Return the origin of the first model of an endpoint, as far as its documents contain it. Never raises."""
    for item in endpoint.deployed_models[:1]:
        try:
            folder = str(endpoints.get_model(session, item.model).get("artifactUri", "")) if item.model else ""
        except RunnerError:
            return Origin()
        output, found, _ = folder.partition(f"/{FOLDER}")
        if not found:
            return Origin(folder=folder)
        try:
            body = parsed(read_bytes(session, manifest_uri(output)))
            return Origin(folder=folder, base_model=str(body["spec"]["base_model"]))
        except (RunnerError, ValueError, KeyError, TypeError):
            return Origin(folder=folder)
    return Origin()
