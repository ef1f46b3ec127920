"""The plan and price of a deployment, before anything starts."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from runner.catalog import UnknownModelError, find_model, load_catalog, machines
from runner.catalog.models import MachineChoice
from runner.errors import ConfigurationError, GoogleApiError, NotFoundError, Problem, gathered, require_sound
from runner.gcp import endpoints, storage, tuning_jobs
from runner.gcp.endpoints import DeployedModel
from runner.gcp.prediction import resolve_endpoint
from runner.gcp.session import Session
from runner.jobs.outputs.ownership import FOLDER, require_own
from runner.prices import total
from runner.serving.labels import DEFAULT_IDLE_SECONDS, DEFAULT_LEASE_SECONDS, LABELS
from runner.serving.resources import Reach, Resources, machine_problems

VLLM_IMAGE = "us-docker.pkg.dev/vertex-ai/vertex-vision-model-garden-dockers/pytorch-vllm-serve:20251205_0916_RC01"
"""Serving container of Google's Model Garden notebooks, for existing endpoints."""
HOURS_PER_MONTH = 730.0
_CUSTOM_NAME = re.compile(r"[^a-z0-9-]+")


@dataclass(frozen=True, slots=True, kw_only=True)
class DeploymentPlan:
    """The actions of a deployment, and their price."""

    source: str
    """`gs://` folder of the weights."""
    display_name: str
    machine: MachineChoice | None
    """None lets the service choose; the price is then unknown."""
    usd_per_hour: float | None
    """List price in us-central1 of the maximum number of replicas; None if the machine is not in the catalog.

    Spot machines cost less; the catalog does not contain their prices.
    """
    price_date: str
    resources: Resources = field(default_factory=Resources)
    reach: Reach = field(default_factory=Reach)
    endpoint: str | None = None
    """Existing endpoint to deploy to; None creates a new one."""
    labels: dict[str, str] = field(default_factory=dict)
    lease_seconds: float | None = DEFAULT_LEASE_SECONDS
    """Maximum age in seconds; None for no limit."""
    idle_seconds: float | None = DEFAULT_IDLE_SECONDS
    """Maximum time without a request in seconds; None for no limit."""
    percent: int = 100
    """Share of the traffic on an existing endpoint; with less than 100, the existing models stay."""

    @property
    def usd_per_day(self) -> float | None:
        """Return 24 times the hourly price."""
        return None if self.usd_per_hour is None else 24 * self.usd_per_hour

    @property
    def least_usd_per_hour(self) -> float | None:
        """Return the price of the minimum number of replicas: 0 if it scales to zero."""
        least = 0 if self.resources.scale_to_zero is not None else self.resources.min_replicas
        return None if self.usd_per_hour is None else self.usd_per_hour * least / self.resources.max_replicas

    @property
    def usd_per_month(self) -> tuple[float, float] | None:
        """Return the minimum and maximum price for 730 hours."""
        if self.usd_per_hour is None or self.least_usd_per_hour is None:
            return None
        return HOURS_PER_MONTH * self.least_usd_per_hour, HOURS_PER_MONTH * self.usd_per_hour

    def to_json(self) -> dict[str, Any]:
        """Return the stable JSON form."""
        machine = self.machine
        return {
            "source": self.source,
            "displayName": self.display_name,
            "endpoint": self.endpoint,
            "machineType": machine.machine_type if machine else None,
            "acceleratorType": machine.accelerator_type if machine else None,
            "acceleratorCount": machine.accelerator_count if machine else None,
            "usdPerHour": self.usd_per_hour,
            "minReplicas": self.resources.body()["minReplicaCount"],
            "maxReplicas": self.resources.max_replicas,
            "spot": self.resources.spot,
            "reservation": self.resources.reservation,
            "access": self.reach.access,
            "leastUsdPerHour": self.least_usd_per_hour,
            "usdPerDay": None if self.usd_per_day is None else round(self.usd_per_day, 2),
            "usdPerMonth": None if self.usd_per_month is None else [round(usd, 2) for usd in self.usd_per_month],
            "priceDate": self.price_date,
            "leaseSeconds": self.lease_seconds,
            "idleSeconds": self.idle_seconds,
            "percent": self.percent,
        }


