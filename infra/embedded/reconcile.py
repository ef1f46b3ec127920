"""Makes one resource at a time match the program, and records it."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import httpx

from infra.consistency import delay_before
from infra.embedded.obstacles import Doomed, look
from infra.embedded.registry import TYPES, find_type, named
from infra.embedded.resource_type import Context, Live, ResourceType, TakenError, differences
from infra.embedded.rest import EmbeddedError, RequestError
from infra.embedded.state import Record, State
from infra.embedded.storage import ObjectType
from infra.embedded.taken import taken
from infra.evaluation import Registered

PATIENCE = 0.02
"""Factor for the program's waits between attempts: on one machine, nothing takes minutes to take effect."""


@dataclass(slots=True)
class Tally:
    """What was done, as keys of the records, in order."""

    created: list[str] = field(default_factory=list)
    updated: list[str] = field(default_factory=list)
    unchanged: list[str] = field(default_factory=list)
    deleted: list[str] = field(default_factory=list)
    kept: list[str] = field(default_factory=list)
    """No longer recorded, but not deleted, because they are to outlive the stack."""
    protected: list[str] = field(default_factory=list)
    """Still part of the stack: protected resources and their dependencies."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """The resource options that this module needs."""

    protect: bool = False
    retain: bool = False
    ignore_changes: tuple[str, ...] = ()
    import_id: str = ""
    """ID of an existing resource to adopt."""
    dependencies: tuple[str, ...] = ()
    """Keys of its dependencies."""
    aliases: tuple[str, ...] = ()
    """Its earlier names."""
    retried: bool = False
    """Whether to retry if Google does not yet know what the resource refers to."""


class Reconciler:
    """Creates, changes, replaces and deletes. It handles one call at a time: the caller holds a lock."""

    def __init__(self, context: Context, state: State) -> None:
        self.context = context
        self.state = state
        self.tally = Tally()
        self.seen: set[tuple[str, str]] = set()

    def register(self, token: str, name: str, inputs: dict[str, Any], options: Options) -> tuple[str, dict[str, Any]]:
        """Make a resource match the program and return its ID and outputs.

        Raises:
            EmbeddedError: the emulator refused, the type is unknown, or a protected resource would be replaced.
        """
        if (token, name) in self.seen:
            raise EmbeddedError(f"the program declares two resources {name!r} of type {token}")
        self.seen.add((token, name))
        kind = find_type(token)
        inputs = kind.with_labels(inputs, self.context.default_labels)
        record = self.state.find(token, name) or self._renamed(token, name, options.aliases)
        if record is not None and kind.replaced(record.inputs, inputs):
            self._make_way(record, kind)
            record = None
        live = kind.read(self.context, record.id, inputs) if record is not None else None
        fresh = Record(
            type=token,
            name=name,
            id="",
            inputs=inputs,
            protect=options.protect,
            retain=options.retain,
            dependencies=list(options.dependencies),
        )
        if live is None:
            live = self._create(kind, fresh, options)
        else:
            live = self._update(kind, fresh, live, (record.body if record else {}), options)
        fresh.id, fresh.body = live.id, kind.body(inputs)
        self.state.keep(fresh)
        return live.id, kind.outputs(inputs, live)

    def refuse_taken(self, wanted: Iterable[Registered]) -> None:
        """Do nothing if no other resource has the name of a resource that is still to be created.

        Raises:
            TakenError: names each such resource that is not part of this stack.
        """
        known = {(record.type, record.id) for record in self.state.records}
        found: list[tuple[str, str, str]] = []
        for item in wanted:
            kind = TYPES.get(item.type)
            if kind is None or item.import_id or any(self.state.find(item.type, old) for old in item.aliases):
                continue
            inputs = kind.with_labels(item.inputs, self.context.default_labels)
            record = self.state.find(item.type, item.name)
            if record is not None and not kind.replaced(record.inputs, inputs):
                continue
            if (item.type, named(item.type, inputs)) in known:
                continue  # it will be deleted and created again with the same name
            try:
                claim = kind.claim(self.context, inputs)
            except RequestError as error:
                if error.http != httpx.codes.FORBIDDEN:  # a disabled API has no resources, or the create will fail
                    raise
                claim = ""
            if claim:
                found.append((item.type, item.name, claim))
        if found:
            raise taken(found)

    def _renamed(self, token: str, name: str, aliases: tuple[str, ...]) -> Record | None:
        """Return the record that a resource has under an older name, and rename the record."""
        older = (self.state.find(token, alias) for alias in aliases if (token, alias) not in self.seen)
        record = next(filter(None, older), None)
        return self.state.rename(record, name) if record else None

    def _create(self, kind: ResourceType, fresh: Record, options: Options) -> Live:
        taken_over = False
        try:
            live = self._imported(kind, fresh, options.import_id) if options.import_id else None
            if live is None:
                live = self._patiently(kind, fresh) if options.retried else kind.create(self.context, fresh.inputs)
            changes = differences(kind.body(fresh.inputs), live.body)
            # A different resource with that name existed.
            taken_over = bool(changes)
            if changes:
                live = kind.update(self.context, live, fresh.inputs, changes)
        except TakenError as error:
            raise taken([(kind.token, fresh.name, error.message)]) from error
        except RequestError as error:
            raise EmbeddedError(f"creating {fresh.key}: {error.message}") from error
        (self.tally.updated if taken_over else self.tally.created).append(fresh.key)
        return live

    def _imported(self, kind: ResourceType, fresh: Record, id_: str) -> Live:
        live = kind.find(self.context, fresh.inputs)
        if live is None:
            raise EmbeddedError(
                f"{fresh.key} is to be imported, and there is no {id_} in project {self.context.project}"
            )
        return live

    def _patiently(self, kind: ResourceType, fresh: Record) -> Live:
        """Create a resource; retry in the cases in which the program's hook makes the engine retry."""
        errors: list[str] = []
        while True:
            try:
                return kind.create(self.context, fresh.inputs)
            except RequestError as error:
                errors.insert(0, error.message)
                delay = delay_before(errors)
                if delay is None:
                    raise
                time.sleep(delay * PATIENCE)

    def _update(self, kind: ResourceType, fresh: Record, live: Live, last: dict[str, Any], options: Options) -> Live:
        changes = differences(kind.body(fresh.inputs), live.body, last)
        changes = {key: value for key, value in changes.items() if key not in options.ignore_changes}
        if not changes:
            self.tally.unchanged.append(fresh.key)
            return live
        try:
            live = kind.update(self.context, live, fresh.inputs, changes)
        except RequestError as error:
            raise EmbeddedError(f"updating {fresh.key}: {error.message}") from error
        self.tally.updated.append(fresh.key)
        return live

    def remove_unseen(self) -> None:
        """Delete what the program no longer has; dependent resources first."""
        going = [record for record in self.state.records if (record.type, record.name) not in self.seen]
        look(self.context.rest, _doomed(record for record in going if not record.retain))
        for record in dependents_first(going):
            self._remove(record, find_type(record.type), why="removed from the program")

    def remove_all(self) -> None:
        """Delete everything except protected resources and their dependencies; dependent resources first.

        Raises:
            EmbeddedError: the emulator refused. The records of what was deleted before that are removed.
        """
        records = self.state.records
        staying = self._needed([record for record in records if record.protect])
        look(
            self.context.rest, _doomed(record for record in records if record.key not in staying and not record.retain)
        )
        for record in dependents_first(records):
            if record.key not in staying:
                self._remove(record, find_type(record.type), why="destroyed")
        self.tally.protected += [record.key for record in records if record.key in staying]

    def _needed(self, records: list[Record]) -> set[str]:
        """Return the keys of records and of all their dependencies."""
        by_key = {record.key: record for record in self.state.records}
        found: set[str] = set()
        todo = [record.key for record in records]
        while todo:
            key = todo.pop()
            if key in by_key and key not in found:
                found.add(key)
                todo += by_key[key].dependencies
        return found

    def _make_way(self, record: Record, kind: ResourceType) -> None:
        """Delete a resource that is to be replaced. This deletes no user data, only objects that the program wrote."""
        inputs = record.inputs
        written = [item.inputs for item in self.state.records if item.type == ObjectType.token]
        own = [item["name"] for item in written if item["bucket"] == inputs.get("name")]
        record.inputs = {**inputs, "forceDestroy": False, "ownObjects": own}
        try:
            self._remove(record, kind, why="replaced")
        finally:
            record.inputs = inputs

    def _shared(self, record: Record) -> bool:
        same = (record.type, record.id)
        return any((item.type, item.id) == same and item.name != record.name for item in self.state.records)

    def _remove(self, record: Record, kind: ResourceType, *, why: str) -> None:
        if record.protect:
            raise EmbeddedError(
                f"{record.key} is protected and would be {why}",
                hint="set open-model-tuning:protect to false and apply first",
            )
        if record.retain:
            self.tally.kept.append(record.key)
        elif self._shared(record):
            pass  # another record stands for the same resource, which stays
        else:
            try:
                gone = kind.delete(self.context, record.id, record.inputs)
            except RequestError as error:
                raise EmbeddedError(f"deleting {record.key}: {error.message}") from error
            if gone:
                self.tally.deleted.append(record.key)
        self.state.forget(record)


def dependents_first(records: list[Record]) -> list[Record]:
    """Return records so that each comes after all records that depend on it, otherwise newest first.

    A record keeps its place when it changes, so it may need a newer one, such as an alert that gets a new channel.
    """
    needing: dict[str, list[Record]] = {}
    for record in reversed(records):
        for key in record.dependencies:
            needing.setdefault(key, []).append(record)
    found: dict[str, Record] = {}
    open_: set[str] = set()

    def visit(record: Record) -> None:
        if record.key in open_:
            return
        open_.add(record.key)
        for dependent in needing.get(record.key, []):
            visit(dependent)
        found[record.key] = record

    for record in reversed(records):
        visit(record)
    return list(found.values())


def _doomed(records: Iterable[Record]) -> Iterator[Doomed]:
    return ((record.type, record.name, record.id, record.inputs) for record in records)
