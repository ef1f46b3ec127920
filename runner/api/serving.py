"""Deploy tuned models, send them requests, compare them with their base, and undeploy them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Annotated, Any, Protocol, runtime_checkable

from runner.api.boundary import Called, Count, LocalPath, Seconds, fields_of, local_path, public
from runner.api.connection import current
from runner.api.requests import Instances, Messages, conversation_of, sampling_of
from runner.errors import require_sound
from runner.gcp import endpoints as resources
from runner.gcp.session import Session
from runner.jobs.naming import job_name
from runner.prices import Price, Terms
from runner.serving import deploying, deployment, listing, prediction
from runner.serving.batches.online import BatchProgress, run_batch
from runner.serving.deploying import ParityCheck
from runner.serving.labels import DEFAULT_IDLE_SECONDS, DEFAULT_LEASE_SECONDS
from runner.serving.plan import plan_deployment
from runner.serving.prediction import ChatAnswer, ChatChunk
from runner.serving.resources import Reach, Resources

fields_of("resources", Resources)


@runtime_checkable
class Named(Protocol):
    """A job, which is identified by its resource name."""

    @property
    def name(self) -> str:
        """Return the resource name."""


Weights = Annotated[Named, Called("a runner.Job")]


class Endpoint:
    """An endpoint with its deployed models, which are billed by the hour until they are undeployed."""

    def __init__(self, session: Session, resource: resources.Endpoint) -> None:
        self._session = session
        self.resource = resource

    def __repr__(self) -> str:
        return f"<runner.Endpoint {self.id} {self.display_name!r}>"

    @property
    def name(self) -> str:
        """Return the resource name: `projects/P/locations/L/endpoints/ID`."""
        return self.resource.name

    @property
    def id(self) -> str:
        """Return the last part of the name."""
        return self.resource.id

    @property
    def display_name(self) -> str:
        """Return its display name."""
        return self.resource.display_name

    @property
    def usd_per_hour(self) -> float | None:
        """Return the list price of all replicas; 0 if nothing is deployed, None if a price is unknown."""
        return listing.describe(self.resource).usd_per_hour

    def refresh(self) -> Endpoint:
        """Read the endpoint again and return it. Raises NotFoundError."""
        self.resource = resources.get_endpoint(self._session, self.name)
        return self

    @public
    def predict(
        self,
        instances: Instances,
        parameters: Mapping[str, Any] | None = None,
        *,
        images: Sequence[str] = (),
        **sampling: Any,
    ) -> list[Any]:
        """Return a prediction for each instance.

        Args:
            instances: prompts, whose predictions are texts, or instances in the service's format.
            parameters: parameters for all instances.
            images: images for every prompt: files, `gs://` or `https://` addresses.
            sampling: for prompts: `max_tokens`, `temperature`, `top_p`, `top_k`, `seed`.

        Raises:
            ConfigurationError: an image cannot be read.
            GoogleApiError, UnreachableError: the model refuses or cannot be reached.
        """
        given = [instances] if isinstance(instances, str) else list(instances)
        options = sampling_of(sampling)
        if wrong := [number for number, item in enumerate(given) if not isinstance(item, str | Mapping)]:
            problems = [f"instances[{number}] is neither text nor a mapping" for number in wrong]
            require_sound(problems)
        bodies = [
            prediction.instances_of([item], images=images, **options)[0] if isinstance(item, str) else item
            for item in given
        ]
        found = prediction.predict(self._session, self.resource, bodies, parameters)
        return [
            prediction.text_of(said) if isinstance(asked, str) else said
            for asked, said in zip(given, found, strict=True)
        ]

    async def predict_async(
        self,
        instances: Instances,
        parameters: Mapping[str, Any] | None = None,
        *,
        images: Sequence[str] = (),
        **sampling: Any,
    ) -> list[Any]:
        """Return the same as `predict`, without blocking the event loop."""
        return await asyncio.to_thread(self.predict, instances, parameters, images=images, **sampling)

    @public
    def chat(
        self, messages: Messages, *, system: str | None = None, images: Sequence[str] = (), **sampling: Any
    ) -> ChatAnswer:
        """Return the answer to a message or a conversation.

        Args:
            messages: a message of the user, or a conversation.
            system: system message, which comes first.
            images: images for a message that is a string.
            sampling: `max_tokens`, `temperature`, `top_p`, `stop`, `seed`, …

        Raises:
            ConfigurationError: an image cannot be read.
            GoogleApiError, UnreachableError: the model refuses or cannot be reached.
        """
        asked = conversation_of(messages, system, images)
        answer: ChatAnswer = prediction.chat(
            self._session, endpoint=self.resource, messages=asked, **sampling_of(sampling)
        )
        return answer

    @public
    def chat_stream(
        self, messages: Messages, *, system: str | None = None, images: Sequence[str] = (), **sampling: Any
    ) -> Iterator[ChatChunk]:
        """Yield the parts of the answer as they arrive. Arguments and errors are those of `chat`."""
        asked = conversation_of(messages, system, images)
        return prediction.chat(
            self._session, endpoint=self.resource, messages=asked, stream=True, **sampling_of(sampling)
        )

    async def chat_async(
        self, messages: Messages, *, system: str | None = None, images: Sequence[str] = (), **sampling: Any
    ) -> ChatAnswer:
        """Return the same as `chat`, without blocking the event loop."""
        return await asyncio.to_thread(self.chat, messages, system=system, images=images, **sampling)

    async def chat_stream_async(
        self, messages: Messages, *, system: str | None = None, images: Sequence[str] = (), **sampling: Any
    ) -> AsyncIterator[ChatChunk]:
        """Yield the same as `chat_stream`, without blocking the event loop."""
        pieces = iter(self.chat_stream(messages, system=system, images=images, **sampling))
        while (piece := await asyncio.to_thread(next, pieces, None)) is not None:
            yield piece

    @public
    def batch(
        self,
        source: LocalPath,
        output: LocalPath,
        *,
        concurrency: Count = 8,
        restart: bool = False,
        **sampling: Any,
    ) -> BatchProgress:
        """Send every line of a file and write the answers in the same order; call it again to resume an interrupted
        batch.

        Arguments and errors are those of `runner.serving.batches.online.run_batch`.
        """
        return run_batch(
            self._session,
            self.resource,
            local_path(source),
            local_path(output),
            concurrency=concurrency,
            sampling=sampling_of(sampling),
            restart=restart,
        )

    @public
    def undeploy(self, *, delete: bool = False, deployed_model: str | None = None) -> list[str]:
        """Undeploy this tool's models, which ends their billing; see `runner.undeploy`."""
        removed = undeploy(self, delete=delete, deployed_model=deployed_model, session=self._session)
        left = [
            model for model in self.resource.deployed_models if f"{self.name}/deployedModels/{model.id}" not in removed
        ]
        self.resource = replace(self.resource, deployed_models=tuple(left))
        return removed


