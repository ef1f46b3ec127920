"""Labels by which this tool knows what it made, and how long that may live.

Label values hold only lowercase letters, digits, `_` and `-`, so times are seconds since 1970.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping

from runner.gcp.endpoints import Endpoint
from runner.jobs.labels import MANAGED_LABEL, MANAGED_VALUE, managed

LABELS = {MANAGED_LABEL: MANAGED_VALUE}
LEASE_LABEL = "runner-lease-until"
"""Seconds since 1970 after which a deployment may be taken down, or `none`."""
IDLE_LABEL = "runner-idle-limit"
"""Seconds without a request after which a deployment may be taken down, or `none`."""
NEVER = "none"
ID_PREFIX = "omt-"
"""Ids of endpoints and models that this tool chose start so, which tells them before they can be labelled."""
DEFAULT_LEASE_SECONDS = 8 * 3600.0
DEFAULT_IDLE_SECONDS = 2 * 3600.0


def new_id() -> str:
    """Return an id for a new endpoint or model."""
    return f"{ID_PREFIX}{secrets.token_hex(8)}"


def made_here(endpoint: Endpoint) -> bool:
    """Tell whether this tool made an endpoint: by its label, or by its id while it has none yet."""
    return managed(endpoint.labels) or endpoint.id.startswith(ID_PREFIX)


def lease_labels(lease: float | None, idle: float | None, *, now: float) -> dict[str, str]:
    """Return the two labels of a lease that starts now.

    Args:
        lease: seconds until it ends; None never.
        idle: seconds without a request until it ends; None never.
        now: seconds since 1970 by the service's clock (`Session.now`), which decides when it has ended, too.
    """
    return {
        LEASE_LABEL: NEVER if lease is None else str(int(now + lease)),
        IDLE_LABEL: NEVER if idle is None else str(int(idle)),
    }


def number_of(labels: Mapping[str, str], key: str) -> float | None:
    """Return a label's number; None where it is missing, `none` or no number."""
    text = labels.get(key, "")
    return float(text) if text.isascii() and text.isdecimal() else None
