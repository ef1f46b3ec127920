"""The state of each manifest: one record per job, in the contract bucket, written with generation preconditions.

The state is in the cloud, so that any machine can continue after an interruption. Only a process that has read the
newest generation of a record can change it, so the record is also the lock of its job: before a create request is sent,
the record names its sender (`claimed`), and only this process sends it.
"""

from __future__ import annotations

import dataclasses
import datetime
import json
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    TypeAdapter,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic.alias_generators import to_camel

from runner.errors import ConfigurationError, GoogleApiError
from runner.gcp import downloads, records, storage, uploads
from runner.gcp.session import PARENT, Session
from runner.jobs.labels import is_job_name
from runner.jobs.manifests.schema import Deploy, Evaluation
from runner.jobs.specification import TuningJobSpec

VERSION = 1
PREFIX = "runner/state/"
"""Prefix of the objects `runner/state/LOCATION/NAME.json`."""
ASIDE = "runner/damaged/"
"""Prefix of damaged records that were moved away."""
HISTORY = 8
"""Number of earlier runs in a record."""

Phase = Literal["queued", "claimed", "submitted", "refused", "withdrawn"]

_SPEC = TypeAdapter(TuningJobSpec)
_FIELDS = frozenset(field.name for field in dataclasses.fields(TuningJobSpec))
_Count = Annotated[int, Field(ge=0)]
_Attempt = Annotated[int, Field(ge=1)]
_Usd = Annotated[float, Field(ge=0, allow_inf_nan=False)]
_Place = Annotated[str, Field(pattern=rf"^{PARENT}$")]
_Object = Annotated[str, Field(pattern=r"^gs://[^/]+/.+$")]
_Digest = Annotated[str, Field(pattern=r"^(sha256:[0-9a-f]{64}|crc32c:.+:[0-9]+)$")]


class _Stored(BaseModel):
    model_config = ConfigDict(alias_generator=to_camel, validate_by_name=True, validate_by_alias=True, frozen=True)


class Price(_Stored):
    """An estimate from the time when the job was approved."""

    low: _Usd | None = None
    expected: _Usd | None = None
    high: _Usd | None = None
    tokens: _Count = 0
    """Expected tokens of one epoch."""
    epochs: _Count = 1
    usd_per_million_tokens: _Usd | None = None
    price_date: str = ""


class DataVersion(_Stored):
    """One dataset file of a run."""

    uri: _Object
    digest: _Digest
    """`sha256:…` of a local file, `crc32c:…` with the size of an object."""
    rows: _Count = 0
    characters: _Count = 0
    tokens: _Count | None = None
    """Tokens counted with the model's tokenizer; None if they were not counted."""
    images: _Count = 0


class Outcome(_Stored):
    """The result of a run."""

    state: str
    """The API's name of the job's state."""
    code: int | None = None
    message: str = ""
    ended: str = ""
    billed_tokens: _Count | None = None
    """Tokens of one epoch; None if the service does not return them."""
    billed_usd: _Usd | None = None
    """Billed tokens times the price in the estimate."""
    counted_by_stand_in: bool = False
    """Whether a stand-in counted the tokens, so that the price history ignores them."""


class Deployment(_Stored):
    """The result of the deploy section."""

    phase: Literal["claimed", "deployed", "refused"]
    owner: str = ""
    endpoint: str = ""
    usd_per_hour: _Usd | None = None
    message: str = ""


class PastRun(_Stored):
    """The summary of an earlier run."""

    identity: str
    attempt: _Attempt = 1
    job: str = ""
    model: str = ""
    mode: str = ""
    state: str = ""
    expected_tokens: _Count = 0
    billed_tokens: _Count | None = None
    billed_usd: _Usd | None = None
    counted_by_stand_in: bool = False


