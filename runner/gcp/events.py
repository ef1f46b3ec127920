"""Progress events of a tuning job, from services that offer them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from runner.gcp.failures import call, check
from runner.gcp.session import Session

_WITHOUT = frozenset({400, 404, 405, 501})


@dataclass(frozen=True, slots=True, kw_only=True)
class JobEvent:
    """Something that happened in a job."""

    number: int
    """Position, from 1; give the last one seen as `after`."""
    time: str
    """RFC 3339."""
    kind: str
    """`state`, `step`, `epoch`, `checkpoint`, `evaluation`, `message`, …"""
    data: dict[str, Any] = field(default_factory=dict)


def job_events(session: Session, name: str, after: int = 0) -> list[JobEvent]:
    """Return the events after number `after`, oldest first; [] from a service that has no such method."""
    parts = name.split("/")
    project, location, job = parts[1], parts[3], parts[5]
    path = f"/_emulator/tuningJobs/{project}/{location}/{job}/events"

    def read() -> list[JobEvent]:
        response = session.http.get(path, params={"after": after})
        if response.status_code in _WITHOUT:
            return []
        body = check(response, "tuningJobs.events", name)
        return [_event(item) for item in body.get("events", []) if isinstance(item, dict)]

    return call("tuningJobs.events", name, read, idempotent=True)


def _event(item: dict[str, Any]) -> JobEvent:
    known = ("number", "time", "kind")
    data = item.get("data")
    rest = data if isinstance(data, dict) else {key: value for key, value in item.items() if key not in known}
    return JobEvent(
        number=int(item.get("number", 0)),
        time=str(item.get("time", "")),
        kind=str(item.get("kind", "message")),
        data=rest,
    )
