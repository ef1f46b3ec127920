"""Two really deployed models behind one endpoint: shares, canaries, promotion, going back, and the parity check."""

from __future__ import annotations

import json
import os
import signal
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from math import exp, lgamma, log
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.catalog import find_model as find_base
from runner.emulator.engine.liveness import read_worker
from runner.emulator.server import EmulatorServer
from runner.errors import CanaryFailedError, ConfigurationError, GateFailedError
from runner.gcp import deployed, endpoints, operations
from runner.gcp.endpoints import Endpoint
from runner.gcp.session import Session
from runner.gcp.usage import ServingFigures, serving_figures
from runner.serving import traffic
from runner.serving.deployment import deploy, undeploy
from runner.serving.evaluation import Question
from runner.serving.parity import check_parity, parity_check
from runner.serving.plan import plan_deployment
from runner.serving.shares import with_share, without
from runner.serving.traffic import CanaryLimits, judge
from tests.cli.invocation import process
from tests.projects import MODEL, Tuned
from tests.serving.conftest import MACHINE
from tests.serving.test_leases import _variables

REQUESTS = 2000
"""About 200 a second on two cores."""
BASE = "meta/llama-3.1-8b-instruct-maas"


@given(
    st.dictionaries(st.sampled_from("abcde"), st.integers(0, 100), max_size=5),
    st.sampled_from("abcdef"),
    st.integers(0, 100),
)
def test_shares_always_add_up(traffic: dict[str, int], model: str, percent: int) -> None:
    split = with_share(traffic, model, percent)
    others = any(share for key, share in traffic.items() if key != model)
    assert sum(split.values()) == (100 if others or percent else 0)
    assert split.get(model, 0) == (percent if others or not percent else 100)
    assert all(0 <= share <= 100 for share in split.values())
    rest = without(split, ["a", "b", model], model)
    assert sum(rest.values()) == 100
    assert model not in rest or model in "ab"


def test_shares_of_known_splits() -> None:
    assert with_share({"a": 60, "b": 40}, "c", 10) == {"a": 54, "b": 36, "c": 10}
    assert with_share({"a": 90, "b": 10}, "b", 0) == {"a": 100, "b": 0}
    assert without({"a": 90, "b": 10}, ["a", "b"], "a") == {"b": 100}
    with pytest.raises(ValueError, match="between 0 and 100"):
        with_share({}, "a", 101)


def test_verdicts_on_a_canary() -> None:
    limits = CanaryLimits()
    calm = ServingFigures(requests=900, errors=9, seconds=1.0)
    for figures, state in (
        (ServingFigures(requests=19, errors=19, seconds=9.0), "waiting"),
        (ServingFigures(requests=100, errors=6, seconds=1.9), "well"),
        (ServingFigures(requests=100, errors=7, seconds=1.0), "badly"),
        (ServingFigures(requests=100, errors=0, seconds=2.1), "badly"),
        (ServingFigures(requests=100, errors=0, seconds=None), "well"),
    ):
        assert judge({"old": calm, "new": figures}, "new", limits).state == state
    assert judge({}, "new", limits).state == "waiting"
    alone = judge({"new": ServingFigures(requests=50, errors=0, seconds=9.0)}, "new", limits)
    assert alone.state == "well", "there is nobody to compare with"


@pytest.fixture(scope="module")
def two(tuned: Tuned) -> Iterator[Endpoint]:
    """An endpoint that others provisioned, with two models at 90 and 10 per cent."""
    with Session(tuned.environment) as opened:
        answer = opened.http.post(
            f"/v1beta1/{opened.environment.parent}/endpoints", json={"displayName": "production"}
        ).raise_for_status()
        name = answer.json()["response"]["name"]
        first = plan_deployment(opened, tuned.job.id, endpoint=name, machine_type=MACHINE, display_name="old")
        deploy(opened, first, poll=0.3)
        second = plan_deployment(
            opened, tuned.job.id, checkpoint="1", endpoint=name, machine_type=MACHINE, display_name="new", percent=10
        )
        yield deploy(opened, second, poll=0.3)
        now = endpoints.get_endpoint(opened, name)
        if now.deployed_models:
            undeploy(opened, now)
        operations.wait(opened, endpoints.delete_endpoint(opened, name), timeout=60)


