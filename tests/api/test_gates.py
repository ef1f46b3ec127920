"""The gates of the command line are in the library: check, price, obstacles, exactly once."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import runner
from runner.api.connection import current
from runner.catalog import UnknownModelError
from runner.errors import ConfigurationError, NotFoundError, RunnerError
from runner.gcp import endpoints, operations, storage
from runner.prices import Price
from tests.api.conftest import MODEL
from tests.cli.conftest import run
from tests.cli.invocation import CommandLine
from tests.provisioning import Provisioned

__all__ = ["run"]


def _nothing_was_sent(project: Provisioned) -> None:
    assert runner.list_jobs() == []
    assert storage.list_objects(current(), f"gs://{project.datasets}/") == []


def test_nothing_is_sent_before_the_price_is_agreed_to(here: Provisioned) -> None:
    with pytest.raises(runner.CostRefusedError) as refusal:
        runner.tune("train.jsonl", base_model=MODEL)
    assert str(refusal.value.hint).startswith("approve it with max_cost=")
    with pytest.raises(runner.CostRefusedError, match="more than max_cost"):
        runner.tune("train.jsonl", base_model=MODEL, max_cost=0)
    asked: list[Price] = []

    def refuse(price: Price) -> bool:
        asked.append(price)
        return False

    with pytest.raises(runner.CostRefusedError):
        runner.tune("train.jsonl", base_model=MODEL, agree=refuse)
    assert asked[0].usd == runner.estimate("train.jsonl", base_model=MODEL).high
    _nothing_was_sent(here)


def test_every_mistake_is_listed_and_nothing_is_sent(here: Provisioned) -> None:
    with pytest.raises(ConfigurationError) as error:
        runner.tune("train.jsonl", base_model=MODEL, adapter_size=3, learning_rate=7, labels={"Team": "x"}, max_cost=9)
    assert len(error.value.problems) == 3
    _nothing_was_sent(here)


def test_a_dataset_with_errors_stops_a_job(here: Provisioned, work: Path) -> None:
    with (work / "train.jsonl").open("a") as file:
        file.write("not json\n")
    with pytest.raises(runner.DatasetError) as error:
        runner.tune("train.jsonl", base_model=MODEL, max_cost=9)
    assert error.value.findings[0]["line"] == 25
    assert len(runner.check("train.jsonl").errors) == 1
    _nothing_was_sent(here)


def test_obstacles_come_before_the_upload(here: Provisioned) -> None:
    with pytest.raises(ConfigurationError, match="custom-weights"):
        runner.tune(
            "train.jsonl", base_model=MODEL, custom_base_model=f"gs://{here.outputs}/custom-weights", max_cost=9
        )
    _nothing_was_sent(here)


def test_what_is_not_there(here: Provisioned) -> None:
    with pytest.raises(NotFoundError):
        runner.get_job()
    with pytest.raises(NotFoundError):
        runner.check(f"gs://{here.datasets}/nope.jsonl")
    with pytest.raises(ConfigurationError, match="nope"):
        runner.tune("nope.jsonl", base_model=MODEL, max_cost=9)
    with pytest.raises(UnknownModelError):
        runner.estimate("train.jsonl", base_model="meta/llama-0")
    with pytest.raises(NotFoundError):
        runner.deploy("123", max_cost_per_hour=9)


@pytest.mark.training
def test_the_same_job_is_the_same_job_from_either_side(here: Provisioned, run: CommandLine, work: Path) -> None:
    first = runner.tune("train.jsonl", base_model=MODEL, epochs=1, max_cost=1)
    again = runner.tune("train.jsonl", base_model=MODEL, epochs=1, max_cost=1)
    line = ["jobs", "submit", "--model", MODEL, "--train", "train.jsonl", "--epochs", "1", "--max-cost", "1"]
    third = run(*line, "--format", "json")
    assert third.code == 0, third.err
    assert (first.created, again.created, json.loads(third.out)["created"]) == (True, False, False)
    assert {first.name, again.name, json.loads(third.out)["name"]} == {first.name}
    first.cancel()


def test_asking_an_endpoint_without_a_model_names_the_command_that_deploys(here: Provisioned, run: CommandLine) -> None:
    session = current()
    made = session.http.post(f"/v1beta1/{session.environment.parent}/endpoints", json={"displayName": "empty"})
    name = operations.wait(session, made.raise_for_status().json()["name"])["name"]
    endpoint = runner.get_endpoint("empty")
    deploy = f"`runner endpoints deploy JOB --endpoint {endpoint.id}`"
    for ask in (lambda: endpoint.chat("hi"), lambda: endpoint.predict("hi"), lambda: list(endpoint.chat_stream("hi"))):
        with pytest.raises(RunnerError) as refusal:
            ask()
        assert str(refusal.value.hint) == f"deploy a model there: {deploy}"
    compared = run("eval", "held_out.jsonl", "--endpoint", "empty", "--json").error
    assert "--base-endpoint ID" in compared["hint"]

    operations.wait(session, endpoints.delete_endpoint(session, name))

    with pytest.raises(NotFoundError) as gone:
        endpoint.chat("hi")
    assert gone.value.hint == "`runner endpoints ls` lists them"
