"""Where the jobs of a queue can run: projects and locations, with the quota of concurrent jobs of each project."""

from __future__ import annotations

import dataclasses
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from runner.environment import service_agents_of
from runner.errors import ConfigurationError, GoogleApiError
from runner.gcp import projects
from runner.gcp.session import Session
from runner.jobs.manifests.records import Run
from runner.jobs.preflight.obstacles import Look, preflight_many
from runner.jobs.specification import TuningJobSpec

_PLACE = re.compile(r"((?:[a-z0-9.-]+:)?[a-z0-9][a-z0-9-]{0,62})/([a-z][a-z0-9-]{0,40})")


@dataclass(frozen=True, slots=True)
class Place:
    """A project and a location."""

    project: str
    location: str
    limit: int
    """Number of concurrent jobs of the project, in all its locations."""

    @property
    def parent(self) -> str:
        """Return `projects/P/locations/L`."""
        return f"projects/{self.project}/locations/{self.location}"


class Taken(Protocol):
    """Provides the number of active jobs, and the locations that cannot be read."""

    @property
    def down(self) -> dict[str, str]:
        """Return the locations that cannot be read, with the reasons."""

    def taken(self) -> Counter[str]:
        """Return the number of used slots by project."""


@dataclass(slots=True)
class Slots:
    """The free slots of locations; the quota of a project applies to all its locations."""

    view: Taken
    places: Sequence[Place]
    _taken: Counter[str] = field(default_factory=Counter)
    _closed: set[str] = field(default_factory=set)
    """Projects whose quota is exhausted according to the service."""

    def __post_init__(self) -> None:
        self._taken = self.view.taken()

    def free(self) -> int:
        """Return how many jobs can be submitted."""
        limits = {place.project: place.limit for place in self._open()}
        return sum(max(0, limit - self._taken[project]) for project, limit in limits.items())

    def take(self) -> Place | None:
        """Return the place for the next job, and reserve its slot: the place whose project has the most free slots."""
        found = max(self._open(), key=lambda place: place.limit - self._taken[place.project], default=None)
        if found is None or found.limit <= self._taken[found.project]:
            return None
        self._taken[found.project] += 1
        return found

    def give_back(self, place: Place) -> None:
        """Release the slot of a job that was not created."""
        self._taken[place.project] -= 1

    def close(self, place: Place) -> None:
        """Send no more jobs to a place's project."""
        self._closed.add(place.project)

    def full(self) -> str:
        """Return the reason why a job waits."""
        slots = sum({place.project: place.limit for place in self.places}.values())
        lost = [place.parent for place in self.places if place.parent in self.view.down]
        missing = f"; {', '.join(lost)} does not answer" if lost else ""
        taken = "the only slot is taken" if slots == 1 else f"all {slots} slots are taken"
        return f"{taken}{missing}"

    def _open(self) -> list[Place]:
        return [one for one in self.places if one.parent not in self.view.down and one.project not in self._closed]


def parse_place(text: str) -> tuple[str, str]:
    """Return project and location of `PROJECT/LOCATION`. Raises ConfigurationError."""
    found = _PLACE.fullmatch(text)
    if found is None:
        raise ConfigurationError(f"{text!r} is not a place", hint="write PROJECT/LOCATION, such as mine/us-central1")
    return found[1], found[2]


def obstacles(session: Session, place: tuple[str, str], runs: Iterable[Run]) -> list[str]:
    """Return what would make the jobs of waiting runs fail in a place. Changes nothing.

    Each combination of model and buckets is checked once, for the service agents of the place's project.

    Args:
        session: the location of the buckets.
        place: project and location.
        runs: the runs of all records.
    """
    looks: dict[tuple[str, ...], Look] = {}
    for run in runs:
        if run.phase not in ("queued", "claimed"):
            continue
        spec = TuningJobSpec(**run.fields)
        addresses = [spec.training_dataset, spec.validation_dataset or "", spec.output_uri or ""]
        key = (spec.base_model, str(spec.mode), *("/".join(one.split("/")[:3]) for one in addresses))
        images = any(version.images for version in run.data.values())
        looks.setdefault(key, Look(spec=spec, sound=[item.uri for item in run.data.values()], images=images))
    project, location = place
    try:
        number = projects.project_number(session, project)
    except GoogleApiError as error:
        return [error.message]
    agents = service_agents_of(number)
    environment = dataclasses.replace(session.environment, location=location, service_agents=agents)
    found = preflight_many(session.like(environment), list(looks.values()))
    return [str(one) for one in found if one.severity == "error"]
