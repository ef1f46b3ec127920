"""What the state holds is read again while the engine writes it."""

from __future__ import annotations

from typing import Any

import grpc  # type: ignore[import-untyped]
import pulumi
import pytest
from pulumi.runtime.mocks import MockCallArgs, MockResourceArgs, Mocks

from infra.event_loop import LoopedMonitor, evaluated
from infra.recorded import Recorded, read

URN = "urn:pulumi:dev::open-model-tuning::gcp:storage/bucket:Bucket::datasets"


class Refused(grpc.RpcError):  # type: ignore[misc]
    """An error of the engine, as it comes over gRPC."""

    def code(self) -> grpc.StatusCode:
        return grpc.StatusCode.UNKNOWN

    def details(self) -> str:
        return str(self)


class Engine(Mocks):
    """Fails as the engine does, then answers."""

    def __init__(self, *failures: str) -> None:
        self.failures = list(failures)

    def new_resource(self, args: MockResourceArgs) -> tuple[str, dict[str, Any]]:
        return args.name, {}

    def call(self, args: MockCallArgs) -> tuple[dict[Any, Any], list[tuple[str, str]]]:
        if self.failures:
            raise Refused(f"invocation of {args.token} returned an error: {self.failures.pop(0)}")
        return {"outputs": {URN: {"outputs": {"name": "acme-datasets"}}}}, []


def run(engine: Engine) -> Recorded:
    found: list[Recorded] = []

    def program() -> None:
        found.append(read())
        pulumi.export("read", True)

    evaluated(engine, LoopedMonitor(engine), program, {}, stack="dev", log="test")
    return found[0]


def test_a_state_that_is_being_written_is_read_again() -> None:
    found = run(Engine("failed to load checkpoint: EOF", "failed to load checkpoint: unexpected EOF"))
    assert [outputs["name"] for _, outputs in found.of_type("gcp:storage/bucket:Bucket")] == ["acme-datasets"]


def test_any_other_failure_is_one() -> None:
    engine = Engine("no such stack", "no such stack")
    with pytest.raises(Exception, match="no such stack"):
        run(engine)
    assert engine.failures == ["no such stack"], "it is asked once"
