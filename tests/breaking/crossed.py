"""Broken requests crossed with what happens to machines: kills, full disks, wrong clocks, lagging lists."""

from __future__ import annotations

import json
import random
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass

from tests.breaking.breaking import Breaking
from tests.breaking.clocks import library
from tests.breaking.flows.flow import Flow
from tests.breaking.flows.jobs import Apply, Clone, Queue, Submit
from tests.breaking.flows.serving import Deploy
from tests.breaking.flows.transfers import Upload
from tests.breaking.sweep import REPETITIONS, Case, Found
from tests.breaking.world import Ended, Place, World
from tests.gcp.corrupting import Exchange

FLOWS: tuple[type[Flow], ...] = (Submit, Apply, Queue, Clone, Deploy, Upload)
FIRST = ("killed", "full disk", "clock +1d", "clock -1d")
SECOND = ("same", "other machine", "lagging list", "clock -1d", "clock +2m")
PATIENCE_SECONDS = 120.0


@dataclass(frozen=True, slots=True)
class Crossing:
    """What happens to the broken run, and to the next one."""

    first: str
    second: str


def chosen(every: Sequence[Case], number: int, seed: int) -> list[tuple[Case, Crossing]]:
    """Return so many cases, each with a crossing."""
    chance = random.Random(seed)
    wanted = [
        case for case in every if case.flow in FLOWS and case.kind.name not in {"silent", "endless head", "twice"}
    ]
    crossings = [
        Crossing(first, second)
        for first in FIRST
        for second in SECOND
        if library() or not (first + second).count("clock")
    ]
    return [(chance.choice(wanted), crossings[index % len(crossings)]) for index in range(number)]


def run(world: World, case: Case, crossing: Crossing, found: Found) -> None:
    """Run one crossed case and note what was wrong."""
    place = world.place()
    try:
        prepared = case.flow(place)
        before = _jobs(place)
        broken = Breaking(case.request, case.number, case.kind, case.times)
        ended = _broken(place, prepared, broken, crossing.first)
        found.cases += 1
        found.struck += broken.struck > 0
        found.codes[ended.code] += 1
        wrong = prepared.after(ended) if ended.code != -9 else _after_kill(prepared, ended)
        wrong += [f"ended with {ended.told}"] if ended.code == 70 else []
        if crossing.second == "other machine" and case.flow is not Deploy:  # whose leftovers are known to its machine
            place.machine = 2
        if crossing.second == "lagging list":
            second = _lagging(place, prepared, before)
            wrong += [f"the lagging run ends with {second.told}"] if second.code in (70, -9) else []
            wrong += [f"{line}, after a lagging list" for line in _after_kill(prepared, second)]
        for _ in range(REPETITIONS):
            following = _finished(place.start(prepared.again(), broken=False, **_clock(crossing.second)))
            if following.code in (0, 70):
                break
        wrong += prepared.finally_(following) if following.code == 0 else [f"the next run ends with {following.told}"]
        what = f"{case}, {crossing.first}, then {crossing.second}"
        told = ended.told.replace("\n", " | ")
        found.wrong += [f"{what}: {line}  [first run: {told[:260]}]" for line in wrong]
    finally:
        place.close()
        shutil.rmtree(place.folder, ignore_errors=True)


def _broken(place: Place, prepared: Flow, broken: Breaking, first: str) -> Ended:
    proxy = place.world.proxy
    variables = {"FULL": "1"} if first == "full disk" else _clock(first)
    process = place.start(prepared.command(), broken=True, **variables)

    def kill(exchange: Exchange) -> bool:
        struck = broken.request(exchange)
        if struck and broken.kind.when == "before":
            process.kill()
        return struck

    def kill_after(exchange: Exchange) -> bool:
        struck = broken.answer(exchange)
        if struck:
            process.kill()
        return struck

    # A process needs longer to begin than these two lines.
    proxy.request, proxy.answer = (kill, kill_after) if first == "killed" else (broken.request, broken.answer)
    ended = _finished(process)
    proxy.request = proxy.answer = None
    return ended


def _lagging(place: Place, prepared: Flow, before: set[str]) -> Ended:
    """Run the next command while lists of jobs do not show what is new."""

    def hide(exchange: Exchange) -> bool:
        if exchange.method != "GET" or not exchange.path.partition("?")[0].endswith("/tuningJobs"):
            return False
        body = json.loads(exchange.content)
        body["tuningJobs"] = [job for job in body.get("tuningJobs", []) if job["name"] in before]
        exchange.content = json.dumps(body).encode()
        return True

    place.world.proxy.answer = hide
    ended = _finished(place.start(prepared.again(), broken=False, LAGS="1"))
    place.world.proxy.answer = None
    return ended


def _after_kill(prepared: Flow, ended: Ended) -> list[str]:
    """Return what is wrong after a run that need not have come to anything, nor have done it itself."""
    wrong = [] if isinstance(prepared, Deploy) else prepared.after(ended)
    return [line for line in wrong if not line.startswith("the answer does not name")]


def _clock(condition: str) -> dict[str, str]:
    kind, _, offset = condition.partition(" ")
    return {"LD_PRELOAD": library(), "FAKETIME": offset} if kind == "clock" else {}


def _finished(process: subprocess.Popen[str]) -> Ended:
    try:
        out, err = process.communicate(timeout=PATIENCE_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        out, err = process.communicate()
        return Ended(code=70, out=out, err=f"{err} hangs", seconds=PATIENCE_SECONDS, silence=0.0)
    return Ended(code=process.returncode, out=out, err=err, seconds=0.0, silence=0.0)


def _jobs(place: Place) -> set[str]:
    listed = place.direct.http.get(f"/v1beta1/{place.environment.parent}/tuningJobs").json()
    return {job["name"] for job in listed.get("tuningJobs", [])}
