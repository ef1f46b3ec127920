"""What the store promises.

Acknowledged is on disk, one failing piece of work harms no other, newer files are left alone.
"""

from __future__ import annotations

import asyncio
import sqlite3
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest

from runner.emulator import store
from runner.emulator.errors import ApiError
from runner.emulator.store import StateTooNewError, Store


@pytest.fixture
def opened(tmp_path: Path) -> Iterator[Store]:
    opened = Store(tmp_path / "state.sqlite3")
    yield opened
    opened.close()


def test_a_written_document_is_read_back(opened: Store) -> None:
    opened.write_sync(lambda connection: store.insert(connection, "kind", "a", {"value": 1}))

    assert opened.read(lambda connection: store.get(connection, "kind", "a")) == {"value": 1}


def test_work_that_fails_is_rolled_back_alone(opened: Store) -> None:
    def half(connection: sqlite3.Connection) -> None:
        store.put(connection, "kind", "half", {})
        raise ApiError("ABORTED", "stop")

    async def both() -> list[object]:
        good = opened.write(lambda connection: store.put(connection, "kind", "good", {}))
        bad = opened.write(half)
        return list(await asyncio.gather(bad, good, return_exceptions=True))

    outcome = asyncio.run(both())

    assert isinstance(outcome[0], ApiError)
    names = opened.read(lambda connection: [name for name, _ in store.scan(connection, "kind")])
    assert names == ["good"]


def test_a_second_insert_is_refused_in_googles_words(opened: Store) -> None:
    opened.write_sync(lambda connection: store.insert(connection, "kind", "a", {}))

    with pytest.raises(ApiError, match="already exists"):
        opened.write_sync(lambda connection: store.insert(connection, "kind", "a", {}))


def test_ids_are_never_used_twice(opened: Store) -> None:
    numbers = [opened.write_sync(lambda connection: store.next_number(connection, "jobs", 1000)) for _ in range(3)]

    assert numbers == [1000, 1001, 1002]


def test_scan_takes_the_prefix_literally(opened: Store) -> None:
    def put_all(connection: sqlite3.Connection) -> None:
        for name in ("a%b", "a_b", "axb"):
            store.put(connection, "kind", name, {})

    opened.write_sync(put_all)

    assert [name for name, _ in opened.read(lambda connection: list(store.scan(connection, "kind", "a%")))] == ["a%b"]


def test_a_newer_state_is_refused_and_left_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "state.sqlite3"
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA user_version = 99")
    before = path.read_bytes()

    with pytest.raises(StateTooNewError, match="schema 99"):
        Store(path)

    assert path.read_bytes() == before


def test_what_was_acknowledged_survives_kill_9(tmp_path: Path) -> None:
    program = """
        import sys
        from pathlib import Path
        from runner.emulator import store
        opened = store.Store(Path(sys.argv[1]))
        for number in range(100_000):
            opened.write_sync(lambda c: store.put(c, "kind", f"{number:08}", {"number": number}))
            print(number, flush=True)
    """
    path = tmp_path / "state.sqlite3"
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(program), str(path)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    acknowledged = [int(process.stdout.readline()) for _ in range(50)][-1]
    process.kill()
    process.wait()
    process.stdout.close()

    reopened = Store(path)
    found = reopened.read(lambda connection: [body["number"] for _, body in store.scan(connection, "kind")])
    reopened.close()
    assert found[: acknowledged + 1] == list(range(acknowledged + 1))
