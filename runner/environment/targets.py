"""Where commands act, in words for people: which project, whose services, and whether it costs anything.

For messages only. No behaviour may depend on whose address it is.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from runner import addresses

GOOGLE = "Google Cloud"
EMULATOR = "emulator"


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """Where commands act."""

    project: str
    location: str
    service: str
    """`Google Cloud`, `emulator`, or the address of something else."""

    @classmethod
    def at(cls, url: str | None, *, project: str, location: str, placeholder: bool) -> Target:
        """Return the target at an address of Vertex AI.

        Args:
            url: None is Google's.
            project: project id, "" if unknown.
            location: for example `us-central1`.
            placeholder: whether requests carry the placeholder token, which no service that bills accepts.
        """
        host = (urlsplit(url).hostname or "").lower() if url else ""
        if not host or host.endswith(".googleapis.com"):
            service = GOOGLE
        elif placeholder or addresses.is_loopback(host):
            service = EMULATOR
        else:
            service = str(url)
        return cls(project=project, location=location, service=service)

    @property
    def free(self) -> bool:
        """Return whether nothing is charged there."""
        return self.service == EMULATOR

    def __str__(self) -> str:
        free = ", nothing is charged" if self.free else ""
        return f"{self.project or 'no project'} ({self.service}, {self.location}{free})"

    def to_json(self) -> dict[str, Any]:
        """Return the stable JSON form."""
        return {"project": self.project, "location": self.location, "service": self.service, "free": self.free}
