"""Name the small model that stands in for a large one, wherever its results are shown."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from runner.cli.options import Invocation
    from runner.gcp.endpoints import Endpoint
    from runner.gcp.session import Session
    from runner.gcp.tuning_jobs import TuningJob


def tell_of_job(invocation: Invocation, job: TuningJob) -> None:
    """Say, on standard error, what a job of the emulator really trains."""
    if job.stand_in:
        invocation.output.note(f"stand-in: job {job.id} trains {job.stand_in}")


def tell_of_endpoint(invocation: Invocation, session: Session, endpoint: Endpoint) -> None:
    """Say, on standard error, what answers behind an endpoint of the emulator."""
    from runner.serving.stand_ins import of_endpoint

    found = of_endpoint(session, endpoint)
    if found is not None:
        invocation.output.note(f"stand-in: answers come from weights tuned from {found}, not from the base model")


def tell_of_model(invocation: Invocation, session: Session, model: str) -> None:
    """Say, on standard error, that a managed model of the emulator is a small one."""
    if session.environment.target.free:
        invocation.output.note(
            f"stand-in: the emulator answers for {model} with a small model, "
            "unless it was started with --model-directory for it"
        )