def resolve_source(session: Session, job_or_uri: str, checkpoint: str = "final") -> str:
    """Return the `gs://` folder of the weights to deploy.

    Args:
        session: the project and location.
        job_or_uri: ID or full name of a job, or a folder, which is used unchanged.
        checkpoint: the checkpoint of a job: `final`, or a number.

    Raises:
        NotFoundError: the job does not exist, or the folder has no weights.
        ConfigurationError: the job has no weights yet, or the address is invalid.
        OutputTakenError: another job has written to the job's folder.
    """
    if job_or_uri.startswith("gs://"):
        uri = job_or_uri.rstrip("/")
        storage.parse_gs_uri(uri)
    else:
        job = tuning_jobs.get(session, job_or_uri)
        if checkpoint == "final" and not job.succeeded:
            message = f"tuning job {job.id} is {job.state}: it has no final weights"
            raise ConfigurationError(message, hint=f"`runner jobs wait {job.id}`")
        require_own(session, job)
        folder = checkpoint if checkpoint == "final" else f"checkpoint-{checkpoint.removeprefix('checkpoint-')}"
        uri = f"{job.output_uri.rstrip('/')}/{FOLDER}/{folder}"
    found = storage.list_objects(session, uri + "/")
    if not any(item.uri.removeprefix(uri + "/").endswith(".safetensors") for item in found):
        raise NotFoundError(
            f"no .safetensors weights are in {uri}",
            method="storage.objects.list",
            resource=uri,
            hint="`runner checkpoints ls JOB` lists a job's weights",
        )
    return uri


def hourly_price(machine: MachineChoice | None) -> float | None:
    """Return US dollars per hour in us-central1; None for a machine that is not in the catalog."""
    if machine is None:
        return None
    for known in machines():
        same = (known.machine_type, known.accelerator_type, known.accelerator_count)
        if same == (machine.machine_type, machine.accelerator_type, machine.accelerator_count):
            return known.usd_per_hour
    return None


def hourly_total(deployed: Iterable[DeployedModel]) -> float | None:
    """Return US dollars per hour of all replicas of deployed models; None if the price of a machine is unknown."""
    prices = ((hourly_price(item.machine), max(1, item.replicas)) for item in deployed)
    return total(None if price is None else price * replicas for price, replicas in prices)


def choose_machine(
    base_model: str,
    machine_type: str | None = None,
    accelerator_type: str | None = None,
    accelerator_count: int | None = None,
) -> MachineChoice | None:
    """Return the given machine, or the catalog's machine for a base model; None if there is neither.

    Args:
        base_model: ID in the catalog; "" or an unknown ID has no machine.
        machine_type: if given alone, the catalog adds the accelerator, because each type has one.
        accelerator_type: requires the other two.
        accelerator_count: requires the other two.

    Raises:
        ConfigurationError: an accelerator without a machine, an unknown machine without an accelerator, or a known
            machine with a wrong accelerator.
    """
    if machine_type is None:
        if accelerator_type is not None or accelerator_count is not None:
            raise ConfigurationError(Problem("an accelerator needs a machine type with it", "machine_type"))
        try:
            return find_model(base_model).serving if base_model else None
        except UnknownModelError:
            return None
    known = next((item for item in machines() if item.machine_type == machine_type), None)
    if known is None and (accelerator_type is None or accelerator_count is None):
        message = f"machine type {machine_type!r} is not in the catalog: give accelerator type and count with it"
        raise ConfigurationError(Problem(message, "accelerator_type", "accelerator_count"))
    chosen = MachineChoice(
        machine_type=machine_type,
        accelerator_type=accelerator_type or (known.accelerator_type if known else ""),
        accelerator_count=accelerator_count or (known.accelerator_count if known else 0),
    )
    require_sound(machine_problems(chosen))
    return chosen


