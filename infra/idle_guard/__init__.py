"""The function that takes models down whose lease is over, and what it is built from."""

from __future__ import annotations
