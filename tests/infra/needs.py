"""Which methods were called, and what they need: the emulator's own table (`runner.emulator.iam.needs`)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta

import httpx
import pytest

from runner.emulator import services
from runner.emulator.clock import Clock
from runner.emulator.iam import needs
from runner.emulator.server import EmulatorServer
from runner.emulator.settings import EmulatorSettings
from tests.loopback import NO_TLS


@pytest.fixture(scope="module")
def emulator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmulatorServer]:
    """An emulator on which no schedule is due for nine minutes: what an idle guard asks would be recorded as well."""
    now = datetime.now(UTC)
    since_a_tick = timedelta(minutes=now.minute % 10, seconds=now.second)
    settings = EmulatorSettings(directory=tmp_path_factory.mktemp("recorded"), stand_in="tiny")
    with EmulatorServer(
        settings, clock=Clock(lambda: datetime.now(UTC) - since_a_tick + timedelta(seconds=5))
    ) as server:
        yield server


def permissions(methods: Iterable[str]) -> set[str]:
    """Return what these methods need together, on the project; Storage's ask for their bucket."""
    return {permission for method in methods for permission in needs.of(method)}


def methods_of(permission: str) -> list[str]:
    """Return the methods that need a permission."""
    return sorted(method.id for method in services.all_methods() if permission in needs.of(method.id))


@contextmanager
def recorded(url: str) -> Iterator[set[str]]:
    """Note the ids of the methods that an emulator answers; filled at the end.

    A fault that delays by nothing is armed for each method: the emulator itself then tells which have been hit.
    """
    ids = {method.id for method in services.all_methods()}
    wanted = sorted(name for name in ids if not name.startswith("emulator."))
    called: set[str] = set()
    with httpx.Client(base_url=url, timeout=120, trust_env=False, verify=NO_TLS) as client:
        client.post("/_emulator/faults", json={"faults": [f"{name}:delay=0" for name in wanted]}).raise_for_status()
        try:
            yield called
        finally:
            for fault in client.delete("/_emulator/faults").json()["faults"]:
                if fault["hits"] and fault["method"] in ids:  # others are of jobs, from tests before
                    called.add(fault["method"])


@contextmanager
def withheld(url: str, permission: str) -> Iterator[None]:
    """Refuse every method that needs a permission, as Google does for an account without it."""
    texts = [f"{method}:status=403" for method in methods_of(permission)]
    with httpx.Client(base_url=url, timeout=120, trust_env=False, verify=NO_TLS) as client:
        client.post("/_emulator/faults", json={"faults": texts}).raise_for_status()
        try:
            yield
        finally:
            client.delete("/_emulator/faults").raise_for_status()
