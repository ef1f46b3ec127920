"""Entry point of `pulumi up` (`main: infra/` in Pulumi.yaml)."""

from __future__ import annotations

import sys
from pathlib import Path

_CHECKOUT = str(Path(__file__).resolve().parents[1])
if _CHECKOUT not in sys.path:
    # Pulumi runs this file by its path, even if the checkout is not installed.
    sys.path.insert(0, _CHECKOUT)

import pulumi  # noqa: E402 - the lines above must come first

from infra.already_there import advice  # noqa: E402 - needs the path above
from infra.local_environment import announce  # noqa: E402
from infra.program import deploy  # noqa: E402
from infra.settings.examples import refuse_examples  # noqa: E402
from infra.settings.stack import Settings, current_configuration  # noqa: E402
from runner.errors import ConfigurationError  # noqa: E402

try:
    configuration = current_configuration()
    if not Settings.load(configuration).api_endpoints:
        # An emulator accepts every name.
        refuse_examples(configuration, stack=pulumi.get_stack())
    document = deploy(on_taken=advice)
    if not pulumi.runtime.is_dry_run():
        document.apply(announce)
except ConfigurationError as error:
    raise pulumi.RunError(f"{error.message}\n{error.hint}" if error.hint else error.message) from None
