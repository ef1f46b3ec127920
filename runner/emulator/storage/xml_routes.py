"""The methods of the Cloud Storage XML API."""

from __future__ import annotations

from runner.emulator.routing import Method

METHODS: list[Method] = []
