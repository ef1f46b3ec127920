"""Entry point of `pulumi up` (`main: infra/` in Pulumi.yaml)."""

from __future__ import annotations

import sys
from pathlib import Path

_CHECKOUT = str(Path(__file__).resolve().parents[1])
if _CHECKOUT not in sys.path:
    # Pulumi runs this file by its path, also where the checkout is not installed.
    sys.path.insert(0, _CHECKOUT)

from infra.program import deploy  # noqa: E402 - needs the path above
from runner.errors import ConfigurationError  # noqa: E402

try:
    deploy()
except ConfigurationError as error:
    import pulumi

    raise pulumi.RunError(f"{error.message}\n{error.hint}" if error.hint else error.message) from None
