"""Tuning jobs as objects."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runner.api import serving
from runner.api.boundary import Amount, Count, LocalPath, Seconds, local_path, public, taking
from runner.api.connection import current
from runner.api.serving import Endpoint
from runner.errors import EngineMissingError
from runner.gcp import tuning_jobs
from runner.gcp.session import Session
from runner.gcp.tuning_jobs import TuningJob
from runner.jobs.estimate import CostEstimate
from runner.jobs.following import watching
from runner.jobs.following.complaints import Complaint, complaints
from runner.jobs.following.explaining import Cause, explain
from runner.jobs.following.progress import Billed
from runner.jobs.following.results import Measurement, results_of
from runner.jobs.following.watching import JobUpdate
from runner.jobs.naming import LATEST, job_name
from runner.jobs.outputs import checkpoints as weights
from runner.jobs.outputs.checkpoints import Checkpoint
from runner.prices import Price, Terms

if TYPE_CHECKING:
    import pandas

    from runner.serving.batches.jobs import BatchOutcome

COLUMNS = ("step", "epoch", "loss", "eval_loss", "learning_rate", "tokens", "time")
"""Columns of `Job.log_history`: the names of Hugging Face's Trainer, then billed tokens so far and RFC 3339."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Diagnosis:
    """Why a job failed, waits or dropped examples."""

    cause: Cause | None
    """None if nothing is wrong."""
    summary: str
    evidence: tuple[str, ...]
    next_steps: tuple[str, ...]
    """Command lines, or other steps."""
    lines: tuple[Complaint, ...] = ()
    """Lines of the training file with problems that the job or the checks report."""
    billed: Billed | None = None

    def __str__(self) -> str:
        return "\n".join([self.summary, *self.evidence, *(f"next: {step}" for step in self.next_steps)])


