"""The program without the Pulumi engine, for the emulator on this machine.

Pulumi's engine is a separate program that pip does not install. Where it is absent, this package evaluates the same
program in this process, on Pulumi's own test monitor, and makes each resource through the emulator's REST with the
requests that the real provider sends. `python -m infra.embedded --help` is its command line, `apply` its function.

It is not the engine: no previews, no diffs of providers, no imports, and only the resource types that the program uses.
"""

from __future__ import annotations

from infra.embedded.apply import ApplyResult, apply, destroy
from infra.embedded.rest import EmbeddedError

__all__ = ["ApplyResult", "EmbeddedError", "apply", "destroy"]
