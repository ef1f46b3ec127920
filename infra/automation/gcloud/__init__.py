"""The same resources as gcloud commands: for readers, for reviews, and where nobody may run Pulumi.

The commands are complete, in an order that works, and stop for nothing: what is not known here (the project's number,
names that Google chooses) is asked for by the shell that runs them.
"""

from __future__ import annotations

from infra.automation.gcloud.script import commands

__all__ = ["commands"]
