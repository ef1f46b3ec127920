"""The program without the Pulumi engine, for the emulator on this machine.

Pulumi's engine is a separate program that pip does not install. If it is absent, this package evaluates the same
program in this process, on Pulumi's own test monitor, and creates each resource through the emulator's REST API with
the requests that the real provider sends. `python -m infra.embedded --help` is its command line, `apply` its function.

It does not replace the engine: no previews, no provider diffs, no imports, and only the resource types of the program.
"""

from __future__ import annotations

from infra.embedded.apply import ApplyResult, apply, destroy
from infra.embedded.rest import EmbeddedError

__all__ = ["ApplyResult", "EmbeddedError", "apply", "destroy"]