def plan_deployment(
    session: Session,
    job_or_uri: str,
    *,
    checkpoint: str = "final",
    machine_type: str | None = None,
    accelerator_type: str | None = None,
    accelerator_count: int | None = None,
    display_name: str = "",
    endpoint: str | None = None,
    lease_seconds: float | None = DEFAULT_LEASE_SECONDS,
    idle_seconds: float | None = DEFAULT_IDLE_SECONDS,
    percent: int = 100,
    resources: Resources | None = None,
    reach: Reach | None = None,
) -> DeploymentPlan:
    """Return the plan for `deploy`. Changes nothing.

    Args:
        session: the project and location.
        job_or_uri: see `resolve_source`.
        checkpoint: see `resolve_source`.
        machine_type: see `choose_machine`.
        accelerator_type: see `choose_machine`.
        accelerator_count: see `choose_machine`.
        display_name: display name of endpoint and model; "" uses the job's.
        endpoint: ID or name of an existing endpoint; None creates a new one.
        lease_seconds: maximum age; None for no limit.
        idle_seconds: maximum time without a request; None for no limit.
        percent: share of the traffic on an existing endpoint.
        resources: replicas, scaling, spot, reservation; None is one on-demand machine.
        reach: who can reach a new endpoint; None is the service's default.

    Raises:
        NotFoundError, ConfigurationError: see `resolve_source` and `choose_machine`; or the endpoint does not exist, a
        model for an existing endpoint has no known machine, or the arguments contradict each other.
    """
    resources, reach = resources or Resources(), reach or Reach()
    machines = (machine_type, accelerator_type, accelerator_count)
    require_sound(mistakes(job_or_uri, *machines, endpoint, percent, resources, reach))
    given = choose_machine("", *machines)
    source = resolve_source(session, job_or_uri, checkpoint)
    base_model = ""
    name = display_name
    if not job_or_uri.startswith("gs://"):
        job = tuning_jobs.get(session, job_or_uri)
        base_model = job.base_model
        name = name or job.display_name or job.id
    machine = given or choose_machine(base_model) or _recommended(session, source)
    existing = None if endpoint is None else resolve_endpoint(session, endpoint).name
    needing = "an existing endpoint" if existing else "spot" if resources.spot else ""
    needing = needing or ("a reservation" if resources.reservation else "")
    if needing and machine is None:
        raise ConfigurationError(Problem(f"{needing} needs a machine type", "machine_type"))
    require_sound(resources.problems(machine))
    price = hourly_price(machine)
    name = (name or _name_of(source))[:128]
    return DeploymentPlan(
        source=source,
        display_name=name,
        machine=machine,
        usd_per_hour=None if price is None else price * resources.max_replicas,
        resources=resources,
        reach=reach,
        price_date=load_catalog().hourly_price_date,
        endpoint=existing,
        labels=dict(LABELS),
        lease_seconds=lease_seconds,
        idle_seconds=idle_seconds,
        percent=percent,
    )


def mistakes(
    job_or_uri: str,
    machine_type: str | None,
    accelerator_type: str | None,
    accelerator_count: int | None,
    endpoint: str | None,
    percent: int,
    resources: Resources,
    reach: Reach,
) -> list[str]:
    """Return all errors in the arguments of `plan_deployment`, without requests to the service."""
    given, problems = None, list[str]()
    if job_or_uri.startswith("gs://"):
        with gathered(problems):
            storage.parse_gs_uri(job_or_uri.rstrip("/"))
    with gathered(problems):
        given = choose_machine("", machine_type, accelerator_type, accelerator_count)
    problems += [*resources.problems(given), *reach.problems(endpoint)]
    if not 0 <= percent <= 100:
        problems.append(Problem(f"share of the traffic: {percent} is not from 0 to 100 percent", "percent"))
    if percent != 100 and not endpoint:
        problems.append(Problem("a share of the traffic needs an existing endpoint", "percent", "endpoint"))
    return problems


def _recommended(session: Session, source: str) -> MachineChoice | None:
    """Return the machine that the service recommends for the weights; None if it recommends none."""
    try:
        return next(iter(endpoints.recommend_machines(session, source)), None)
    except GoogleApiError:
        return None


def container_spec(source: str, accelerators: int) -> dict[str, Any]:
    """Return the serving container of a Model resource, as Google's Model Garden notebooks configure vLLM."""
    return {
        "imageUri": VLLM_IMAGE,
        "args": [
            "python",
            "-m",
            "vllm.entrypoints.api_server",
            "--host=0.0.0.0",
            "--port=8080",
            f"--model={source}",
            f"--tensor-parallel-size={max(1, accelerators)}",
        ],
        "ports": [{"containerPort": 8080}],
        "predictRoute": "/generate",
        "healthRoute": "/ping",
    }


def _name_of(source: str) -> str:
    parts = [part for part in source.removeprefix("gs://").split("/") if part]
    kept = [part for part in parts[1:] if part not in {*FOLDER.split("/"), "final"}]
    return _CUSTOM_NAME.sub("-", "-".join(kept[-2:] or parts[:1]).lower()).strip("-") or "tuned-model"
