"""The model of a batch prediction job: from a tuning job, from its name, or from an endpoint."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass

from runner.catalog.models import MachineChoice
from runner.errors import ConfigurationError, NotFoundError
from runner.gcp import endpoints, tuning_jobs
from runner.gcp.prediction import resolve_endpoint
from runner.gcp.session import Session
from runner.serving.plan import choose_machine


@dataclass(frozen=True, slots=True, kw_only=True)
class Predictor:
    """The model that answers, and its machine."""

    model: str
    """Full name of the Model resource, with its version."""
    display_name: str
    base_model: str = ""
    machine: MachineChoice | None = None


def predictor(session: Session, given: str | None, machine_type: str | None = None) -> Predictor:
    """Return the model of a tuning job, of a resource name, or of an endpoint.

    Args:
        session: the project and location.
        given: ID or name of a tuning job, full name of a Model resource, or ID or name of an endpoint; None selects the
            only endpoint.
        machine_type: a machine type of the catalog; None selects that of the base model.

    Raises:
        NotFoundError: there is no resource with this name.
        ConfigurationError: the job has no model yet, or the machine type is unknown.
    """
    chosen = choose_machine("", machine_type)
    if given and "/models/" in given:
        document = endpoints.get_model(session, given)
        return Predictor(model=given, display_name=str(document.get("displayName") or given), machine=chosen)
    if given and (given.isdigit() or "/tuningJobs/" in given):
        with suppress(NotFoundError):
            job = tuning_jobs.get(session, given)
            if not job.tuned_model:
                message = f"tuning job {job.id} is {job.state}: it has no model"
                raise ConfigurationError(message, hint=f"`runner jobs wait {job.id}`")
            name = job.display_name or job.id
            machine = chosen or choose_machine(job.base_model)
            return Predictor(model=job.tuned_model, display_name=name, base_model=job.base_model, machine=machine)
    endpoint = resolve_endpoint(session, given)
    if not endpoint.deployed_models:
        raise ConfigurationError(f"endpoint {endpoint.id} serves no model", hint="name a tuning job or a model")
    served = endpoint.deployed_models[0]
    return Predictor(
        model=served.model,
        display_name=served.display_name or endpoint.display_name,
        base_model=base_of(session, served.model),
        machine=chosen or served.machine,
    )


def base_of(session: Session, model: str) -> str:
    """Return the base model of the tuning job that created a model; "" if no job of this location did."""
    plain = model.partition("@")[0]
    found = (job for job in tuning_jobs.list_jobs(session) if job.tuned_model.partition("@")[0] == plain)
    return next((job.base_model for job in found), "")
