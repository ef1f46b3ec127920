"""Put tuned weights behind an endpoint, and take them down again.

A deployed model costs money by the hour until it is undeployed, whoever asks it. So a plan has a price before anything
starts, a failed deployment leaves nothing behind, and only what carries this tool's label is ever taken down.
"""

from __future__ import annotations

import re
import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from runner.catalog import UnknownModelError, find_model, load_catalog, machines
from runner.catalog.models import MachineChoice
from runner.errors import ConfigurationError, GoogleApiError, NotFoundError, RunnerError, WaitTimeoutError
from runner.gcp import endpoints, failures, operations, storage, tuning_jobs
from runner.gcp.endpoints import DeployedModel, Endpoint
from runner.gcp.session import Session

MANAGED_LABEL = "managed-by"
MANAGED_VALUE = "open-model-tuning-runner"
LABELS = {MANAGED_LABEL: MANAGED_VALUE}
CHECKPOINTS_FOLDER = "postprocess/node-0/checkpoints"
"""Where a job writes checkpoints below its output address (specification)."""
DEPLOY_TIMEOUT_SECONDS = 3600.0
"""Deployments take 15 to 30 minutes on the service."""
LOOKUP_SECONDS = 10.0
"""How long the endpoint of a lost answer is looked for."""
VLLM_IMAGE = "us-docker.pkg.dev/vertex-ai/vertex-vision-model-garden-dockers/pytorch-vllm-serve:20251205_0916_RC01"
"""Serving container of Google's Model Garden notebooks, for endpoints that exist already."""
_CUSTOM_NAME = re.compile(r"[^a-z0-9-]+")


@dataclass(frozen=True, slots=True, kw_only=True)
class DeploymentPlan:
    """What a deployment will do, and its price."""

    source: str
    """`gs://` folder of the weights."""
    display_name: str
    machine: MachineChoice | None
    """None lets the service choose; the price is then unknown."""
    usd_per_hour: float | None
    """List price of the machine in us-central1; None when it is not in the catalogue."""
    price_date: str
    endpoint: str | None = None
    """Existing endpoint to deploy to; None makes a new one."""
    labels: dict[str, str] = field(default_factory=dict)

    @property
    def usd_per_day(self) -> float | None:
        """Return 24 times the hourly price."""
        return None if self.usd_per_hour is None else 24 * self.usd_per_hour

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
            "usdPerDay": None if self.usd_per_day is None else round(self.usd_per_day, 2),
            "priceDate": self.price_date,
        }


def resolve_source(session: Session, job_or_uri: str, checkpoint: str = "final") -> str:
    """Return the `gs://` folder of the weights to deploy.

    Args:
        session: where.
        job_or_uri: id or full name of a job, or a folder, which is taken as it is.
        checkpoint: of a job: `final`, or a number.

    Raises:
        NotFoundError: no such job, or the folder has no weights.
        ConfigurationError: the job has no weights yet, or the address is malformed.
    """
    if job_or_uri.startswith("gs://"):
        uri = job_or_uri.rstrip("/")
        storage.parse_gs_uri(uri)
    else:
        job = tuning_jobs.get(session, job_or_uri)
        if checkpoint == "final" and not job.succeeded:
            message = f"tuning job {job.id} is {job.state}: it has no final weights"
            raise ConfigurationError(message, problems=[message], hint=f"`runner jobs wait {job.id}`")
        folder = checkpoint if checkpoint == "final" else f"checkpoint-{checkpoint.removeprefix('checkpoint-')}"
        uri = f"{job.output_uri.rstrip('/')}/{CHECKPOINTS_FOLDER}/{folder}"
    found = storage.list_objects(session, uri + "/")
    if not any(item.uri.removeprefix(uri + "/").endswith(".safetensors") for item in found):
        raise NotFoundError(
            f"no .safetensors weights are in {uri}",
            status="NOT_FOUND",
            http=404,
            method="storage.objects.list",
            resource=uri,
            hint="`runner checkpoints ls JOB` lists a job's weights",
        )
    return uri