class Job:
    """A tuning job, as the service reported it last: `refresh()`, `watch()` and `wait()` read it again."""

    created: bool
    """Whether the call that returned this object created the job."""
    estimate: CostEstimate | None
    """Its price; None for a job that was looked up."""

    def __init__(
        self, session: Session, resource: TuningJob, *, created: bool = False, estimate: CostEstimate | None = None
    ) -> None:
        self._session = session
        self.resource = resource
        self.created = created
        self.estimate = estimate

    def __repr__(self) -> str:
        return f"<runner.Job {self.id} {self.state} {self.resource.base_model}>"

    @property
    def name(self) -> str:
        """Return the resource name: `projects/P/locations/L/tuningJobs/ID`."""
        return self.resource.name

    @property
    def id(self) -> str:
        """Return the last part of the name."""
        return self.resource.id

    @property
    def state(self) -> str:
        """Return the state as the API names it: `JOB_STATE_RUNNING`."""
        return self.resource.state

    @property
    def has_ended(self) -> bool:
        """Return whether the job has ended, successfully or not."""
        return self.resource.ended

    @property
    def has_succeeded(self) -> bool:
        """Return whether the job has produced a tuned model."""
        return self.resource.succeeded

    def refresh(self) -> Job:
        """Read the job again and return it. Raises NotFoundError, GoogleApiError, UnreachableError."""
        self.resource = tuning_jobs.get(self._session, self.name)
        return self

    @public
    def watch(self, *, timeout: Seconds | None = None, stall_after: Seconds | None = None) -> Iterator[JobUpdate]:
        """Yield an update now and after each change, until the job has ended. Watching never changes the job.

        Args:
            timeout: seconds; None is no limit.
            stall_after: seconds without progress after which to stop watching a running job; None is no limit.

        Raises:
            WaitTimeoutError: the timeout has passed; the job continues.
            JobStalledError: no progress for `stall_after` seconds; the job continues.
            GoogleApiError, UnreachableError: the service refused, or was unreachable for half an hour.
        """
        for update in watching.watch(self._session, self.name, timeout=timeout, stall_after=stall_after):
            self.resource = update.job
            yield update

    @public
    async def watch_async(
        self, *, timeout: Seconds | None = None, stall_after: Seconds | None = None
    ) -> AsyncIterator[JobUpdate]:
        """Yield the same as `watch`, without blocking the event loop."""
        async for update in watching.watch_async(self._session, self.name, timeout=timeout, stall_after=stall_after):
            self.resource = update.job
            yield update

    @public
    def wait(self, timeout: Seconds | None = None) -> Job:
        """Return the job once it has succeeded.

        Raises:
            JobFailedError: the job failed or was cancelled; `why()` explains it.
            WaitTimeoutError, GoogleApiError, UnreachableError: see `watch`.
        """
        for _ in self.watch(timeout=timeout):
            pass
        watching.check(self.resource)
        return self

    @public
    async def wait_async(self, timeout: Seconds | None = None) -> Job:
        """Return the same as `wait`, without blocking the event loop."""
        async for _ in self.watch_async(timeout=timeout):
            pass
        watching.check(self.resource)
        return self

    @public
    def why(self, train_dataset: LocalPath | None = None, *, read_data: bool = True) -> Diagnosis:
        """Return why the job failed, waits, or dropped examples: cause, evidence and next steps.

        Args:
            train_dataset: local copy of the training file; None reads the job's object.
            read_data: read the training file and list the lines with problems.

        Raises:
            ConfigurationError: the file does not exist.
            GoogleApiError, UnreachableError: the service refuses, or is unreachable.
        """
        found = explain(self._session, self.name)
        self.resource = found.job
        file = None if train_dataset is None else local_path(train_dataset)
        return Diagnosis(
            cause=found.cause,
            summary=found.summary,
            evidence=tuple(found.evidence),
            next_steps=tuple(found.next_steps),
            lines=tuple(complaints(self._session, found, file=file)) if read_data else (),
            billed=found.billed,
        )

    def log_history(self) -> list[dict[str, Any]]:
        """Return the job's measurements: a row for each step and each evaluation, in order, with the keys `COLUMNS`.

        Raises:
            GoogleApiError, UnreachableError: the measurements cannot be read.
        """
        return [_row(item) for item in results_of(self._session, self.resource).measurements]

    def metrics(self) -> pandas.DataFrame:
        """Return `log_history()` as a data frame, indexed by step.

        Raises:
            EngineMissingError: pandas is not installed.
            GoogleApiError, UnreachableError: the measurements cannot be read.
        """
        try:
            import pandas
        except ImportError as error:
            raise EngineMissingError(
                "a data frame needs pandas, which is not installed",
                hint="`pip install pandas`; `log_history()` returns plain rows",
            ) from error
        return pandas.DataFrame(self.log_history(), columns=list(COLUMNS)).set_index("step")

    def cancel(self) -> Job:
        """Cancel the job and return it. Training so far is billed. A job that has ended does not change.

        Raises:
            GoogleApiError, UnreachableError: the service refuses, or cannot be reached.
        """
        if not self.refresh().has_ended:
            tuning_jobs.cancel(self._session, self.name)
        return self.refresh()

    def checkpoints(self) -> list[Checkpoint]:
        """Return the checkpoints in order, the final one last. Raises GoogleApiError, UnreachableError."""
        return weights.list_checkpoints(self._session, self.name)

    @public
    def download(self, directory: LocalPath, *, checkpoint: str = weights.FINAL, force: bool = False) -> list[Path]:
        """Download weights, verify every file, and return the paths. Existing files are not downloaded again.

        Args:
            directory: destination folder.
            checkpoint: `final`, or a number.
            force: overwrite files that differ.

        Raises:
            NotFoundError: the checkpoint does not exist.
            ConfigurationError, DiskError: the files cannot be written.
        """
        found = weights.find_checkpoint(self._session, self.name, checkpoint)
        return weights.download(self._session, found, local_path(directory), force=force)

    @taking(serving.deploy)
    def deploy(self, **options: Any) -> Endpoint:
        """Deploy the job's weights; see `runner.deploy`."""
        return serving.deploy(self, session=self._session, **options)

    @public
    def batch(
        self,
        source: LocalPath,
        output: LocalPath,
        *,
        max_cost: float | None = None,
        accept_unknown_cost: bool = False,
        agree: Callable[[Price], bool] | None = None,
        machine_type: str | None = None,
        replicas: Count = 1,
        restart: bool = False,
        timeout: Seconds | None = None,
        **sampling: Any,
    ) -> BatchOutcome:
        """Answer every line of a file with a batch prediction job, without an endpoint; call it again to resume.

        Args:
            source: questions; see `Endpoint.batch`.
            output: answers, in the order of the questions.
            max_cost: limit in US dollars; approves prices up to it.
            accept_unknown_cost: continue even if no price is published.
            agree: if there is no `max_cost`, called with the price; returns whether to continue.
            machine_type: machine type in the catalog; None is the base model's.
            replicas: number of machines.
            restart: create a new job even if one has succeeded.
            timeout: seconds to wait; None is no limit.
            sampling: `max_tokens`, `temperature`, … for lines without these keys.

        Raises:
            CostRefusedError: the price was not approved; nothing was sent.
            RunnerError: see `runner.serving.batches.jobs.run_job`.
        """
        from runner.serving.batches import jobs, predictors

        return jobs.run_job(
            self._session,
            predictors.predictor(self._session, self.name, machine_type),
            local_path(source),
            local_path(output),
            terms=Terms(limit=max_cost, accept_unknown=accept_unknown_cost, agree=agree),
            replicas=replicas,
            sampling=sampling,
            restart=restart,
            timeout=timeout,
        )


@public
def get_job(name: str = LATEST, *, session: Session | None = None) -> Job:
    """Return a job by id or full name, or the newest one. Raises NotFoundError.

    >>> runner.get_job().state.startswith("JOB_STATE_")
    True
    """
    connection = current(session)
    return Job(connection, tuning_jobs.get(connection, job_name(connection, name)))


@public
def list_jobs(filter: str = "", *, limit: Amount | None = None, session: Session | None = None) -> list[Job]:
    """Return the jobs of the location, the newest first.

    Args:
        filter: in the API's language: `state="JOB_STATE_RUNNING" AND labels.team="search"`.
        limit: how many at most; None is all.
        session: connection; None is the default one.

    >>> [job.created for job in runner.list_jobs(limit=1)]
    [False]
    """
    connection = current(session)
    return [Job(connection, item) for item in tuning_jobs.list_jobs(connection, filter, limit)]


def _row(item: Measurement) -> dict[str, Any]:
    evaluated = item.kind == "evaluation"
    return {
        "step": item.step,
        "epoch": item.epoch,
        "loss": None if evaluated else item.loss,
        "eval_loss": item.loss if evaluated else None,
        "learning_rate": item.learning_rate,
        "tokens": item.tokens,
        "time": item.time,
    }
