"""Writes the same resources as gcloud commands: for reading, for reviews, and for places where Pulumi is not allowed.

The commands are complete, in an order that works, and never stop for input: the shell that runs them looks up what is
not known here (the project's number, names that Google chooses).
"""

from __future__ import annotations

from infra.automation.gcloud.script import commands

__all__ = ["commands"]
