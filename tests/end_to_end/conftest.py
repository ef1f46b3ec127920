"""Fixtures of the tests of the whole way."""

from __future__ import annotations

from tests.wheel import installed, wheel

__all__ = ["installed", "wheel"]
