"""A small part of the sweep over every fault of every request; `python -m benchmarks.fault_sweep` is all of it."""

from __future__ import annotations

import random

import pytest

from tests.breaking import sweep
from tests.breaking.flows import FLOWS
from tests.breaking.flows.flow import Flow
from tests.breaking.flows.jobs import Clone
from tests.breaking.flows.serving import Leaks, Undeploy
from tests.breaking.flows.transfers import Download
from tests.breaking.kinds import KINDS
from tests.breaking.world import World

SEED = 20
CASES = 3
"""Of each command line."""
MEDIA = "/download/storage/v1/b/{}/o/OBJECT?alt=media"
PLACE = "/v1beta1/projects/P/locations/us-central1"


@pytest.mark.parametrize(
    "flow",
    [pytest.param(flow, marks=[pytest.mark.training] * (flow is Download), id=flow.name) for flow in FLOWS],
)
def test_a_broken_request_breaks_nothing_else(flow: type[Flow], world: World) -> None:
    every = sweep.cases([(flow, sweep.traced(world, flow))])
    found = sweep.Found()
    for case in random.Random(f"{SEED} {flow.name}").sample(every, CASES):
        sweep.run(world, case, found)
    assert found.wrong == []
    assert found.struck == CASES, "every fault has met its request"


@pytest.mark.parametrize(
    ("flow", "request_", "number", "kind", "times"),
    [
        (Leaks, f"GET {PLACE}/endpoints/ID", 1, ("before", "404"), sweep.LASTING),
        (Leaks, f"GET {PLACE}/endpoints", 0, ("after", "date long ago"), sweep.LASTING),
        (Undeploy, f"DELETE {PLACE}/endpoints/ID", 0, ("before", "404"), sweep.LASTING),
        (Undeploy, f"DELETE {PLACE}/models/ID", 0, ("before", "404"), sweep.LASTING),
        (Clone, f"GET {MEDIA.format('datasets')}", 0, ("after", "endless"), 1),
        pytest.param(
            *(Download, f"GET {MEDIA.format('outputs')}", 1, ("after", "endless"), sweep.LASTING),
            marks=pytest.mark.training,
        ),
    ],
)
def test_what_the_whole_sweep_has_found(
    flow: type[Flow], request_: str, number: int, kind: tuple[str, str], times: int, world: World
) -> None:
    found = sweep.Found()
    (way,) = [one for one in KINDS if (one.when, one.name) == kind]
    sweep.run(world, sweep.Case(flow, request_, number, way, times), found)
    assert (found.wrong, found.struck) == ([], 1)


def test_there_is_every_kind_of_fault() -> None:
    names = {(kind.name, kind.when) for kind in KINDS}
    assert len(names) == len(KINDS) >= 70
    assert {kind.when for kind in KINDS} == {"before", "after"}