class Run(_Stored):
    """One run of a manifest job, with at most one billable job for each attempt."""

    identity: Annotated[str, Field(min_length=1)]
    """Digest of name, location, specification and data: 52 characters of a-z and 2-7."""
    attempt: _Attempt = 1
    phase: Phase
    owner: str = ""
    """The owner of the claim."""
    job: str = ""
    """Full name of the tuning job, if it exists."""
    places: tuple[_Place, ...] = ()
    """Where this attempt was claimed, `projects/P/locations/L`, the newest last: its job can only be in one of them."""
    repository: str = ""
    """Repository of the manifest, `github.com/acme/models`; "" outside of Git or without a remote repository."""
    file: str = ""
    """Path of the manifest in its repository; absolute if there is no repository."""
    git: dict[str, Any] | None = None
    """Commit of the manifests, and whether the tree was `dirty`; None outside of Git."""
    inputs: dict[str, Any] = Field(default_factory=dict)
    """The inputs of the identity, to show differences between values."""
    fields: dict[str, Any] = Field(default_factory=dict)
    """The body of the create request, without labels."""
    labels: dict[str, str] = Field(default_factory=dict)
    """The labels in the manifest."""
    data: dict[str, DataVersion] = Field(default_factory=dict)
    price: Price = Field(default_factory=Price)
    queued: str = ""
    """Time of joining the queue; RFC 3339, UTC."""
    priority: int = 0
    after: str = ""
    """Job whose final weights this job needs."""
    retries: _Count = 0
    retry_on: Literal["platform", "any"] = "platform"
    deploy: dict[str, Any] | None = None
    evaluation: dict[str, Any] | None = None
    replace_output: bool = False
    """Whether results of another job are deleted from the output folder."""
    outcome: Outcome | None = None
    deployment: Deployment | None = None
    problem: str = ""
    """Why the job is not submitted."""

    @field_validator("fields")
    @classmethod
    def _sendable(cls, fields: dict[str, Any]) -> dict[str, Any]:
        unknown = sorted(set(fields) - _FIELDS)
        if unknown:
            raise ValueError(f"unknown key {unknown[0]!r}")
        _SPEC.validate_json(json.dumps(fields), strict=True)
        return fields

    @field_validator("deploy", "evaluation")
    @classmethod
    def _section(cls, given: dict[str, Any] | None, info: ValidationInfo) -> dict[str, Any] | None:
        if given is None:
            return None
        model = Deploy if info.field_name == "deploy" else Evaluation
        return model.model_validate(given, by_name=True, by_alias=False).model_dump()

    @field_validator("job")
    @classmethod
    def _named(cls, job: str) -> str:
        if job and not is_job_name(job):
            raise ValueError(f"{job[:80]!r} is not the name of a tuning job")
        return job

    @model_validator(mode="after")
    def _submitted(self) -> Run:
        if self.phase == "submitted" and not self.job:
            raise ValueError("it is submitted and names no job")
        return self

    @property
    def committed_usd(self) -> float:
        """Return the price of the run: the billed price, or the upper end of the estimate until it is known."""
        if self.phase not in ("claimed", "submitted"):
            return 0.0
        billed = self.outcome.billed_usd if self.outcome else None
        return billed if billed is not None else self.price.high or 0.0

    def past(self) -> PastRun:
        """Return the summary for the history."""
        outcome = self.outcome
        return PastRun(
            identity=self.identity,
            attempt=self.attempt,
            job=self.job,
            model=str(self.fields.get("base_model", "")),
            mode=str(self.fields.get("mode", "")),
            state=outcome.state if outcome else self.phase,
            expected_tokens=self.price.tokens,
            **(outcome.model_dump(include={"billed_tokens", "billed_usd", "counted_by_stand_in"}) if outcome else {}),
        )


class Record(_Stored):
    """The state of one manifest job."""

    version: Annotated[int, Field(ge=1)] = VERSION
    name: str
    run: Run
    history: tuple[PastRun, ...] = ()
    """Newest first."""
    spent_usd: _Usd = 0.0
    """Cost of all earlier runs, including those that are no longer in the history."""

    @property
    def committed_usd(self) -> float:
        """Return the cost of all runs; see `Run.committed_usd`."""
        return self.spent_usd + self.run.committed_usd

    def replaced(self, run: Run) -> Record:
        """Return the record with a new run; the current run moves to the history if it was ever submitted."""
        kept = (self.run.past(), *self.history) if self.run.job or self.run.outcome else self.history
        spent = self.committed_usd
        return self.model_copy(update={"run": run, "history": kept[:HISTORY], "spent_usd": spent})

    def changed(self, **values: Any) -> Record:
        """Return the record with changed values of its run."""
        return self.model_copy(update={"run": self.run.model_copy(update=values)})


@dataclass(frozen=True, slots=True)
class Entry:
    """A record that was read."""

    record: Record
    generation: int
    updated: datetime.datetime
    """Time of the last write, by the service's clock."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """All records at one time."""

    entries: dict[str, Entry]
    now: datetime.datetime
    """The time, by the service's clock."""