def hourly_price(machine: MachineChoice | None) -> float | None:
    """Return US dollars per hour in us-central1, None for a machine that is not in the catalogue."""
    if machine is None:
        return None
    for known in machines():
        same = (known.machine_type, known.accelerator_type, known.accelerator_count)
        if same == (machine.machine_type, machine.accelerator_type, machine.accelerator_count):
            return known.usd_per_hour
    return None


def choose_machine(
    base_model: str,
    machine_type: str | None = None,
    accelerator_type: str | None = None,
    accelerator_count: int | None = None,
) -> MachineChoice | None:
    """Return the machine given, or the catalogue's for a base model; None when neither says.

    Args:
        base_model: id in the catalogue; "" or an unknown one has no machine of its own.
        machine_type: alone it is completed from the catalogue, where each type has one accelerator.
        accelerator_type: goes with the other two.
        accelerator_count: goes with the other two.

    Raises:
        ConfigurationError: an accelerator without a machine, or an unknown machine without its accelerator.
    """
    if machine_type is None:
        if accelerator_type is not None or accelerator_count is not None:
            message = "an accelerator needs --machine-type with it"
            raise ConfigurationError(message, problems=[message])
        try:
            return find_model(base_model).serving if base_model else None
        except UnknownModelError:
            return None
    known = next((item for item in machines() if item.machine_type == machine_type), None)
    if known is None and (accelerator_type is None or accelerator_count is None):
        message = f"machine type {machine_type!r} is not in the catalogue: give accelerator type and count with it"
        raise ConfigurationError(message, problems=[message])
    return MachineChoice(
        machine_type=machine_type,
        accelerator_type=accelerator_type or (known.accelerator_type if known else ""),
        accelerator_count=accelerator_count or (known.accelerator_count if known else 0),
    )


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
) -> DeploymentPlan:
    """Return what `deploy` would do. Changes nothing.

    Raises:
        NotFoundError, ConfigurationError: see `resolve_source` and `choose_machine`; or the endpoint does not exist,
            or an existing endpoint is to get a model without a known machine.
    """
    source = resolve_source(session, job_or_uri, checkpoint)
    base_model = ""
    name = display_name
    if not job_or_uri.startswith("gs://"):
        job = tuning_jobs.get(session, job_or_uri)
        base_model = job.base_model
        name = name or job.display_name or job.id
    machine = choose_machine(base_model, machine_type, accelerator_type, accelerator_count)
    existing = endpoints.get_endpoint(session, endpoint).name if endpoint else None
    if existing and machine is None:
        message = "an existing endpoint needs a machine: give --machine-type"
        raise ConfigurationError(message, problems=[message])
    return DeploymentPlan(
        source=source,
        display_name=(name or _name_of(source))[:128],
        machine=machine,
        usd_per_hour=hourly_price(machine),
        price_date=load_catalog().hourly_price_date,
        endpoint=existing,
        labels=dict(LABELS),
    )


def deploy(
    session: Session,
    plan: DeploymentPlan,
    *,
    wait: bool = True,
    timeout: float = DEPLOY_TIMEOUT_SECONDS,
    poll: float = operations.POLL_SECONDS,
    progress: Callable[[str], None] | None = None,
) -> Endpoint:
    """Deploy and return the endpoint.

    Args:
        session: where.
        plan: what.
        wait: wait until the model answers; else return once the service has accepted.
        timeout: seconds.
        poll: longest pause between two looks, in seconds.
        progress: called with a line for each step.

    Raises:
        GoogleApiError: refused or failed; a new endpoint is removed again.
        WaitTimeoutError: not ready yet; the deployment goes on and is billed once it is.
    """
    tell = progress or _silent
    if plan.endpoint is not None:
        return _deploy_to_existing(session, plan, plan.endpoint, wait, timeout, poll, tell)
    # Chosen here, so that the endpoint can be found although the answer is lost.
    endpoint_id = f"omt-{uuid.uuid4().hex[:16]}"
    name = endpoints.full_name(session, endpoint_id)
    tell(f"deploying {plan.source}")
    try:
        operation = endpoints.deploy_custom_model(
            session,
            plan.source,
            display_name=plan.display_name,
            machine=plan.machine,
            labels=plan.labels,
            endpoint_id=endpoint_id,
        )
    except RunnerError as error:
        if not failures.maybe_sent(error) or not _appears(session, name):
            raise
        return _labelled(session, _until_deployed(session, name, timeout, poll))
    if not wait:
        return Endpoint(name=name, id=endpoint_id, display_name=plan.display_name, labels=dict(plan.labels))
    try:
        answer = operations.wait(
            session, operation, timeout=timeout, poll=poll, progress=lambda waited: tell(f"waiting, {waited:.0f} s")
        )
    except GoogleApiError:
        _remove_remains(session, name)
        raise
    found = endpoints.get_endpoint(session, str(answer.get("endpoint") or name))
    return _labelled(session, found)