def _ids(endpoint: Endpoint) -> tuple[str, str]:
    by_name = {item.display_name: item.id for item in endpoint.deployed_models}
    return by_name["old"], by_name["new"]


def _interval(number: int, share: float, tail: float) -> tuple[int, int]:
    """Return the counts that a binomial leaves with a probability of at most `tail` on each side."""
    chances = [
        exp(
            lgamma(number + 1) - lgamma(k + 1) - lgamma(number - k + 1) + k * log(share) + (number - k) * log(1 - share)
        )
        for k in range(number + 1)
    ]
    low = high = 0
    total = 0.0
    for count, chance in enumerate(chances):
        total += chance
        if total <= tail:
            low = count + 1
        if total <= 1 - tail:
            high = count + 1
    return low, high


@pytest.mark.training
def test_traffic_by_command(two: Endpoint, tuned: Tuned, tuned_session: Session, state: Path) -> None:
    old, new = _ids(two)
    variables = _variables(tuned, state)

    def run(*words: str) -> tuple[int, dict[str, object], str]:
        done = process("endpoints", *words, "--format", "json", stdin="", timeout=120, **variables)
        return done.code, done.document if done.out else {}, done.err

    assert run("traffic", two.id)[1]["traffic"] == {old: 90, new: 10}
    assert run("traffic", "production", "newest=25")[1]["traffic"] == {old: 75, new: 25}
    assert run("traffic", two.id, f"{old}=60", f"{new}=40%")[1]["traffic"] == {old: 60, new: 40}
    assert run("canary", two.id, "--percent", "10")[1]["traffic"] == {old: 90, new: 10}
    code, _, err = run("traffic", two.id, "10", "x=101", "new=1", "new=2")
    assert code == 2
    assert len(json.loads(err)["error"]["problems"]) == 3
    assert run("traffic", two.id, "nobody=10")[0] == 2
    assert run("traffic", two.id, f"{old}=60", f"{new}=60")[0] == 2
    assert run("promote", two.id)[0] == 2, "taking a model down wants a yes"
    assert run("promote", two.id, "--keep")[1]["traffic"] == {old: 0, new: 100}
    assert run("rollback", two.id)[1]["traffic"] == {old: 100, new: 0}
    traffic.set_shares(tuned_session, endpoints.get_endpoint(tuned_session, two.id), {old: 90, new: 10})


@pytest.mark.training
def test_a_slow_canary_loses_its_traffic_by_itself(two: Endpoint, tuned_session: Session) -> None:
    old, new = _ids(two)
    now = traffic.set_shares(tuned_session, endpoints.get_endpoint(tuned_session, two.id), {new: 50})
    canary = traffic.find_model(now, "newest")
    assert canary.id == new
    since = time.time() - 3600

    def ask(model: str, tokens: int) -> None:
        messages = [{"role": "user", "content": "What is 3?"}]
        deployed.ask_deployed_model(tuned_session, now, model, messages, max_tokens=tokens, ignore_eos=True)

    for _ in range(25):
        ask(old, 1)
        ask(new, 1)
    well = traffic.watch_canary(tuned_session, now, canary, CanaryLimits(latency_ratio=1000), duration=0, since=since)
    assert well.state == "well"
    assert (well.canary.requests >= 25, well.canary.errors) == (True, 0)
    assert well.canary.seconds is not None
    assert well.others.seconds is not None

    limits = CanaryLimits(latency_ratio=max(1.0, 1.3 * well.canary.seconds / well.others.seconds))
    for _ in range(25):
        ask(new, 200)  # enough to exceed what a busy machine adds to the short ones
    seen: list[str] = []
    with pytest.raises(CanaryFailedError, match="times as long"):
        traffic.watch_canary(
            tuned_session,
            now,
            canary,
            limits,
            duration=30,
            poll=0.2,
            since=since,
            report=lambda v: seen.append(v.state),
        )
    assert seen == ["badly"]
    assert endpoints.get_endpoint(tuned_session, two.id).traffic == {old: 100, new: 0}


