"""What is remembered of requests is bounded in bytes: a client chooses what they say."""

from __future__ import annotations

import asyncio
import gc
import http.client
import re
import socket
import tracemalloc
from collections.abc import Callable, Iterator

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.emulator.aiplatform import filters
from runner.emulator.server import EmulatorServer
from runner.emulator.storage import session_files

LIST = "/storage/v1/b?project=test-remembered"
BOUND = 4 << 20
"""Bytes that all of one kind of request may leave behind."""
REQUESTS = 60


def _plain(path: str, **headers: str) -> bytes:
    given = {"Host": "localhost", **{name.replace("_", "-"): value for name, value in headers.items()}}
    lines = "".join(f"{name}: {value}\r\n" for name, value in given.items())
    return f"GET {path} HTTP/1.1\r\n{lines}\r\n".encode()


def _batch(name: str) -> bytes:
    boundary, target = f"{name}{'b' * 40_000}", f"/storage/v1/b/{name}?x={'y' * 60_000}"
    body = f"--{boundary}\r\nContent-Type: application/http\r\n\r\nGET {target} HTTP/1.1\r\n\r\n\r\n--{boundary}--"
    head = f"Content-Type: multipart/mixed; boundary={boundary}\r\nContent-Length: {len(body)}"
    return f"POST /batch/storage/v1 HTTP/1.1\r\nHost: localhost\r\n{head}\r\n\r\n{body}".encode()


def _schedule(name: str) -> bytes:
    body = f'{{"name": "x", "schedule": "* * * * *", "httpTarget": {{"uri": "http://{name}/{"p" * 60_000}"}}}}'
    path = "/scheduler/v1/projects/test-remembered/locations/us-central1/jobs"
    head = f"Host: localhost\r\nContent-Type: application/json\r\nContent-Length: {len(body)}"
    return f"POST {path} HTTP/1.1\r\n{head}\r\n\r\n{body}".encode()


_MANY = [f"{number:04d}" for number in range(3000)]
KINDS: dict[str, Callable[[str], bytes]] = {
    "host": lambda name: _plain(LIST, Host=name + "h" * 60_000),
    "port": lambda name: _plain("/", Host=f"{name}{'b' * 200}.localhost:{'1' * 60_000}"),
    "path": lambda name: _plain(f"/{name}/{'p' * 60_000}"),
    "reserved": lambda name: _plain(f"/v1x{name}.{'p' * 60_000}"),
    "version": lambda name: _plain(f"/v9{int(name[1:])}{'1' * 50_000}/projects/p/locations/l/tuningJobs"),
    "query": lambda name: _plain(f"{LIST}&x{name}={'q' * 60_000}"),
    "fields": lambda name: _plain(f"{LIST}&fields={','.join(f'{name}{each}' for each in _MANY)}"),
    "glob": lambda name: _plain(f"/storage/v1/b/no-bucket/o?matchGlob={name}{'*x' * 100}"),
    "token": lambda name: _plain(LIST, Authorization=f"Bearer {name}{'t' * 60_000}"),
    "fault": lambda name: _plain(LIST, X_Emulator_Fault=f"delay=0,match={name}{'*[a]' * 50}"),
    "long fault": lambda name: _plain(LIST, X_Emulator_Fault=f"delay=0,match={name}{'*[a]' * 1000}"),
    "test": lambda name: _plain(LIST, X_Retry_Test_Id=name + "m" * 60_000),
    "batch": _batch,
    "schedule": _schedule,
}


@pytest.fixture
def connection(emulator: EmulatorServer) -> Iterator[socket.socket]:
    host, port = emulator.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=120) as connected:
        yield connected


def _ask(connection: socket.socket, request: bytes) -> int:
    connection.sendall(request)
    answer = http.client.HTTPResponse(connection)
    answer.begin()
    answer.read()
    return answer.status


@pytest.mark.parametrize("kind", KINDS)
def test_odd_requests_leave_little_behind(emulator: EmulatorServer, connection: socket.socket, kind: str) -> None:
    enable = {"serviceIds": ["cloudscheduler.googleapis.com"]}
    httpx.post(
        f"{emulator.url}/v1/projects/test-remembered/services:batchEnable", json=enable, timeout=120
    ).raise_for_status()
    make = KINDS[kind]
    for number in range(3):
        assert _ask(connection, make(f"a{number:04d}")) != 500
    tracemalloc.start(1)
    try:
        before = tracemalloc.get_traced_memory()[0]
        statuses = {_ask(connection, make(f"b{number:04d}")) for number in range(REQUESTS)}
        gc.collect()
        left = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    assert 500 not in statuses
    assert left < BOUND, f"{left / (1 << 20):.1f} MiB are left of {REQUESTS} requests"


def test_sessions_that_are_left_are_forgotten_and_one_in_use_is_one(emulator: EmulatorServer) -> None:
    async def ask(session: str) -> session_files.Progress:
        return await session_files.progress_of(emulator.emulator, session, "blob", 0)

    async def left_behind() -> int:
        in_use = await ask("in-use")
        before = tracemalloc.get_traced_memory()[0]
        for number in range(20_000):
            await ask(f"left-{number:08d}")
        assert await ask("in-use") is in_use
        gc.collect()
        return tracemalloc.get_traced_memory()[0] - before

    tracemalloc.start(1)
    try:
        left = asyncio.run(left_behind())
    finally:
        tracemalloc.stop()
        session_files._lately.clear()
    assert left < BOUND, f"{left / (1 << 20):.1f} MiB are left of 20,000 sessions"


@given(st.text("ab\n", max_size=12), st.text("ab*\n", max_size=8))
def test_wildcards_of_filters_mean_anything(text: str, pattern: str) -> None:
    parts = pattern.split("*")
    expected = re.fullmatch(".*".join(map(re.escape, parts)), text, re.DOTALL) is not None
    assert filters._equal(text, pattern) is (expected if len(parts) > 1 else text == pattern)
