"""One budget that all runners of a queue keep together, wherever they run.

What is committed stands in the records: what ended jobs were billed, and the high end of the price of every other job.
Two runners could each see room for one more job and create one each. So whoever is about to submit writes down first
which jobs, over the generation of the budget's document that it read before the records; of two runners one succeeds,
and the other looks again.
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

NAME = f"{PREFIX.rstrip('/')}-budget/"
"""Folder of the documents `runner/state-budget/LOCATION.json`, which are not records."""
_Held = dict[str, tuple[int, Annotated[float, Field(ge=0, allow_inf_nan=False)]]]
"""Generation of a record, and the dollars that are held for it, by its name."""
_HELD = TypeAdapter(_Held)


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
    _held: _Held = field(default_factory=dict)

    def __post_init__(self) -> None:
        found = _stored(self.session)
        if found is not None:
            self._generation, self._held = found.generation, _held_in(found, self.session)

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
        now: _Held = {name: (entries[name].generation, usd) for name, usd in {**held, **granted}.items()}
        body = {"held": {name: list(item) for name, item in now.items()}, "writer": uuid.uuid4().hex}
        bucket, name = self.session.environment.contract_bucket, _name_of(self.session)
        written = records.write_record(self.session, bucket, name, body, generation=self._generation)
        if written is None:
            return None
        self._generation, self._held = written.generation, now
        return set(granted), committed

    def _standing(self, entries: Mapping[str, Entry]) -> dict[str, float]:
        """Return what others have written down and not yet put into their records.

        A record whose generation has moved on says itself what is committed. A runner that wrote its jobs down and died
        leaves records as they were: they count until their jobs are submitted, by whoever comes next.
        """
        found = {}
        for name, (generation, usd) in self._held.items():
            entry = entries.get(name)
            if entry is not None and entry.generation == generation:
                found[name] = usd
        return found


def damages(session: Session) -> list[tuple[str, int, str]]:
    """Return the budget's document if it cannot be read: its name, its generation, what is wrong. Changes nothing."""
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
