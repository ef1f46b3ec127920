"""One budget for all runners of a queue, on any machine.

The records contain the committed amount: the billed price of ended jobs, and the upper end of the price of every other
job. Two runners could each find enough money for one more job, and both create one. Therefore, a runner first writes
the jobs that it is about to submit into the budget's document, over the generation that it read before the records.
Only one of two runners succeeds; the other reads everything again.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Annotated

from pydantic import Field, TypeAdapter, ValidationError

from runner.errors import GoogleApiError
from runner.gcp import records, storage
from runner.gcp.session import Session
from runner.jobs.manifests.records import PREFIX, Entry, Run, damaged
from runner.prices import require_dollars

NAME = f"{PREFIX.rstrip('/')}-budget/"
"""Folder of the documents `runner/state-budget/LOCATION.json`, which are not records."""
_Held = dict[str, tuple[int, Annotated[float, Field(ge=0, allow_inf_nan=False)]]]
"""Maps a name to the generation of its record, and the dollars that are reserved for it."""
_HELD = TypeAdapter(_Held)


@dataclass(slots=True)
class Allowance:
    """The budget's document. Read it before the records.

    Args:
        session: determines the bucket and the location of the records.
        limit: dollars for all jobs of all records together.
    """

    session: Session
    limit: float
    _generation: int = 0
    _held: _Held = field(default_factory=dict)

    def __post_init__(self) -> None:
        require_dollars(self.limit, "the budget")
        found = _stored(self.session)
        if found is not None:
            self._generation, self._held = found.generation, _held_in(found, self.session)

    def reserve(self, entries: Mapping[str, Entry], wanted: Iterable[tuple[str, Run]]) -> tuple[set[str], float] | None:
        """Reserve money for the jobs that are submitted next.

        Args:
            entries: all records, read after this document.
            wanted: names and runs, in their order.

        Returns:
            The names for which there is enough money, and the dollars that are committed without them; None if another
            runner was faster.
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
        now: _Held = {name: (entries[name].generation, usd) for name, usd in {**held, **granted}.items()}
        body = {"held": {name: list(item) for name, item in now.items()}, "writer": uuid.uuid4().hex}
        bucket, name = self.session.environment.contract_bucket, _name_of(self.session)
        written = records.write_record(self.session, bucket, name, body, generation=self._generation)
        if written is None:
            return None
        self._generation, self._held = written.generation, now
        return set(granted), committed

    def _standing(self, entries: Mapping[str, Entry]) -> dict[str, float]:
        """Return the reservations of other runners that are not in their records yet.

        A record with a newer generation already contains its committed amount. If a runner ends after its reservation,
        its records are unchanged: the reservations count until some runner submits these jobs.
        """
        found = {}
        for name, (generation, usd) in self._held.items():
            entry = entries.get(name)
            if entry is not None and entry.generation == generation:
                found[name] = usd
        return found


def damages(session: Session) -> list[tuple[str, int, str]]:
    """Return the budget's document if it cannot be read: its name, generation and error. Changes nothing."""
    name = _name_of(session)
    found = storage.stat(session, f"gs://{session.environment.contract_bucket}/{name}")
    if found is None:
        return []
    try:
        _held_in(records.record_of(session, found), session)
    except GoogleApiError as error:
        if error.status != "DATA_LOSS":
            raise
        return [(name, found.generation, error.message)]
    return []


def _name_of(session: Session) -> str:
    return f"{NAME}{session.environment.location}.json"


def _stored(session: Session) -> records.StoredRecord | None:
    return records.read_record(session, session.environment.contract_bucket, _name_of(session))


def _held_in(stored: records.StoredRecord, session: Session) -> _Held:
    try:
        return _HELD.validate_json(json.dumps(stored.body.get("held")), strict=True)
    except ValidationError as error:
        problem = f"held: {error.errors(include_url=False)[0]['msg']}"
        raise damaged(stored.name, session.environment.contract_bucket, problem) from error
