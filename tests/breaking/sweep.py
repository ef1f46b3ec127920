"""Break requests one by one, run the next command, and list what was not as promised."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from tests.breaking.breaking import Breaking, signature
from tests.breaking.flows.flow import Flow
from tests.breaking.kinds import KINDS, Kind
from tests.breaking.world import SILENCE_SECONDS, World

REPETITIONS = 4
"""So often the next run may say that it is not sure yet."""
LASTING = 9
"""More often than a request is repeated."""


@dataclass(frozen=True, slots=True)
class Case:
    """One request of one command line, broken in one way."""

    flow: type[Flow]
    request: str
    number: int
    kind: Kind
    times: int

    def __str__(self) -> str:
        lasting = " and those after it" if self.times > 1 else ""
        return f"{self.flow.name}: {self.request} #{self.number}{lasting}, {self.kind.when} {self.kind.name}"

    @property
    def is_true_to_form(self) -> bool:
        """Tell whether nothing is wrong with the answer's form: `{}` is how Vertex AI says that a list is empty."""
        lists = ("/endpoints", "/models", "/tuningJobs", "/timeSeries", "/operations", "/quotaPreferences")
        return self.kind.name == "empty object" and self.request.startswith("GET") and self.request.endswith(lists)

    @property
    def doubles(self) -> bool:
        """Tell whether it is the network that makes a second job; that it has is to be told."""
        return self.kind.name == "twice" and self.request.startswith("POST") and self.request.endswith("/tuningJobs")


@dataclass(slots=True)
class Found:
    """What a sweep found."""

    cases: int = 0
    struck: int = 0
    codes: Counter[int] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    slowest: float = 0.0
    longest_silence: float = 0.0


def traced(world: World, flow: type[Flow]) -> list[tuple[str, int]]:
    """Return the requests of an unbroken run: what is asked, and how many like it went before.

    Looks at one operation, which are as many as the machine is slow, count as two.
    """
    place = world.place()
    try:
        prepared = flow(place)
        world.proxy.request = world.proxy.answer = None
        world.proxy.seen.clear()
        ended = place.run(prepared.command(), broken=False, traced=True)
        wrong = [*([] if ended.code == 0 else [ended.told]), *prepared.after(ended)]
        assert not wrong, (flow.name, wrong)
    finally:
        place.close()
    seen: Counter[str] = Counter()
    found = []
    for line in list(world.proxy.seen):
        name = signature(*line.split(" ", 1))
        if seen[name] < (2 if "/operations/" in name or "OTHER" in name else 4):
            found.append((name, seen[name]))
        seen[name] += 1
    return found


def cases(traces: Iterable[tuple[type[Flow], list[tuple[str, int]]]]) -> list[Case]:
    """Return every case: each request broken in each way, once and for good."""
    return [
        Case(flow, request, number, kind, times)
        for flow, requests in traces
        for request, number in requests
        for kind in KINDS
        for times in (1, LASTING)
    ]


def run(world: World, case: Case, found: Found) -> None:
    """Run one case and note what was wrong."""
    place = world.place()
    try:
        prepared = case.flow(place)
        broken = Breaking(case.request, case.number, case.kind, case.times)
        command = prepared.command()
        world.proxy.request, world.proxy.answer = broken.request, broken.answer
        ended = place.run(command, broken=True)
        world.proxy.request = world.proxy.answer = None
        found.cases += 1
        found.struck += broken.struck > 0
        found.codes[ended.code] += 1
        found.slowest = max(found.slowest, ended.seconds)
        found.longest_silence = max(found.longest_silence, ended.silence)
        if case.doubles:
            found.wrong += [] if ended.code == 8 else [f"{case}: two jobs, and {ended.told}"]
            return
        wrong = [] if case.is_true_to_form and ended.code == 0 else prepared.after(ended)
        if ended.code in (70, -1):
            wrong.append(f"ended with {ended.told}")
        if ended.silence > SILENCE_SECONDS:
            wrong.append(f"was silent for {ended.silence:.1f} s")
        for _ in range(REPETITIONS):
            following = place.run(prepared.again(), broken=False)
            if following.code in (0, 70, -1):
                break
        if following.code != 0:
            wrong.append(f"the next run ends with {following.told}")
        else:
            wrong += prepared.finally_(following)
        told = ended.told.replace("\n", " | ") if ended.code != 70 else "above"
        found.wrong += [f"{case}: {line}  [first run: {told[:260]}]" for line in wrong]
    finally:
        place.close()
        shutil.rmtree(place.folder, ignore_errors=True)