def undeploy(
    session: Session,
    endpoint: str | Endpoint,
    *,
    delete: bool = False,
    timeout: float = 900.0,
    progress: Callable[[str], None] | None = None,
) -> list[str]:
    """Take this tool's models off an endpoint, which ends their billing, and delete them.

    Args:
        session: where.
        endpoint: id, full name or endpoint.
        delete: delete the endpoint too, if this tool made it.
        timeout: seconds for each step.
        progress: called with a line for each step.

    Returns:
        The full names of what was removed.

    Raises:
        NotFoundError: no such endpoint.
        ConfigurationError: nothing on it was deployed by this tool, or `delete` and this tool did not make it.
    """
    tell = progress or _silent
    found = endpoint if isinstance(endpoint, Endpoint) else endpoints.get_endpoint(session, endpoint)
    own = [item for item in found.deployed_models if is_ours(session, found, item)]
    made_here = found.labels.get(MANAGED_LABEL) == MANAGED_VALUE or found.id.startswith("omt-")
    foreign = len(found.deployed_models) - len(own)
    if delete and (not made_here or foreign):
        reason = f"holds {foreign} models of others" if made_here else "was not made by this tool"
        message = f"endpoint {found.id} {reason} and is not deleted"
        raise ConfigurationError(message, problems=[message])
    if found.deployed_models and not own:
        message = f"nothing on endpoint {found.id} was deployed by this tool"
        raise ConfigurationError(message, problems=[message], hint="the console, or gcloud, can undeploy it")
    removed: list[str] = []
    for item in own:
        tell(f"undeploying {item.display_name or item.id}")
        now = endpoints.get_endpoint(session, found.name)
        operation = endpoints.undeploy_model(session, found.name, item.id, traffic=_traffic_without(now, item.id))
        operations.wait(session, operation, timeout=timeout)
        removed.append(f"{found.name}/deployedModels/{item.id}")
    if delete:
        tell(f"deleting endpoint {found.id}")
        operations.wait(session, endpoints.delete_endpoint(session, found.name), timeout=timeout)
        removed.append(found.name)
    for model in dict.fromkeys(item.model.split("@", 1)[0] for item in own if item.model):
        tell(f"deleting model {model.rsplit('/', 1)[-1]}")
        try:
            operations.wait(session, endpoints.delete_model(session, model), timeout=timeout)
        except NotFoundError:
            continue
        removed.append(model)
    return removed


def is_ours(session: Session, endpoint: Endpoint, deployed: DeployedModel) -> bool:
    """Tell whether this tool deployed a model: by the deployment's, the endpoint's or the model's label."""
    if MANAGED_VALUE in (deployed.labels.get(MANAGED_LABEL), endpoint.labels.get(MANAGED_LABEL)):
        return True
    if not deployed.model:
        return False
    try:
        document = endpoints.get_model(session, deployed.model)
    except NotFoundError:
        return False
    labels: Mapping[str, str] = document.get("labels") or {}
    return labels.get(MANAGED_LABEL) == MANAGED_VALUE


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


