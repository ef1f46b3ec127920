"""A machine whose clock is off starts, keeps and ends deployments as any other, and is told."""

from __future__ import annotations

import json
import re

import pytest

from runner.gcp import endpoints
from runner.serving.labels import LEASE_LABEL
from tests.breaking.clocks import library, process_at
from tests.breaking.flows.flow import DATA
from tests.breaking.flows.serving import MACHINE, Leaks
from tests.breaking.world import Place
from tests.jobs.manifests.folder import MODEL, jobs_of

pytestmark = pytest.mark.skipif(not library(), reason="needs libfaketime: apt-get install faketime")
HOUR = 3600.0


@pytest.mark.parametrize("offset", ["+1d", "-1d"])
def test_only_what_has_ended_is_removed_by_a_machine_whose_clock_is_off(offset: str, place: Place) -> None:
    flow = Leaks(place)
    done = process_at(offset, flow.command(), place.variables(place.world.server.url))
    assert done.code == 0, done.err
    assert flow.truth() == flow.theirs, "what has a lease stays, what has none any more is gone"
    which = "ahead of" if offset == "+1d" else "behind"
    assert re.search(rf"this machine's clock is (1 d 0 h|23 h 59 min) {which} the service's", done.err), done.err


def test_a_lease_of_a_machine_whose_clock_is_off_ends_in_time(place: Place) -> None:
    flow = Leaks(place)
    command = ["endpoints", "deploy", flow.source, "--machine-type", MACHINE, "--lease", "8h", "--yes", "--json"]
    done = process_at("-1d", command, place.variables(place.world.server.url))
    assert done.code == 0, done.err
    made = endpoints.get_endpoint(place.direct, json.loads(done.out)["id"])
    left = float(made.labels[LEASE_LABEL]) - place.direct.now()
    # Times are told in whole seconds, so one that is told later may be up to a second earlier.
    assert 7.9 * HOUR < left <= 8 * HOUR + 1


@pytest.mark.parametrize(("first", "second"), [("", "-1d"), ("+1d", ""), ("-1d", "+2m"), ("+2m", "-1d")])
def test_a_clock_that_jumps_between_two_submissions_makes_no_second_job(first: str, second: str, place: Place) -> None:
    path = place.folder / "train.jsonl"
    path.write_bytes(DATA)
    command = ["jobs", "submit", "--model", MODEL, "--train", str(path), "--yes", "--json"]
    variables = place.variables(place.world.server.url)
    one = process_at(first, command, variables)
    other = process_at(second, command, {**variables, "RUNNER_STATE_DIR": str(place.folder / "other")})
    assert (one.code, other.code) == (0, 0), one.err + other.err
    assert len(jobs_of(place.direct)) == 1