@public
def deploy(
    source: Weights | str,
    *,
    max_cost_per_hour: float | None = None,
    accept_unknown_cost: bool = False,
    agree: Callable[[Price], bool] | None = None,
    max_hourly_cost: float | None = None,
    checkpoint: str = "final",
    machine_type: str | None = None,
    accelerator_type: str | None = None,
    accelerator_count: Count | None = None,
    display_name: str = "",
    endpoint: Endpoint | str | None = None,
    traffic_percentage: int = 100,
    lease_seconds: Seconds | None = DEFAULT_LEASE_SECONDS,
    idle_seconds: Seconds | None = DEFAULT_IDLE_SECONDS,
    resources: Resources | None = None,
    reach: Reach | None = None,
    check: LocalPath | None = None,
    check_base: str | None = None,
    timeout: Seconds = deployment.DEPLOY_TIMEOUT_SECONDS,
    session: Session | None = None,
) -> Endpoint:
    """Deploy weights at an approved hourly price, wait until they answer, and return the endpoint.

    If the deployment fails, the created resources are removed.

    Args:
        source: a job, its ID or full name, `latest`, or a `gs://` folder of weights.
        max_cost_per_hour: limit in US dollars for the maximum number of replicas; approves prices up to it.
        accept_unknown_cost: continue even if no price is published.
        agree: if there is no `max_cost_per_hour`, called with the price; returns whether to continue.
        max_hourly_cost: limit in US dollars per hour for all endpoints of the location together; None is the variable
            RUNNER_MAX_HOURLY_COST, if it is set.
        checkpoint: checkpoint of a job: `final`, or a number.
        machine_type: None is the model's machine.
        accelerator_type: accelerator type of a machine that is not in the catalog.
        accelerator_count: number of accelerators of such a machine.
        display_name: display name of endpoint and model; "" is the job's.
        endpoint: existing endpoint; None creates one.
        traffic_percentage: share of the traffic of an existing endpoint.
        lease_seconds: lease in seconds; None is no limit.
        idle_seconds: idle limit in seconds; None is no limit.
        resources: replicas, scaling, spot, reservation; None is one on-demand machine.
        reach: who can reach a new endpoint.
        check: training dataset, to verify the model on some examples before it gets traffic.
        check_base: Google-managed base model to compare with.
        timeout: seconds.
        session: connection; None is the default one.

    Raises:
        CostRefusedError: the price is unknown, too high, or not approved. Nothing was changed.
        ConfigurationError, NotFoundError: the weights do not exist, or the arguments contradict each other.
        GateFailedError: the check failed; the model is deployed without traffic.
        WaitTimeoutError: not ready yet; the deployment continues.
        GoogleApiError, UnreachableError: the service refuses, or cannot be reached.
    """
    connection = current(session)
    plan = plan_deployment(
        connection,
        job_name(connection, source) if isinstance(source, str) else source.name,
        checkpoint=checkpoint,
        machine_type=machine_type,
        accelerator_type=accelerator_type,
        accelerator_count=accelerator_count,
        display_name=display_name,
        endpoint=endpoint.name if isinstance(endpoint, Endpoint) else endpoint,
        lease_seconds=lease_seconds,
        idle_seconds=idle_seconds,
        percent=traffic_percentage,
        resources=resources,
        reach=reach,
    )
    found = deploying.deploy(
        connection,
        plan,
        terms=Terms(
            limit=max_cost_per_hour,
            accept_unknown=accept_unknown_cost,
            agree=agree,
            limit_name="max_cost_per_hour",
        ),
        max_hourly_cost=max_hourly_cost,
        check=None if check is None else ParityCheck(file=local_path(check), base=check_base),
        timeout=timeout,
    )
    return Endpoint(connection, found)


