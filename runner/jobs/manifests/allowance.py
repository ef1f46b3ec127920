"""One budget that all runners of a queue keep together, wherever they run.

What is committed stands in the records: what ended jobs were billed, and the high end of the price of every other job.
Two runners could each see room for one more job and create one each. So whoever is about to submit writes down first
which jobs, over the generation of the budget's document that it read before the records; of two runners one succeeds,
and the other looks again.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from runner.gcp import records
from runner.gcp.session import Session
from runner.jobs.manifests.records import PREFIX, Entry, Run

NAME = f"{PREFIX.rstrip('/')}-budget/"
"""Folder of the documents `runner/state-budget/LOCATION.json`, which are not records."""


@dataclass(slots=True)
class Allowance:
    """The budget's document as it was read; read it before the records.

    Args:
        session: names the bucket and the location of the records.
        limit: dollars for all jobs of all records together.
    """

    session: Session
    limit: float
    _generation: int = 0
    _held: Mapping[str, Any] | None = None

    def __post_init__(self) -> None:
        environment = self.session.environment
        found = records.read_record(self.session, environment.contract_bucket, f"{NAME}{environment.location}.json")
        if found is not None:
            self._generation, self._held = found.generation, found.body.get("held")

    def reserve(self, entries: Mapping[str, Entry], wanted: Iterable[tuple[str, Run]]) -> tuple[set[str], float] | None:
        """Write down which jobs are submitted next.

        Args:
            entries: all records, read after this document.
            wanted: names and runs, in their order.

        Returns:
            The names that there is money for, and the dollars that are committed without them; None if another runner
            was quicker.
        """
        held = self._standing(entries)
        committed = sum(entry.record.committed_usd for entry in entries.values())
        committed += sum(held[name] for name in held)
        room, granted = self.limit - committed, dict[str, float]()
        for name, run in wanted:
            price = run.price.high
            already = held.pop(name, 0.0)
            room += already
            if price is None or price > room + 1e-9:
                continue
            granted[name] = price
            room -= price
        if not granted:
            return set(), committed
        environment = self.session.environment
        body = {
            "held": {name: [entries[name].generation, usd] for name, usd in {**held, **granted}.items()},
            "writer": uuid.uuid4().hex,
        }
        written = records.write_record(
            self.session,
            environment.contract_bucket,
            f"{NAME}{environment.location}.json",
            body,
            generation=self._generation,
        )
        if written is None:
            return None
        self._generation, self._held = written.generation, body["held"]  # type: ignore[assignment]
        return set(granted), committed

    def _standing(self, entries: Mapping[str, Entry]) -> dict[str, float]:
        """Return what others have written down and not yet put into their records.

        A record whose generation has moved on says itself what is committed. A runner that wrote its jobs down and died
        leaves records as they were: they count until their jobs are submitted, by whoever comes next.
        """
        found = {}
        for name, item in (self._held or {}).items():
            entry = entries.get(name)
            if entry is not None and isinstance(item, list) and entry.generation == item[0]:
                found[name] = float(item[1])
        return found