def _traffic_without(endpoint: Endpoint, deployed_model_id: str) -> dict[str, int]:
    """Return the traffic of the models that stay; what is freed goes to the busiest of them. {} if none stay."""
    staying = {item.id: endpoint.traffic.get(item.id, 0) for item in endpoint.deployed_models}
    staying.pop(deployed_model_id, None)
    if staying:
        busiest = max(staying, key=lambda key: staying[key])
        staying[busiest] += 100 - sum(staying.values())
    return staying


def _deploy_to_existing(
    session: Session,
    plan: DeploymentPlan,
    endpoint: str,
    wait: bool,
    timeout: float,
    poll: float,
    tell: Callable[[str], None],
) -> Endpoint:
    """Upload a Model, deploy it with all traffic, then take this tool's earlier models off the endpoint."""
    if plan.machine is None:
        raise ValueError("a plan for an existing endpoint has a machine")
    before = endpoints.get_endpoint(session, endpoint)
    tell("registering the model")
    container = container_spec(plan.source, plan.machine.accelerator_count)
    upload = endpoints.upload_model(
        session, display_name=plan.display_name, gcs_uri=plan.source, container=container, labels=plan.labels
    )
    model = str(operations.wait(session, upload, timeout=timeout, poll=poll).get("model", ""))
    tell(f"deploying to endpoint {before.id}")
    try:
        operation = endpoints.deploy_model(
            session, endpoint, model, plan.machine, display_name=plan.display_name, system_labels=plan.labels
        )
        if not wait:
            return endpoints.get_endpoint(session, endpoint)
        operations.wait(
            session, operation, timeout=timeout, poll=poll, progress=lambda waited: tell(f"waiting, {waited:.0f} s")
        )
    except GoogleApiError as error:
        if not failures.maybe_sent(error):
            operations.wait(session, endpoints.delete_model(session, model), timeout=timeout, poll=poll)
        raise
    for item in before.deployed_models:
        if is_ours(session, before, item):
            tell(f"undeploying the earlier {item.display_name or item.id}")
            operations.wait(session, endpoints.undeploy_model(session, endpoint, item.id), timeout=timeout, poll=poll)
    return endpoints.get_endpoint(session, endpoint)


def _labelled(session: Session, endpoint: Endpoint) -> Endpoint:
    """Label the endpoint that `:deploy` made and its models, which it cannot do itself."""
    for item in endpoint.deployed_models:
        if item.model:
            labels = endpoints.get_model(session, item.model).get("labels") or {}
            endpoints.set_model_labels(session, item.model.split("@", 1)[0], {**labels, **LABELS})
    return endpoints.set_labels(session, endpoint.name, {**endpoint.labels, **LABELS})


def _appears(session: Session, name: str) -> bool:
    deadline = time.monotonic() + LOOKUP_SECONDS
    while True:
        try:
            endpoints.get_endpoint(session, name)
        except RunnerError:
            if time.monotonic() > deadline:
                return False
            time.sleep(0.5)
        else:
            return True


def _until_deployed(session: Session, name: str, timeout: float, poll: float) -> Endpoint:
    """Wait for a model on an endpoint whose operation is not known."""
    deadline = time.monotonic() + timeout
    while True:
        found = endpoints.get_endpoint(session, name)
        if found.deployed_models:
            return found
        if time.monotonic() > deadline:
            raise WaitTimeoutError(f"endpoint {found.id} has no model after {timeout:.0f} s; the deployment may go on")
        time.sleep(poll)


def _remove_remains(session: Session, name: str) -> None:
    """Delete the endpoint that a failed deployment left; what cannot be deleted is left to the user to see."""
    try:
        found = endpoints.get_endpoint(session, name)
        if not found.deployed_models:
            operations.wait(session, endpoints.delete_endpoint(session, name), timeout=300)
    except RunnerError:
        return


def _name_of(source: str) -> str:
    parts = [part for part in source.removeprefix("gs://").split("/") if part]
    kept = [part for part in parts[1:] if part not in {*CHECKPOINTS_FOLDER.split("/"), "final"}]
    return _CUSTOM_NAME.sub("-", "-".join(kept[-2:] or parts[:1]).lower()).strip("-") or "tuned-model"


def _silent(line: str) -> None:
    """Say nothing."""
