"""The steps of one deployment; each is written to the journal before the next one begins."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from contextlib import suppress

from runner.errors import RunnerError, WaitTimeoutError
from runner.gcp import deployed, endpoints, failures, operations
from runner.gcp.endpoints import DeployedModel, Endpoint
from runner.gcp.session import Session
from runner.serving import recovery
from runner.serving.journal import JournalEntry
from runner.serving.plan import DeploymentPlan, container_spec
from runner.serving.shares import with_share
from runner.waiting import looks

Check = Callable[[Endpoint, DeployedModel], None]
"""Checks a deployed model before it gets traffic; raises RunnerError to refuse the traffic."""


TELL_SECONDS = 60.0
"""Interval of messages during a wait."""


class Saga:
    """The steps of one deployment."""

    def __init__(
        self,
        session: Session,
        plan: DeploymentPlan,
        entry: JournalEntry,
        timeout: float,
        poll: float,
        tell: Callable[[str], None],
        *,
        lookup: float,
        undo_within: float,
    ) -> None:
        self.session = session
        self.plan = plan
        self.entry = entry
        self.record = entry.record
        self.timeout = timeout
        self.poll = poll
        self.tell = tell
        self.lookup = lookup
        """Seconds for which the endpoint is searched after a lost response."""
        self.undo_within = undo_within
        """Seconds that a failed deployment waits for its own removal."""
        self._stage = ""
        self._silent_until = 0.0

    def send(self) -> str:
        """Request the deployment and return its operation; "" if the response was lost and the endpoint exists."""
        operation = self._to_new_endpoint() if self.record.own_endpoint else self._to_existing_endpoint()
        self.entry.mark("accepted", operation)
        return operation

    def _to_new_endpoint(self) -> str:
        plan, record = self.plan, self.record
        self.tell(f"deploying {plan.source}")
        self.entry.mark("sent")
        try:
            return endpoints.deploy_custom_model(
                self.session,
                plan.source,
                display_name=plan.display_name,
                machine=plan.machine,
                labels=record.labels,
                endpoint_id=record.id,
                model_id=record.id,
                resources=plan.resources.body(),
                affinity=plan.resources.affinity(),
                endpoint_config=plan.reach.body(),
            )
        except RunnerError as error:
            if not failures.maybe_sent(error) or not self._appears():
                raise
            return ""

    def _to_existing_endpoint(self) -> str:
        """Upload a Model and deploy it without traffic."""
        plan, record = self.plan, self.record
        if plan.machine is None:
            raise ValueError("a plan for an existing endpoint has a machine")
        self.tell("registering the model")
        self.entry.mark("sent")
        upload = endpoints.upload_model(
            self.session,
            display_name=plan.display_name,
            gcs_uri=plan.source,
            container=container_spec(plan.source, plan.machine.accelerator_count),
            labels=record.labels,
            model_id=record.id,
        )
        operations.wait(self.session, upload, timeout=self.timeout, poll=self.poll)
        self.tell(f"deploying to endpoint {record.endpoint.rsplit('/', 1)[-1]}")
        return endpoints.deploy_model(
            self.session,
            record.endpoint,
            record.model,
            plan.machine,
            display_name=plan.display_name,
            deployed_model_id=record.deployed_model,
            system_labels=record.labels,
            traffic={},
            resources=plan.resources.body(),
            affinity=plan.resources.affinity(),
        )

    def wait(self, operation: str) -> None:
        """Wait until the model answers. Raises GoogleApiError, WaitTimeoutError."""
        if operation:
            operations.wait(
                self.session,
                operation,
                timeout=self.timeout,
                poll=self.poll,
                progress=self._report,
            )
            return
        what = f"the model on endpoint {self.record.id}"
        for _ in looks(0.2, self.poll, factor=1.5, within=self.timeout, what=what):
            if endpoints.get_endpoint(self.session, self.record.endpoint).deployed_models:
                return
        raise WaitTimeoutError(
            f"endpoint {self.record.id} has no model after {self.timeout:.0f} s; the deployment may continue"
        )

    def _report(self, waited: float, stage: str) -> None:
        """Report the start of a phase, and each minute in which nothing else is reported."""
        if stage != self._stage:
            self._stage = stage
            self.tell(f"{stage.lower().replace('_', ' ')}")
        elif waited >= self._silent_until:
            self.tell(f"still waiting after {waited / 60:.0f} min" if waited >= 60 else "waiting for the service")
        else:
            return
        self._silent_until = waited + TELL_SECONDS

    def undo(self, error: RunnerError) -> None:
        """Remove the created resources; those that cannot be removed now stay in the journal."""
        self.tell("removing what the failed deployment left")
        try:
            done = recovery.undo(
                self.session,
                self.record,
                timeout=self.undo_within,
                poll=min(self.poll, 2.0),
                # An operation that ended with an error has no further effects.
                unsent=operations.ended_badly(error) or not failures.maybe_sent(error),
            )
        except RunnerError:
            done = False
        if done:
            self.entry.close()
        else:
            self.tell("some of it could not be removed yet; run `runner leaks --clean` later")

    def finish(self, check: Check | None) -> Endpoint:
        """Label the model, check it, give it its traffic, and undeploy those that it replaces."""
        session, record = self.session, self.record
        try:
            endpoint = recovery.label(session, record)
            model = self._model(endpoint)
            if check is not None:
                self._look(check, endpoint, model)
            if not record.own_endpoint or check is not None:
                split = with_share(endpoint.traffic, model.id, self.plan.percent)
                endpoint = deployed.set_traffic(session, endpoint.name, split)
        except _KeptError as kept:
            raise kept.reason from kept.reason.__cause__
        except RunnerError as error:
            self.undo(error)
            raise
        # From here on, it is completed instead of undone if this process ends.
        try:
            self.entry.mark("deployed")
        except RunnerError as error:
            self.undo(error)  # like the next command, even if the replaced models did not exist any more
            raise
        recovery.retire(session, record, self.tell)
        self.entry.close()
        if not record.replaces:
            return endpoint
        staying = tuple(item for item in endpoint.deployed_models if item.id not in record.replaces)
        return dataclasses.replace(endpoint, deployed_models=staying, traffic={model.id: endpoint.traffic[model.id]})

    def _model(self, endpoint: Endpoint) -> DeployedModel:
        """Return the deployed model. Raises GoogleApiError if it is not on the endpoint."""
        record = self.record
        for item in endpoint.deployed_models:
            if record.own_endpoint or item.id == record.deployed_model:
                return item
        raise failures.data_loss(
            endpoint.name, "the deployment has ended, and its model is not there", method="endpoints.get"
        )

    def _look(self, check: Check, endpoint: Endpoint, model: DeployedModel) -> None:
        """Run a check while the model has no traffic.

        Raises _KeptError: the model stays without traffic for inspection.
        """
        if self.record.own_endpoint:
            deployed.set_traffic(self.session, endpoint.name, {})
        self.tell("checking the model before it gets traffic")
        try:
            check(endpoint, model)
        except RunnerError as error:
            self.entry.close()
            raise _KeptError(error) from error

    def _appears(self) -> bool:
        for _ in looks(0.5, 0.5, within=self.lookup):
            with suppress(RunnerError):
                endpoints.get_endpoint(self.session, self.record.endpoint)
                return True
        return False


class _KeptError(RunnerError):
    """A check refused a model, which stays deployed without traffic."""

    def __init__(self, reason: RunnerError) -> None:
        super().__init__(reason.message, hint=reason.hint)
        self.reason = reason
