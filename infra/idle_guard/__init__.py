"""The function that takes models down that nobody wants any more, and what it is built from."""

from __future__ import annotations