def _wait_until_connected(socket: Path, number: int) -> None:
    """Return once a server's socket has so many connections, taken up by the server or not."""
    while True:
        lines = Path("/proc/net/unix").read_text("utf-8").splitlines()
        if sum(f"{socket.parent.name}/{socket.name}" in line for line in lines) > number:  # one of them listens
            return
        time.sleep(0.01)


@pytest.mark.training
def test_a_failing_canary_loses_its_traffic_by_itself(
    two: Endpoint, tuned_session: Session, emulator: EmulatorServer
) -> None:
    old, new = _ids(two)
    now = traffic.set_shares(tuned_session, endpoints.get_endpoint(tuned_session, two.id), {new: 50})
    since = time.time() - 3600
    url = f"/v1beta1/{now.name}/deployedModels/{new}/invoke/v1/chat/completions"
    body = {"messages": [{"role": "user", "content": "What is 3?"}], "max_tokens": 10}

    def ask(_: int) -> int:
        return tuned_session.http.post(url, json=body, timeout=600).status_code

    [directory] = [
        path.parent
        for path in emulator.emulator.deployments.glob("*/serving.json")
        if json.loads(path.read_text())["name"] == "new"
    ]
    worker = read_worker(directory)
    assert worker is not None
    # It answers nobody any more, so that all are waiting for it when it ends.
    os.kill(worker.pid, signal.SIGSTOP)
    with ThreadPoolExecutor(24) as pool:
        asked = [pool.submit(ask, number) for number in range(24)]
        _wait_until_connected(directory / "model.sock", 24)
        os.kill(worker.pid, signal.SIGKILL)
        answers = Counter(one.result() for one in asked)
    assert answers == {503: 24}, "all were being answered when the container ended"
    figures = serving_figures(tuned_session, now.id, since)
    verdict = judge(figures, new, CanaryLimits(latency_ratio=1000))
    assert verdict.state == "badly", verdict
    assert "of its answers are errors" in verdict.reason
    with pytest.raises(CanaryFailedError, match="of its answers are errors"):
        traffic.watch_canary(
            tuned_session,
            now,
            traffic.find_model(now, new),
            CanaryLimits(latency_ratio=1000),
            duration=0,
            since=since,
        )
    assert endpoints.get_endpoint(tuned_session, two.id).traffic == {old: 100, new: 0}
    while ask(0) == 503:  # the emulator has not seen the end of the process; after that, requests wait for the next one
        time.sleep(0.05)


@pytest.mark.training
def test_requests_land_as_the_split_says(two: Endpoint, tuned_session: Session) -> None:
    old, new = _ids(two)
    now = traffic.set_shares(tuned_session, endpoints.get_endpoint(tuned_session, two.id), {new: 10})
    assert now.traffic == two.traffic == {old: 90, new: 10}
    body = {"instances": [{"prompt": "What is 3?", "max_tokens": 1, "raw_response": True}]}

    def ask(_: int) -> str:
        answer = tuned_session.http.post(f"/v1beta1/{two.name}:predict", json=body, timeout=600)
        return str(answer.raise_for_status().json()["deployedModelId"])

    with ThreadPoolExecutor(8) as pool:
        landed = Counter(pool.map(ask, range(REQUESTS)))
    assert set(landed) == {old, new}
    low, high = _interval(REQUESTS, 0.1, 0.0005)
    assert low <= landed[new] <= high, landed


