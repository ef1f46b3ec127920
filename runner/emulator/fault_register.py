"""The active faults and their counts, stored beside the emulator's state so that they survive restarts."""

from __future__ import annotations

import asyncio
import json
import logging
import time
from pathlib import Path
from typing import Any

from runner.emulator.faults import DEPLOYMENT, JOB, KINDS, OWN_METHODS, TWINS, Fault, names, parse

VERSION = 1
FILE_NAME = "faults.json"

logger = logging.getLogger(__name__)


class Faults:
    """The faults of one emulator; used on its event loop, and by tests between requests.

    Args:
        texts: faults that are active from the start, unless the file has them from an earlier start and they can still
            fire.
        place: file with the faults and their counts; None keeps them in memory.
    """

    def __init__(self, texts: tuple[str, ...] = (), place: Path | None = None) -> None:
        self._place = place
        self._faults: list[Fault] = []
        self._last = 0
        self._started: dict[tuple[int, str], float] = {}
        """Maps (fault, job) to the time when the fault fired for the job, on `time.monotonic`."""
        self._met: dict[tuple[int, str], bool] = {}
        self._load()
        there = {fault.text for fault in self._faults if not fault.spent}
        for text in texts:
            fault = parse(text)
            if fault.text not in there:
                self.add(fault)

    def add(self, fault: Fault) -> Fault:
        """Add a fault and return it with its number."""
        self._last += 1
        fault.id = self._last
        self._faults.append(fault)
        self.save()
        return fault

    def all(self) -> list[Fault]:
        """Return all faults, oldest first, including used up ones."""
        return list(self._faults)

    def unused(self) -> list[Fault]:
        """Return the faults that never fired: a test that added them has not tested what it meant to."""
        return [fault for fault in self._faults if fault.hits == 0]

    def clear(self, number: int | None = None) -> list[Fault]:
        """Remove one fault by its number, or all; return what was removed."""
        gone = [fault for fault in self._faults if number in (None, fault.id)]
        self._faults = [fault for fault in self._faults if fault not in gone]
        self.save()
        return gone

    def forget(self, job: str) -> None:
        """Remove the faults of a job that has ended, and the records of other faults for it."""
        mine = [fault for fault in self._faults if fault.job == job]
        if mine or any(name == job for _, name in self._met):
            self._faults = [fault for fault in self._faults if fault not in mine]
            self._met = {key: struck for key, struck in self._met.items() if key[1] != job}
            self._started = {key: start for key, start in self._started.items() if key[1] != job}
            self.save()

    @property
    def armed(self) -> bool:
        """Return whether there is any fault."""
        return bool(self._faults)

    def of_test(self, test: str) -> list[Fault]:
        """Return the faults of a retry test in their order, including used up ones."""
        return [fault for fault in self._faults if fault.test == test]

    def of_request(self, method: str, path: str, test: str = "") -> list[Fault]:
        """Return the faults that fire for this request: any number of delays, and the first of the others.

        A fault with `after` is returned without being counted, because the length of the data is known only later.

        Args:
            method: ID of the method.
            path: path of the request.
            test: ID of the request's retry test, whose next fault fires, and no other.
        """
        if not self._faults or method.startswith(OWN_METHODS):
            return []
        if test:
            twin = TWINS.get(method, method)
            due = (fault for fault in self.of_test(test) if not fault.spent and fault.method in (method, twin))
            fault = next(due, None)
            if fault is None or (fault.after is None and not fault.befalls(path)):
                return []
            self.save()
            return [fault]
        struck: list[Fault] = []
        seen = sum(fault.seen for fault in self._faults)
        for fault in self._faults:
            if fault.test or fault.method in KINDS or not names(fault.method, method):
                continue
            if fault.action != "delay" and any(other.action != "delay" for other in struck):
                continue
            # Faults within the body depend on its length, so `fault_routes` counts them.
            later = fault.action == "agent-missing" or (fault.after is not None and not fault.spent)
            if later or fault.befalls(path):
                struck.append(fault)
        if seen != sum(fault.seen for fault in self._faults):
            self.save()
        return struck

    def of_job(self, action: str, job: dict[str, Any]) -> Fault | None:
        """Return the fault of this kind that has fired for a job.

        Repeated calls for the same job return the same fault.
        """
        name = job["name"]
        for fault in self._faults:
            if fault.method != JOB or fault.action != action or fault.job not in ("", name):
                continue
            key = (fault.id, name)
            if key not in self._met:
                self._met[key] = fault.befalls(job.get("tunedModelDisplayName", ""))
                self.save()
            if self._met[key]:
                return fault
        return None

    def waits_for_quota(self, job: dict[str, Any], scale: float = 1.0) -> float:
        """Return for how many more real seconds a job waits for quota although there is some; 0 if it does not."""
        fault = self.of_job("quota-wait", job)
        return self._left(fault, job, scale) if fault else 0.0

    def of_deployment(self, action: str, display_name: str) -> Fault | None:
        """Return the fault of this kind that fires for a deployment now, and count it."""
        of_kind = (fault for fault in self._faults if (fault.method, fault.action) == (DEPLOYMENT, action))
        found = next((fault for fault in of_kind if fault.befalls(display_name)), None)
        self.save()
        return found

    async def hold(self, action: str, job: dict[str, Any], scale: float = 1.0) -> None:
        """Wait for the duration of the job's `capacity-wait` or `stall`; `clear` ends it."""
        fault = self.of_job(action, job)
        while fault is not None and fault in self._faults and (left := self._left(fault, job, scale)) > 0:
            await asyncio.sleep(min(left, 0.2))

    async def hold_deployment(self, display_name: str, scale: float = 1.0) -> None:
        """Wait for the duration of the deployment's `slow`; `clear` ends it."""
        fault = self.of_deployment("slow", display_name)
        start = time.monotonic()
        while fault is not None and fault in self._faults:
            left = fault.seconds / scale - (time.monotonic() - start)
            if left <= 0:
                return
            await asyncio.sleep(min(left, 0.2))

    def fail(self, job: dict[str, Any], number: str, causes: tuple[str, ...]) -> None:
        """Raise the ApiError of the job's `fail` fault, if its cause is one of these."""
        fault = self.of_job("fail", job)
        if fault is not None and fault.value in causes:
            raise fault.failure(job, number)

    def _left(self, fault: Fault, job: dict[str, Any], scale: float) -> float:
        key = (fault.id, job["name"])
        if key not in self._started:
            self._started[key] = time.monotonic()
            self.save()
        start = self._started[key]
        return max(0.0, fault.seconds / scale - (time.monotonic() - start))

    def save(self) -> None:
        """Write the faults to their file. A full disk fails no request: the error is logged."""
        if self._place is None:
            return
        now, real = time.monotonic(), time.time()
        body = {
            "version": VERSION,
            "last": self._last,
            "faults": [
                {
                    "id": fault.id,
                    "fault": fault.text,
                    "job": fault.job,
                    "test": fault.test,
                    "asked": fault.asked,
                    "seen": fault.seen,
                    "hits": fault.hits,
                }
                for fault in self._faults
            ],
            "met": [[number, job, struck] for (number, job), struck in self._met.items()],
            "started": [[number, job, real - (now - start)] for (number, job), start in self._started.items()],
        }
        aside = self._place.with_name(self._place.name + ".new")
        try:
            aside.write_text(json.dumps(body))
            aside.chmod(0o600)
            aside.replace(self._place)
        except OSError as error:
            logger.warning("the faults cannot be kept: %s", error)

    def _load(self) -> None:
        """Read the faults of an earlier server. Unreadable ones are logged and omitted."""
        if self._place is None or not self._place.exists():
            return
        try:
            body = json.loads(self._place.read_text())
            if body["version"] != VERSION:
                raise ValueError(f"version {body['version']}")
            faults = [_again(item) for item in body["faults"]]
            self._met = {(int(number), str(job)): bool(struck) for number, job, struck in body["met"]}
            passed = time.monotonic() - time.time()
            self._started = {(int(number), str(job)): float(start) + passed for number, job, start in body["started"]}
            self._faults, self._last = faults, int(body["last"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            logger.warning("the faults in %s cannot be read and are left out: %s", self._place, error)
            return
        for fault in self._faults:
            logger.warning("fault %d is armed from before: %s", fault.id, fault.text)


def _again(item: dict[str, Any]) -> Fault:
    fault = parse(item["fault"])
    fault.id, fault.job = int(item["id"]), str(item["job"])
    fault.test, fault.asked = str(item.get("test", "")), str(item.get("asked", ""))
    fault.seen, fault.hits = int(item["seen"]), int(item["hits"])
    if fault.probability < 1:
        for _ in range(fault.seen - fault.skip):
            fault.chance.random()  # the same seed continues with the same calls
    return fault