class StateLedger:
    """The records of one environment."""

    def __init__(self, session: Session) -> None:
        session.environment.require("contract_bucket")
        self._session = session
        self.bucket = session.environment.contract_bucket
        self.prefix = f"{PREFIX}{session.environment.location}/"

    def object_name(self, name: str) -> str:
        """Return the name of a record's object."""
        return f"{self.prefix}{name}.json"

    def damaged(self) -> list[tuple[str, int, str]]:
        """Return the records that cannot be read: name of the object, generation, error. Changes nothing."""
        found = []
        for item in storage.each_object(self._session, f"gs://{self.bucket}/{self.prefix}"):
            try:
                stored = records.record_of(self._session, item)
                self._entry(stored)
            except GoogleApiError as error:
                if error.status != "DATA_LOSS":
                    raise
                found.append((storage.parse_gs_uri(item.uri)[1], item.generation, error.message))
        return found

    def set_aside(self, name: str, generation: int) -> str:
        """Move a damaged record, in the version that was read, out of the folder of records; return the new address.

        Raises:
            NotFoundError, AlreadyExistsError: the record has changed since.
        """
        uri = f"gs://{self.bucket}/{name}"
        aside = f"gs://{self.bucket}/{ASIDE}{name.removeprefix(PREFIX)}.{generation}"
        content = downloads.read_bytes(self._session, uri)
        uploads.upload_bytes(self._session, content, aside, replace=True, content_type="application/octet-stream")
        uploads.delete(self._session, uri, generation)
        return aside

    def load(self) -> Snapshot:
        """Read all records, with one request per thousand.

        Raises:
            NotFoundError: the bucket does not exist.
            ConfigurationError: a newer version of this program wrote a record.
        """
        stored, now = records.list_records(self._session, self.bucket, self.prefix)
        entries = {}
        for item in stored:
            if not self._is_copy(item):
                entry = self._entry(item)
                entries[entry.record.name] = entry
        return Snapshot(entries, now)

    def read(self, name: str) -> Entry | None:
        """Read one record; None if it does not exist."""
        stored = records.read_record(self._session, self.bucket, self.object_name(name))
        return None if stored is None else self._entry(stored)

    def _is_copy(self, stored: records.StoredRecord) -> bool:
        """Return whether a record has another name than its object, as after a manual copy; it is then ignored."""
        name = stored.body.get("name")
        return isinstance(name, str) and self.object_name(name) != stored.name

    def _entry(self, stored: records.StoredRecord) -> Entry:
        entry = _entry(stored, self.bucket)
        if self._is_copy(stored):
            raise damaged(stored.name, self.bucket, f"it is the record of {entry.record.name!r}")
        return entry

    def write(self, record: Record, generation: int) -> Entry | None:
        """Write a record over the generation that was read (0: no object); None if another writer was faster."""
        body = record.model_dump(mode="json", by_alias=True, exclude_defaults=True, exclude_none=True)
        body = {**body, "version": VERSION}
        stored = records.write_record(
            self._session, self.bucket, self.object_name(record.name), body, generation=generation
        )
        return None if stored is None else Entry(record, stored.generation, stored.updated)


def _entry(stored: records.StoredRecord, bucket: str) -> Entry:
    version = stored.body.get("version")
    if isinstance(version, int) and version > VERSION:
        message = f"{stored.name} was written by a newer version of this program (record version {version})"
        raise ConfigurationError(message, hint="install the newer version; nothing was changed")
    try:
        # Parsed as JSON and strictly: no version of this program writes a number in quotes or a negative price.
        record = Record.model_validate_json(json.dumps(stored.body), strict=True)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(map(str, first["loc"]))
        raise damaged(stored.name, bucket, f"{where}: {first['msg']}") from error
    return Entry(record, stored.generation, stored.updated)


def damaged(name: str, bucket: str, problem: str) -> GoogleApiError:
    """Return the error for an object that does not contain a valid document of its kind."""
    return GoogleApiError(
        f"{name} is damaged: {problem}",
        status="DATA_LOSS",
        http=500,
        method="storage.objects.get",
        resource=name,
        hint="nothing was changed; `runner repair` sets it aside, and the next `runner apply` finds its job by its "
        f"labels; `gcloud storage ls --all-versions gs://{bucket}/{name}` lists older versions",
    )
