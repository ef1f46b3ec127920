"""What became of each manifest: one record a job, in the contract bucket, written with generation preconditions.

The state is in the cloud, so any machine goes on where another was cut off. A record is changed by whoever read its
newest generation and by nobody else, which makes it the lock of its job as well: before a create is sent, the record
says who sends it (`claimed`), and only that one does.
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
"""Prefix of damaged records that were set aside."""
HISTORY = 8
"""Earlier runs that a record keeps."""

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
    """An estimate, as it was when the job was agreed to."""

    low: _Usd | None = None
    expected: _Usd | None = None
    high: _Usd | None = None
    tokens: _Count = 0
    """Expected, of one epoch."""
    epochs: _Count = 1
    usd_per_million_tokens: _Usd | None = None
    price_date: str = ""


class DataVersion(_Stored):
    """One dataset file as it was used."""

    uri: _Object
    digest: _Digest
    """`sha256:…` of a local file, `crc32c:…` with the size of an object."""
    rows: _Count = 0
    characters: _Count = 0
    tokens: _Count | None = None
    """Counted with the model's tokenizer; None when they were not counted."""
    images: _Count = 0


class Outcome(_Stored):
    """How a run ended."""

    state: str
    """The API's name of the job's state."""
    code: int | None = None
    message: str = ""
    ended: str = ""
    billed_tokens: _Count | None = None
    """Tokens of one epoch; None if the service does not say."""
    billed_usd: _Usd | None = None
    """Billed tokens at the price of the estimate."""
    counted_by_stand_in: bool = False
    """Whether the tokens are a stand-in's, from which no estimate learns."""


class Deployment(_Stored):
    """What became of the deploy section."""

    phase: Literal["claimed", "deployed", "refused"]
    owner: str = ""
    endpoint: str = ""
    usd_per_hour: _Usd | None = None
    message: str = ""


class PastRun(_Stored):
    """What is remembered of an earlier run."""

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
    """One run of a manifest job: one billable job at most for each attempt."""

    identity: Annotated[str, Field(min_length=1)]
    """Digest of name, place, specification, and data: 52 characters of a-z and 2-7."""
    attempt: _Attempt = 1
    phase: Phase
    owner: str = ""
    """Who claimed it."""
    job: str = ""
    """Full name of the tuning job, once there is one."""
    places: tuple[_Place, ...] = ()
    """Where this attempt was claimed, `projects/P/locations/L`, the newest last: its job can be nowhere else."""
    repository: str = ""
    """Where the manifest is, `github.com/acme/models`; "" outside of Git or without a remote repository."""
    file: str = ""
    """Path of the manifest in its repository; absolute where there is none."""
    git: dict[str, Any] | None = None
    """Commit of the manifests, and whether the tree was `dirty`; None outside of git."""
    inputs: dict[str, Any] = Field(default_factory=dict)
    """What the identity is made of, for value-level differences."""
    fields: dict[str, Any] = Field(default_factory=dict)
    """What the create sends, labels apart."""
    labels: dict[str, str] = Field(default_factory=dict)
    """The manifest's own."""
    data: dict[str, DataVersion] = Field(default_factory=dict)
    price: Price = Field(default_factory=Price)
    queued: str = ""
    """When it joined the queue; RFC 3339, UTC."""
    priority: int = 0
    after: str = ""
    """Job whose final weights it needs."""
    retries: _Count = 0
    retry_on: Literal["platform", "any"] = "platform"
    deploy: dict[str, Any] | None = None
    evaluation: dict[str, Any] | None = None
    replace_output: bool = False
    """Results of another job are deleted from the output folder."""
    outcome: Outcome | None = None
    deployment: Deployment | None = None
    problem: str = ""
    """Why it is not submitted."""

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
        """Return what it costs: what was billed, or the high end of its price while that is not known."""
        if self.phase not in ("claimed", "submitted"):
            return 0.0
        billed = self.outcome.billed_usd if self.outcome else None
        return billed if billed is not None else self.price.high or 0.0

    def past(self) -> PastRun:
        """Return what the history keeps of it."""
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
    """All that is known of one manifest job."""

    version: Annotated[int, Field(ge=1)] = VERSION
    name: str
    run: Run
    history: tuple[PastRun, ...] = ()
    """Newest first."""
    spent_usd: _Usd = 0.0
    """Cost of all earlier runs, including those that the history has forgotten."""

    @property
    def committed_usd(self) -> float:
        """Return what all runs cost; see `Run.committed_usd`."""
        return self.spent_usd + self.run.committed_usd

    def replaced(self, run: Run) -> Record:
        """Return the record with a new run, the present one moved into the history if it was ever submitted."""
        kept = (self.run.past(), *self.history) if self.run.job or self.run.outcome else self.history
        spent = self.committed_usd
        return self.model_copy(update={"run": run, "history": kept[:HISTORY], "spent_usd": spent})

    def changed(self, **values: Any) -> Record:
        """Return the record with other values of its run."""
        return self.model_copy(update={"run": self.run.model_copy(update=values)})