@public
def get_endpoint(name: Endpoint | str | None = None, *, session: Session | None = None) -> Endpoint:
    """Return an endpoint by ID, display name or full name; None is the environment's, or the only one with a model.

    Raises:
        NotFoundError: there is no endpoint with this name.
        ConfigurationError: several endpoints have this name, or the choice is ambiguous.
    """
    if isinstance(name, Endpoint):
        return name
    connection = current(session)
    return Endpoint(connection, prediction.resolve_endpoint(connection, name))


@public
def list_endpoints(*, only_ours: bool = True, session: Session | None = None) -> list[Endpoint]:
    """Return the endpoints of the location, billed ones first.

    Args:
        only_ours: omit endpoints that this tool neither created nor deployed to.
        session: connection; None is the default one.
    """
    connection = current(session)
    return [Endpoint(connection, item.endpoint) for item in listing.list_deployments(connection, only_ours=only_ours)]


@public
def undeploy(
    endpoint: Endpoint | str,
    *,
    delete: bool = False,
    deployed_model: str | None = None,
    session: Session | None = None,
) -> list[str]:
    """Undeploy this tool's models from an endpoint, which ends their billing; return the names of the removed
    resources.

    Args:
        endpoint: the endpoint, or its ID, display name or full name.
        delete: also delete the endpoint, if this tool created it.
        deployed_model: ID of the model to undeploy; None is all models of this tool.
        session: connection; None is the default one.

    Raises:
        NotFoundError: the endpoint does not exist.
        ConfigurationError: this tool deployed nothing to it.
    """
    connection = current(session)
    found = resources.get_endpoint(connection, endpoint.name) if isinstance(endpoint, Endpoint) else None
    target = found or prediction.resolve_endpoint(connection, str(endpoint))
    return deployment.undeploy(connection, target, delete=delete, only=deployed_model)


@public
def predict(
    instances: Instances,
    *,
    endpoint: Endpoint | str | None = None,
    session: Session | None = None,
    **options: Any,
) -> list[Any]:
    """Return a prediction for each instance, from the endpoint that `get_endpoint` finds; see `Endpoint.predict`."""
    return get_endpoint(endpoint, session=session).predict(instances, **options)


@public
def chat(
    messages: Messages,
    *,
    endpoint: Endpoint | str | None = None,
    model: str | None = None,
    system: str | None = None,
    session: Session | None = None,
    **sampling: Any,
) -> ChatAnswer:
    """Return the answer of the endpoint that `get_endpoint` finds, or of a model that Google manages.

    Args:
        messages: a message of the user, or a conversation.
        endpoint: see `get_endpoint`.
        model: instead, a Google-managed model: `meta/llama-3.3-70b-instruct-maas`.
        system: system message.
        session: connection; None is the default one.
        sampling: see `Endpoint.chat`.

    Raises:
        NotFoundError, ConfigurationError: see `get_endpoint`.
        GoogleApiError, UnreachableError: the model refuses or cannot be reached.
    """
    if model is not None:
        asked = conversation_of(messages, system, ())
        answer: ChatAnswer = prediction.chat(current(session), model=model, messages=asked, **sampling_of(sampling))
        return answer
    return get_endpoint(endpoint, session=session).chat(messages, system=system, **sampling)
