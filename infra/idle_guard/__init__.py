"""The function that undeploys models that are no longer used, and its source files."""

from __future__ import annotations