@pytest.mark.training
def test_parity_of_a_tuned_model_and_of_its_base(two: Endpoint, tuned: Tuned, tuned_session: Session) -> None:
    old, _ = _ids(two)
    model = traffic.find_model(two, old)
    questions = [
        Question(line=i, messages=({"role": "user", "content": f"What is {i}?"},), reference=f"It is {i}.")
        for i in range(6)
    ]
    source = tuned.job.final_checkpoint_uri
    findings = check_parity(tuned_session, two, model, questions, source=source, base_model=BASE)
    assert {item.check: item.state for item in findings} == dict.fromkeys(
        ("weights", "template", "answers", "adapter", "training", "stops"), "ok"
    ), findings
    wrong = check_parity(tuned_session, two, model, questions, source=source + "-other")
    assert {item.check: item.state for item in wrong} == {
        "weights": "failed",
        "template": "unknown",
        "answers": "ok",
        "adapter": "unknown",
        "training": "unknown",
        "stops": "unknown",
    }

    # A model that is deployed as tuned and is its base is found out, and gets no traffic.
    publisher = find_base(MODEL).id.partition("/")
    operation = tuned_session.http.post(
        f"/v1beta1/{tuned_session.environment.parent}:deploy",
        json={
            "publisherModelName": f"publishers/{publisher[0]}/models/{publisher[2]}",
            "endpointConfig": {"endpointDisplayName": "base"},
            "modelConfig": {"acceptEula": True},
        },
    ).raise_for_status()
    made = operations.wait(tuned_session, operation.json()["name"], timeout=120, poll=0.3)
    base = endpoints.get_endpoint(tuned_session, made["endpoint"])
    with pytest.raises(GateFailedError, match="word for word"):
        parity_check(tuned_session, questions, base_model=BASE)(base, base.deployed_models[0])
    operation_name = endpoints.undeploy_model(tuned_session, base.name, base.deployed_models[0].id)
    operations.wait(tuned_session, operation_name, timeout=60)
    operations.wait(tuned_session, endpoints.delete_endpoint(tuned_session, base.name), timeout=60)
    operations.wait(tuned_session, endpoints.delete_model(tuned_session, made["model"]), timeout=60)


@pytest.mark.training
def test_a_failed_check_leaves_the_traffic_as_it_was(two: Endpoint, tuned: Tuned, tuned_session: Session) -> None:
    before = endpoints.get_endpoint(tuned_session, two.id)
    questions = [Question(line=1, messages=({"role": "user", "content": "What is 3?"},), reference="It is 3.")]
    plan = plan_deployment(
        tuned_session, tuned.job.id, endpoint=two.id, machine_type=MACHINE, display_name="wrong", percent=50
    )
    with pytest.raises(GateFailedError, match="weights"):
        deploy(tuned_session, plan, poll=0.3, check=parity_check(tuned_session, questions, source="gs://other/weights"))
    after = endpoints.get_endpoint(tuned_session, two.id)
    wrong = next(item for item in after.deployed_models if item.display_name == "wrong")
    assert {key: share for key, share in after.traffic.items() if share} == {
        key: share for key, share in before.traffic.items() if share
    }
    assert not after.traffic.get(wrong.id)
    gone = traffic.rollback(tuned_session, after, wrong.id, remove=True)
    assert {item.id for item in gone.deployed_models} == {item.id for item in before.deployed_models}


@pytest.mark.training
def test_promotion_takes_the_others_down(two: Endpoint, tuned_session: Session) -> None:
    old, new = _ids(two)
    with pytest.raises(ConfigurationError, match="no model 'nobody'"):
        traffic.promote(tuned_session, two, "nobody", keep=False)
    now = traffic.promote(tuned_session, endpoints.get_endpoint(tuned_session, two.id), new, keep=False)
    assert [item.id for item in now.deployed_models] == [new]
    assert now.traffic == {new: 100}
    assert old not in {item.id for item in now.deployed_models}
    with pytest.raises(ConfigurationError, match="no other model"):
        traffic.rollback(tuned_session, now)
