"""Descriptions of the target: the project, the service, and whether it charges anything.

Only for messages. No behavior may depend on the owner of an address.
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
    """The target of commands."""

    project: str
    location: str
    service: str
    """`Google Cloud`, `emulator`, or another address."""

    @classmethod
    def at(cls, url: str | None, *, project: str, location: str, placeholder: bool) -> Target:
        """Return the target for an address of Vertex AI.

        Args:
            url: None is Google's.
            project: project ID; "" if unknown.
            location: for example `us-central1`.
            placeholder: whether requests contain the placeholder token, which no billing service accepts.
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
