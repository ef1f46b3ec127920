"""The service is asked no more than one client would ask, and what was known stays while it does not answer."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from runner.console.observing import PATIENCE_SECONDS, Observer, StillReadingError
from runner.environment import Environment
from runner.errors import UnreachableError
from runner.gcp.session import Session


@pytest.fixture
def observer() -> Iterator[Observer]:
    with Session(Environment(project="p")) as session:
        found = Observer(session)
        yield found
        found.close()


def test_many_who_look_are_one_request(observer: Observer) -> None:
    asked = []
    go = threading.Event()

    def load() -> int:
        asked.append(1)
        go.wait(60)
        return len(asked)

    with ThreadPoolExecutor(20) as pool:
        readings = [pool.submit(observer.read, "key", load, keep=60.0) for _ in range(20)]
        go.set()
        assert {reading.result(60).value for reading in readings} == {1}
    assert observer.read("key", load, keep=60.0).value == 1


def test_what_was_known_stays_with_its_problem(observer: Observer) -> None:
    answers: list[int | Exception] = [1, UnreachableError("gone"), 3]

    def load() -> int:
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    first = observer.read("key", load, keep=0.0)
    assert (first.value, first.problem) == (1, "")
    second = observer.read("key", load, keep=0.0)
    assert (second.value, second.problem, second.seen) == (1, "gone", first.seen)
    observer.forget()
    third = observer.read("key", load, keep=0.0)
    assert (third.value, third.problem) == (3, "")


def test_a_page_of_many_values_waits_no_longer_than_for_one(observer: Observer) -> None:
    go = threading.Event()
    begin = time.monotonic()
    with observer.page(0.2):
        for key in ("one", "two", "three"):
            with pytest.raises(StillReadingError):
                observer.read(key, lambda: go.wait(60))
    assert time.monotonic() - begin < PATIENCE_SECONDS
    go.set()
    assert observer.read("one", lambda: go.wait(60)).value


def test_without_any_value_the_failure_is_told(observer: Observer) -> None:
    def load() -> int:
        raise UnreachableError("gone")

    with pytest.raises(UnreachableError, match="gone"):
        observer.read("key", load)
    assert observer.glance("other", load) is None
