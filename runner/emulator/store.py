"""Durable state: one SQLite database whose writes are acknowledged only after an fsync.

All writes use one thread that collects waiting writes into one transaction, so that 32 clients share an fsync instead
of waiting for 32. Each write runs in its own savepoint: if it raises an error, only it is rolled back. Reads use one
connection per thread and see only committed data.

Most resources are JSON documents in one table, keyed by kind and name. Cloud Storage has its own tables, because its
lists and preconditions need more.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import queue
import sqlite3
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import Any, TypeVar

from runner.emulator.errors import already_exists, not_found

T = TypeVar("T")
Work = Callable[[sqlite3.Connection], T]
Document = dict[str, Any]
_Waiting = Future[Any] | asyncio.Future[Any]
"""The object on which a thread, or a task of an event loop, waits."""
_Piece = tuple[Work[Any], _Waiting]
_Outcome = tuple[_Waiting, Any, BaseException | None]

SCHEMA_VERSION = 1
_MAX_BATCH = 256

_SCHEMA = """
CREATE TABLE IF NOT EXISTS documents (
    kind TEXT NOT NULL, name TEXT NOT NULL, body TEXT NOT NULL, PRIMARY KEY (kind, name)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS counters (name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
"""


class StateTooNewError(Exception):
    """A newer version wrote the state directory, so it is not changed."""


class Store:
    """The database of one emulator. Close it to end its writer thread.

    Args:
        path: file of the database; created if absent.
        schemas: SQL scripts of the services, each idempotent (`CREATE TABLE IF NOT EXISTS`).

    Raises:
        StateTooNewError: the file belongs to a newer version of this program.
    """

    def __init__(self, path: Path, schemas: tuple[str, ...] = ()) -> None:
        self._path = path
        self._local = threading.local()
        self._queue: queue.SimpleQueue[list[_Piece] | None] = queue.SimpleQueue()
        self._gathered: dict[asyncio.AbstractEventLoop, list[_Piece]] = {}
        _refuse_newer(path)
        connection = self._connect()
        for script in (_SCHEMA, *schemas):
            connection.executescript(script)
        connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
        connection.commit()
        connection.close()
        self._writer = threading.Thread(target=self._write_loop, name="store-writer", daemon=True)
        self._writer.start()

    def _connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(self._path, isolation_level=None, check_same_thread=False, timeout=30)
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        return connection

    def read(self, work: Work[T]) -> T:
        """Run `work` on this thread's read connection. It must not write."""
        connection = getattr(self._local, "connection", None)
        if connection is None:
            connection = self._connect()
            connection.execute("PRAGMA query_only = ON")
            self._local.connection = connection
        return work(connection)

    async def write(self, work: Work[T]) -> T:
        """Run `work` in the writer thread; return after it is on disk.

        Errors are raised here, and the changes are rolled back.
        """
        loop = asyncio.get_running_loop()
        future: asyncio.Future[T] = loop.create_future()
        gathered = self._gathered.get(loop)
        if gathered is None:
            gathered = self._gathered[loop] = []
            loop.call_soon(self._flush, loop)
        gathered.append((work, future))
        return await future

    def _flush(self, loop: asyncio.AbstractEventLoop) -> None:
        """Pass on the writes of one round of the event loop.

        If each write were passed on immediately, the first one would wake up the writer, and both threads would compete
        for the interpreter: a third more CPU time per write, measured with 32 writers.
        """
        self._queue.put(self._gathered.pop(loop))

    def write_sync(self, work: Work[T]) -> T:
        """Do the same as `write` from a thread without an event loop."""
        future: Future[T] = Future()
        self._queue.put([(work, future)])
        return future.result()

    def close(self) -> None:
        """Finish waiting writes, then stop the writer."""
        self._queue.put(None)
        self._writer.join()

    def _write_loop(self) -> None:
        connection = self._connect()
        running = True
        while running:
            batch: list[_Piece] = []
            while not batch or (len(batch) < _MAX_BATCH and not self._queue.empty()):
                pieces = self._queue.get()
                if pieces is None:
                    running = False
                    break
                batch += pieces
            self._commit(connection, batch)
        connection.close()

    def _commit(self, connection: sqlite3.Connection, batch: list[_Piece]) -> None:
        if not batch:
            return
        outcomes: list[_Outcome] = []
        try:
            connection.execute("BEGIN IMMEDIATE")
            for work, future in batch:
                connection.execute("SAVEPOINT piece")
                try:
                    result = work(connection)
                except Exception as error:
                    if not connection.in_transaction:
                        raise  # SQLite itself has rolled back everything, as it can do if the disk is full
                    connection.execute("ROLLBACK TO piece")
                    connection.execute("RELEASE piece")
                    outcomes.append((future, None, error))
                else:
                    connection.execute("RELEASE piece")
                    outcomes.append((future, result, None))
            connection.execute("COMMIT")
        except Exception as error:
            # For a full disk or an I/O error, nothing of this batch is acknowledged. The writer always continues.
            with contextlib.suppress(sqlite3.Error):
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
            outcomes = [(future, None, error) for _, future in batch]
        _deliver(outcomes)


def _deliver(outcomes: list[_Outcome]) -> None:
    """Deliver a batch's results, with one wake-up per event loop instead of one per result."""
    loops: dict[asyncio.AbstractEventLoop, list[_Outcome]] = {}
    for outcome in outcomes:
        future = outcome[0]
        if isinstance(future, Future):
            # Only the waiting thread has the future, so it cannot have been cancelled.
            _resolve([outcome])
        else:
            loops.setdefault(future.get_loop(), []).append(outcome)
    for loop, batch in loops.items():
        # A loop that was closed meanwhile has no waiting tasks.
        with contextlib.suppress(RuntimeError):
            loop.call_soon_threadsafe(_resolve, batch)


def _resolve(outcomes: list[_Outcome]) -> None:
    for future, result, failure in outcomes:
        if future.cancelled():
            continue
        if failure is not None:
            future.set_exception(failure)
        else:
            future.set_result(result)


def _refuse_newer(path: Path) -> None:
    """Check before the file is changed: even setting the journal mode would write to it."""
    if not path.exists():
        return
    connection = sqlite3.connect(path)
    found = connection.execute("PRAGMA user_version").fetchone()[0]
    connection.close()
    if found > SCHEMA_VERSION:
        raise StateTooNewError(f"{path} has schema {found}; this version knows {SCHEMA_VERSION}")


def find(connection: sqlite3.Connection, kind: str, name: str) -> Document | None:
    """Return a document; None if it does not exist."""
    row = connection.execute("SELECT body FROM documents WHERE kind = ? AND name = ?", (kind, name)).fetchone()
    return None if row is None else json.loads(row[0])


def get(connection: sqlite3.Connection, kind: str, name: str, *, missing: str = "") -> Document:
    """Return a document. Raises ApiError NOT_FOUND with Google's message, or with `missing`."""
    document = find(connection, kind, name)
    if document is None:
        raise not_found(missing or f"Resource '{name}' was not found")
    return document


def insert(connection: sqlite3.Connection, kind: str, name: str, body: Document, *, taken: str = "") -> Document:
    """Add a document. Raises ApiError ALREADY_EXISTS with Google's message, or with `taken`."""
    if find(connection, kind, name) is not None:
        raise already_exists(taken or f"Resource '{name}' already exists")
    return put(connection, kind, name, body)


def put(connection: sqlite3.Connection, kind: str, name: str, body: Document) -> Document:
    """Add or replace a document."""
    connection.execute(
        "INSERT INTO documents (kind, name, body) VALUES (?, ?, ?)"
        " ON CONFLICT (kind, name) DO UPDATE SET body = excluded.body",
        (kind, name, json.dumps(body, ensure_ascii=False, separators=(",", ":"))),
    )
    return body


def remove(connection: sqlite3.Connection, kind: str, name: str) -> None:
    """Delete a document. Raises ApiError NOT_FOUND."""
    get(connection, kind, name)
    connection.execute("DELETE FROM documents WHERE kind = ? AND name = ?", (kind, name))


def scan(connection: sqlite3.Connection, kind: str, prefix: str = "") -> Iterator[tuple[str, Document]]:
    """Yield (name, document) of a kind in name order, those whose name starts with `prefix`."""
    rows = connection.execute(
        "SELECT name, body FROM documents WHERE kind = ? AND name >= ? AND substr(name, 1, ?) = ? ORDER BY name",
        (kind, prefix, len(prefix), prefix),
    )
    for name, body in rows.fetchall():
        yield name, json.loads(body)


def next_number(connection: sqlite3.Connection, counter: str, start: int = 1) -> int:
    """Return the next integer of a named counter; IDs are never reused, even after deletion."""
    row = connection.execute(
        "INSERT INTO counters (name, value) VALUES (?, ?)"
        " ON CONFLICT (name) DO UPDATE SET value = value + 1 RETURNING value",
        (counter, start),
    ).fetchone()
    return int(row[0])