@dataclass(frozen=True, slots=True)
class Entry:
    """A record as it was read."""

    record: Record
    generation: int
    updated: datetime.datetime
    """By the service's clock."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """All records at one moment."""

    entries: dict[str, Entry]
    now: datetime.datetime
    """By the service's clock."""


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
        """Return the records that cannot be read: name of the object, generation, what is wrong. Changes nothing."""
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
        """Move a damaged record, in the version that was seen, to where nobody reads it; return where.

        Raises:
            NotFoundError, AlreadyExistsError: it has changed since.
        """
        uri = f"gs://{self.bucket}/{name}"
        aside = f"gs://{self.bucket}/{ASIDE}{name.removeprefix(PREFIX)}.{generation}"
        content = downloads.read_bytes(self._session, uri)
        uploads.upload_bytes(self._session, content, aside, replace=True, content_type="application/octet-stream")
        uploads.delete(self._session, uri, generation)
        return aside

    def load(self) -> Snapshot:
        """Read all records, in one request for every thousand.

        Raises:
            NotFoundError: there is no such bucket.
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
        """Read one record, None if there is none."""
        stored = records.read_record(self._session, self.bucket, self.object_name(name))
        return None if stored is None else self._entry(stored)

    def _is_copy(self, stored: records.StoredRecord) -> bool:
        """Tell whether it is the record of another name, copied by hand perhaps: it is nobody's."""
        name = stored.body.get("name")
        return isinstance(name, str) and self.object_name(name) != stored.name

    def _entry(self, stored: records.StoredRecord) -> Entry:
        entry = _entry(stored, self.bucket)
        if self._is_copy(stored):
            raise damaged(stored.name, self.bucket, f"it is the record of {entry.record.name!r}")
        return entry

    def write(self, record: Record, generation: int) -> Entry | None:
        """Write a record over the generation that was read (0: over nothing); None if another writer came first."""
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
        # As JSON and strictly: a number in quotes or a negative price was written by no version of this program.
        record = Record.model_validate_json(json.dumps(stored.body), strict=True)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(map(str, first["loc"]))
        raise damaged(stored.name, bucket, f"{where}: {first['msg']}") from error
    return Entry(record, stored.generation, stored.updated)


def damaged(name: str, bucket: str, problem: str) -> GoogleApiError:
    """Return the error of an object that this program does not read as what it should be."""
    return GoogleApiError(
        f"{name} is damaged: {problem}",
        status="DATA_LOSS",
        http=500,
        method="storage.objects.get",
        resource=name,
        hint="nothing was changed; `runner repair` sets it aside, and the next `runner apply` finds its job by its "
        f"labels; `gcloud storage ls --all-versions gs://{bucket}/{name}` lists older versions",
    )
