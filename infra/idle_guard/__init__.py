"""The function that takes down models that are no longer used, and what it is built from."""

from __future__ import annotations
