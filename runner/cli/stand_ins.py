"""Name the small model that stands in for a large one, in every output with its results."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from runner.cli.options import Invocation
    from runner.gcp.endpoints import Endpoint
    from runner.gcp.session import Session
    from runner.gcp.tuning_jobs import TuningJob


def tell_of_job(invocation: Invocation, job: TuningJob, *, rates: bool = False) -> None:
    """Print on standard error what a job of the emulator really trains; `rates` if its learning rates are shown."""
    if not job.stand_in:
        return
    scaled = rates and job.rate_scale != 1
    more = f"; learning rates are the stand-in's, up to {job.rate_scale:g} times the job's" if scaled else ""
    invocation.output.note(f"stand-in: job {job.id} trains {job.stand_in}{more}")


def tell_of_answers(
    invocation: Invocation, session: Session, endpoint: Endpoint | str | None, model: str | None = None
) -> None:
    """Print on standard error what really answers in the emulator, for a managed model or an endpoint."""
    from runner.gcp.endpoints import Endpoint
    from runner.gcp.prediction import resolve_endpoint
    from runner.serving.stand_ins import of_endpoint

    if not session.environment.target.free:
        return
    if model:
        invocation.output.note(
            f"stand-in: the emulator answers for {model} with a small model, "
            "unless it was started with --model-directory for it"
        )
        return
    named = endpoint if isinstance(endpoint, Endpoint) else resolve_endpoint(session, endpoint)
    found = of_endpoint(session, named)
    if found is not None:
        invocation.output.note(f"stand-in: answers come from weights tuned from {found}, not from the base model")
