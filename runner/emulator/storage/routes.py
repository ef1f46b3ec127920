"""The methods of the Cloud Storage JSON API."""

from __future__ import annotations

from runner.emulator.routing import Method

METHODS: list[Method] = []
