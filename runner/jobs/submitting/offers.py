"""The steps of every submission: check, price, get approval, look for obstacles, upload, claim, create, record.

    with offered(session, Request(spec=spec)) as offer:   # checks and prices; sends nothing
        print(offer.estimate.high, offer.obstacles())
        submission = carry_out(offer, terms=Terms(limit=20.0))

Commands, the quickstart and programs call these functions, and have no other checks.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from runner import local_files
from runner.catalog import find_model
from runner.datasets.checks import check_files
from runner.datasets.named import is_remote, source_of, tokenizer_for
from runner.datasets.reading.sources import STDIN, Source
from runner.datasets.records.recognising import is_foreign
from runner.datasets.reports.report import Report
from runner.datasets.rewriting.outcome import Outcome
from runner.datasets.rewriting.preparing import prepared
from runner.datasets.upload import object_named
from runner.environment import HOW_TO_SET, Environment
from runner.errors import require_sound
from runner.gcp import storage
from runner.gcp import uploads as uploading
from runner.gcp.session import Session
from runner.gcp.tuning_jobs import TuningJob
from runner.jobs.checkouts import commit_of
from runner.jobs.estimate import CostEstimate, estimate, statistics_of
from runner.jobs.outputs.ownership import Wanted
from runner.jobs.preflight.findings import PreflightFinding
from runner.jobs.preflight.obstacles import Look, preflight_many, require_none
from runner.jobs.specification import DATASETS, TuningJobSpec, check
from runner.jobs.submitting.creating import Once
from runner.jobs.submitting.prepared import prepare
from runner.jobs.submitting.submission import submit_once
from runner.prices import Price, Terms
from runner.wording import counted


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """A request for a job."""

    spec: TuningJobSpec
    """The specification; its datasets can be local files, which are uploaded."""
    convert: bool = False
    """Whether data in other formats is converted."""
    tokenizer: Path | None = None
    """Folder of the tokenizer; None uses the model's tokenizer in Hugging Face's cache."""
    force_new: bool = False
    """Whether to submit although a job with the same specification exists."""
    replace_output: bool = False
    """Whether to delete the results of another job from the output folder."""
    details: Mapping[str, Any] = field(default_factory=dict)
    """Additional contents of the run manifest."""


class Listener:
    """Called during a submission. You can override every method; these do nothing."""

    def warned(self, message: str) -> None:
        """Called with a warning."""

    def converted(self, source: Source, outcome: Outcome, first_line: str) -> None:
        """Called with the result of a conversion."""

    def uploading(self, name: str) -> AbstractContextManager[Callable[[int, int], None] | None]:
        """Return a context whose value is called with the number of uploaded bytes, and of all bytes."""
        return contextlib.nullcontext()


@dataclass(frozen=True, slots=True, kw_only=True)
class Upload:
    """A file that is uploaded before the job is created."""

    path: Path
    uri: str
    crc32c: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Offer:
    """A job with valid data and a known price. Nothing has been sent."""

    session: Session
    request: Request
    spec: TuningJobSpec
    """The resolved specification, with the future addresses of its files."""
    report: Report
    estimate: CostEstimate
    uploads: tuple[Upload, ...]
    tokenizer: Path | None

    @property
    def price(self) -> Price:
        """Return what is paid for: the model, the amount of data, and the number of epochs."""
        amounts = [counted(self.report.files[0].kept, "example")] if self.report.files else []
        amounts += [counted(self.spec.epochs, "epoch")] if self.spec.epochs else []
        what = f"tuning {self.spec.base_model}" + (f" ({', '.join(amounts)})" if amounts else "")
        return Price(what=what, usd=self.estimate.high, expected=self.estimate.expected)

    def obstacles(self) -> list[PreflightFinding]:
        """Return what will or may make the job fail. Changes nothing."""
        images = any(file.images for file in self.report.files)
        sound = {item.uri for item in self.uploads}
        look = Look(spec=self.spec, sound=sound, images=images, wanted=self._wanted())
        return preflight_many(self.session, [look])

    def _wanted(self) -> Wanted | None:
        """Return the claim on the folder that the specification names; other folders are named after the job."""
        if self.spec.output_uri is None:
            return None
        output, fingerprint = self.spec.output_uri.rstrip("/"), ""
        datasets = (self.spec.training_dataset, self.spec.validation_dataset)
        # A file that is not in the bucket yet makes a new job, so nothing in the folder can belong to it.
        if not self.request.force_new and all(uri is None or storage.exists(self.session, uri) for uri in datasets):
            fingerprint = prepare(self.session, self.spec).fingerprint
        return Wanted(output=output, fingerprint=fingerprint, replace=self.request.replace_output)


@contextlib.contextmanager
def offered(session: Session, request: Request, listener: Listener | None = None) -> Iterator[Offer]:
    """Check a request and its data, and yield it with its price. Converted copies exist until the end.

    Raises:
        ConfigurationError: the specification is incorrect, or a file does not exist; all errors are listed.
        DatasetError: the data has errors.
        NotFoundError: an object does not exist.
    """
    heard = listener or Listener()
    environment = session.environment
    unset = [] if all(map(is_remote, _datasets(request.spec))) else environment.missing("datasets_bucket")
    problems = [*unset, *mistakes(request.spec, environment)]
    require_sound(problems, hint=HOW_TO_SET if unset else None)
    with ExitStack() as stack:
        given = (request.spec.training_dataset, request.spec.validation_dataset)
        training, validation = (_readied(session, item, request, heard, stack) for item in given)
        uploads = tuple(_upload(session, item) for item in (training, validation) if isinstance(item, Path))
        places = {item.path: item.uri for item in uploads}

        def address(source: Path | str | None) -> str | None:
            return places[source] if isinstance(source, Path) else source

        placed = dataclasses.replace(
            request.spec, training_dataset=address(training) or "", validation_dataset=address(validation)
        )
        check(placed, session.environment)
        spec = placed.resolved()
        model = find_model(spec.base_model)
        tokenizer = tokenizer_for(model, request.tokenizer)
        first = source_of(session, training or "")
        second = None if validation is None else source_of(session, validation)
        report = check_files(first, second, model=model, mode=spec.mode, tokenizer=tokenizer, as_stored=True)
        report.raise_for_errors()
        for finding in report.warnings[:5]:
            heard.warned(f"{finding.place}: {finding.message}")
        if len(report.warnings) > 5:
            heard.warned(f"… and {len(report.warnings) - 5} more: `runner data check`")
        yield Offer(
            session=session,
            request=request,
            spec=spec,
            report=report,
            estimate=estimate(spec, statistics_of(report)),
            uploads=uploads,
            tokenizer=tokenizer,
        )


def mistakes(spec: TuningJobSpec, environment: Environment, *, unread: Collection[str] = ()) -> list[str]:
    """Return all errors in a specification, before its data is read.

    Args:
        spec: its datasets may be local files.
        environment: the environment of the job.
        unread: fields whose errors are left out.
    """
    here = {item: f"gs://file/{number}" for number, item in enumerate(_datasets(spec)) if not is_remote(item)}
    problems = [missing for item in _files(spec) if (missing := local_files.missing(Path(item)))]
    placed = {name: here.get(item or "", item) for name in DATASETS for item in [getattr(spec, name)]}
    found = dataclasses.replace(spec, **placed).validate(environment)
    return problems + [str(problem) for problem in found if problem.field not in unread]


def _datasets(spec: TuningJobSpec) -> list[str]:
    return [item for item in (spec.training_dataset, spec.validation_dataset) if item]


def _files(spec: TuningJobSpec) -> list[str]:
    return list(dict.fromkeys(item for item in _datasets(spec) if not is_remote(item) and item != str(STDIN)))


def carry_out(offer: Offer, *, terms: Terms, listener: Listener | None = None) -> Once[TuningJob]:
    """Get approval for the price, look for obstacles, upload, and submit once.

    Args:
        offer: an offer from `offered`, whose context is still open.
        terms: determines the approval.
        listener: called during the submission.

    Raises:
        CostRefusedError: the price was not approved; nothing was sent.
        ConfigurationError: something would make the job fail; nothing was sent.
        RunnerError: see `submit_once`.
    """
    heard = listener or Listener()
    terms.require(offer.price)
    findings = offer.obstacles()
    for finding in findings:
        if finding.severity == "warning":
            heard.warned(str(finding))
    require_none(findings)
    for item in offer.uploads:
        with heard.uploading(item.path.name) as progress:
            uploading.upload_file(offer.session, item.path, item.uri, crc32c=item.crc32c, progress=progress)
    known = {
        "estimate": offer.estimate.to_json(),
        "data": [file.to_json() for file in offer.report.files],
        "template": template_of(offer.tokenizer) if offer.tokenizer else None,
        "git": commit_of(Path(), map(Path, _files(offer.request.spec))),
    }
    return submit_once(
        offer.session,
        offer.spec,
        force_new=offer.request.force_new,
        replace_output=offer.request.replace_output,
        details={**known, **offer.request.details},
    )


def template_of(tokenizer: Path) -> dict[str, str] | None:
    """Return the file name and SHA-256 of the chat template in a tokenizer's folder; None if there is none."""
    for name in ("chat_template.jinja", "tokenizer_config.json"):
        if (tokenizer / name).is_file():
            return {"file": name, "sha256": hashlib.sha256((tokenizer / name).read_bytes()).hexdigest()}
    return None


def _readied(
    session: Session, given: str | None, request: Request, listener: Listener, stack: ExitStack
) -> Path | str | None:
    """Return a plain file for data that the service cannot read; a readable address is returned unchanged."""
    if given is None or (is_remote(given) and not request.convert):
        return given
    source = source_of(session, given)
    if is_remote(given) and not is_foreign(source):
        return given
    return stack.enter_context(
        prepared(
            source,
            convert=request.convert,
            converted=lambda outcome, line: listener.converted(source, outcome, line),
        )
    )


def _upload(session: Session, path: Path) -> Upload:
    name, crc32c = object_named(path)
    return Upload(path=path, uri=session.environment.datasets_folder + name, crc32c=crc32c)
