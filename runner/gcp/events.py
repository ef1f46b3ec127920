"""Progress events of a tuning job, from services that have them."""

from __future__ import annotations

import datetime
from dataclasses import dataclass, field
from typing import Any

from runner.gcp.failures import document_of
from runner.gcp.session import Session

_WITHOUT = frozenset({400, 404, 405, 501})


@dataclass(frozen=True, slots=True, kw_only=True)
class JobEvent:
    """An event of a job."""

    number: int
    """Position, from 1; pass the last one as `after`."""
    time: str
    """RFC 3339."""
    kind: str
    """`state`, `dataset`, `step`, `evaluation`, `checkpoint`, `done` or `failed`; others are possible."""
    data: dict[str, Any] = field(default_factory=dict)
    """Other fields: `step`, `total_steps`, `epoch`, `loss`, `learning_rate`, …"""


def job_events(session: Session, name: str, after: int = 0) -> list[JobEvent]:
    """Return the events after number `after`, oldest first; [] from a service without this method."""
    parts = name.split("/")
    project, location, job = parts[1], parts[3], parts[5]
    path = f"/_emulator/tuningJobs/{project}/{location}/{job}/events"
    method = "tuningJobs.events"
    response = session.send("GET", path, method, name, params={"after": after}, expected=_WITHOUT)
    if response.status_code in _WITHOUT:
        return []
    return [_event(item) for item in document_of(response, method, name).get("events", []) if isinstance(item, dict)]


def job_log(session: Session, name: str) -> str | None:
    """Return the end of the training process's log; None from a service without this method."""
    parts = name.split("/")
    path = f"/_emulator/tuningJobs/{parts[1]}/{parts[3]}/{parts[5]}/log"
    response = session.send("GET", path, "tuningJobs.log", name, expected=_WITHOUT)
    if response.status_code in _WITHOUT:
        return None
    return str(document_of(response, "tuningJobs.log", name).get("log", ""))


def _event(item: dict[str, Any]) -> JobEvent:
    own = ("number", "kind", "time")
    return JobEvent(
        number=int(item.get("number", 0)),
        time=_rfc3339(item.get("time")),
        kind=str(item.get("kind", "message")),
        data={key: value for key, value in item.items() if key not in own},
    )


def _rfc3339(value: Any) -> str:
    """Return a time from seconds since 1970, or from a text."""
    if isinstance(value, int | float):
        moment = datetime.datetime.fromtimestamp(value, datetime.UTC)
        return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
    return str(value or "")
