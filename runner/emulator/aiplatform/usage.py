"""Requests to each deployed model by the minute, which Cloud Monitoring shows for an endpoint.

They are counted in memory. The first request of a minute is written to disk, so that a crash loses at most the rest of
this minute, and never the fact that there were requests.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from dataclasses import astuple, dataclass

from runner.emulator import store
from runner.emulator.context import Emulator

KIND = "prediction-count"
_MINUTE = 60
_KEPT_MINUTES = 7 * 24 * 60


@dataclass(slots=True)
class Minute:
    """The counts of one minute."""

    requests: int = 0
    errors: int = 0
    """Answers with 429 or 5xx: errors of the model, not of the request."""
    seconds: float = 0.0
    """Time until the answer, or the first part of a stream, began; summed over all requests."""


class Usage:
    """Requests to the deployed models of one emulator."""

    def __init__(self, emulator: Emulator) -> None:
        self._emulator = emulator
        self._minutes: dict[str, dict[int, Minute]] = {}

    async def count(self, deployment: str, status: int, seconds: float) -> None:
        """Count an answer of `…/endpoints/E/deployedModels/ID` with its HTTP status and duration."""
        if deployment not in self._minutes:
            self._minutes[deployment] = self._emulator.store.read(lambda connection: stored(connection, deployment))
        minutes = self._minutes[deployment]
        start = int(self._emulator.clock.now().timestamp()) // _MINUTE * _MINUTE
        first = start not in minutes
        now = minutes.setdefault(start, Minute())
        now.requests += 1
        now.errors += status == 429 or status >= 500
        now.seconds += seconds
        if first:
            for old in sorted(minutes)[:-_KEPT_MINUTES]:
                del minutes[old]
            body = {"minutes": {str(key): list(astuple(value)) for key, value in minutes.items()}}
            await self._emulator.store.write(lambda connection: store.put(connection, KIND, deployment, body))

    def of_project(self, connection: sqlite3.Connection, number: str) -> Iterator[tuple[str, dict[int, Minute]]]:
        """Yield the deployments of a project that had requests, with their minutes by start."""
        for name in sorted({name for name, _ in store.scan(connection, KIND, f"projects/{number}/")}):
            yield name, dict(self._minutes.get(name) or stored(connection, name))


def stored(connection: sqlite3.Connection, deployment: str) -> dict[int, Minute]:
    """Return the counts on disk, by the start of the minute in seconds since 1970."""
    body = store.find(connection, KIND, deployment) or {}
    return {int(start): Minute(*values) for start, values in body.get("minutes", {}).items()}
