"""Labels that identify the resources of this tool, and their lifetime.

Label values can contain only lowercase letters, digits, `_` and `-`, so times are seconds since 1970.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping

from runner.gcp.endpoints import Endpoint
from runner.jobs.labels import MANAGED_LABEL, MANAGED_VALUE, managed

LABELS = {MANAGED_LABEL: MANAGED_VALUE}
LEASE_LABEL = "runner-lease-until"
"""Seconds since 1970 after which a deployment may be undeployed, or `none`."""
IDLE_LABEL = "runner-idle-limit"
"""Seconds without a request after which a deployment may be undeployed, or `none`."""
NEVER = "none"
ID_PREFIX = "omt-"
"""Prefix of the IDs of endpoints and models that this tool chose, which identifies them before they have labels."""
DEFAULT_LEASE_SECONDS = 8 * 3600.0
DEFAULT_IDLE_SECONDS = 2 * 3600.0


def new_id() -> str:
    """Return an id for a new endpoint or model."""
    return f"{ID_PREFIX}{secrets.token_hex(8)}"


def made_here(endpoint: Endpoint) -> bool:
    """Return whether this tool created an endpoint: by its label, or by its ID before it has one."""
    return managed(endpoint.labels) or endpoint.id.startswith(ID_PREFIX)


def lease_labels(lease: float | None, idle: float | None, *, now: float) -> dict[str, str]:
    """Return the two labels of a lease that starts now.

    Args:
        lease: seconds until it ends; None for no end.
        idle: seconds without a request until it ends; None for no limit.
        now: seconds since 1970 by the service's clock (`Session.now`), which also determines when it has ended.
    """
    return {
        LEASE_LABEL: NEVER if lease is None else str(int(now + lease)),
        IDLE_LABEL: NEVER if idle is None else str(int(idle)),
    }


def number_of(labels: Mapping[str, str], key: str) -> float | None:
    """Return the number in a label; None if it is missing, `none` or not a number."""
    text = labels.get(key, "")
    return float(text) if text.isascii() and text.isdecimal() else None
