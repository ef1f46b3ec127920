"""The findings of the preflight checks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True, kw_only=True)
class PreflightFinding:
    """Something that will or may make the job fail."""

    code: str
    """`problem`, `vertex_denied`, `object_missing`, `weights`, `output_taken`, `bucket_missing`, `denied`,
    `bucket_region`, `agent_without_role`, `agents_unknown`."""
    severity: Literal["error", "warning"]
    message: str
    fix: str = ""

    def __str__(self) -> str:
        return f"{self.message}; {self.fix}" if self.fix else self.message

    def to_json(self) -> dict[str, str]:
        """Return the stable JSON form."""
        body = {"code": self.code, "severity": self.severity, "message": self.message, "fix": self.fix}
        return {key: value for key, value in body.items() if value}


def error(code: str, message: str, fix: str = "") -> PreflightFinding:
    """Return the problems that will make the job fail."""
    return PreflightFinding(code=code, severity="error", message=message, fix=fix)


def warning(code: str, message: str, fix: str = "") -> PreflightFinding:
    """Return the problems that may make the job fail."""
    return PreflightFinding(code=code, severity="warning", message=message, fix=fix)
