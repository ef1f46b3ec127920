"""What applying manifests would do and cost. Reads a constant number of pages, and changes nothing."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from runner.datasets.reports.report import Report
from runner.environment import HOW_TO_SET
from runner.errors import DatasetError, RunnerError
from runner.gcp import fleet
from runner.gcp.session import Session
from runner.jobs import estimate
from runner.jobs.checkouts import Origin, origin_of
from runner.jobs.labels import FINGERPRINT_LABEL
from runner.jobs.manifests import decisions, identity, price_history
from runner.jobs.manifests import reading as manifests
from runner.jobs.manifests.data import DataReader, errors_of
from runner.jobs.manifests.decisions import PlannedJob, Removed
from runner.jobs.manifests.differences import data_delta
from runner.jobs.manifests.looking import View, look
from runner.jobs.manifests.price_history import Accuracy
from runner.jobs.manifests.reading import Loaded, ManifestJob
from runner.jobs.manifests.records import DataVersion, Price, Run, StateLedger
from runner.jobs.outputs.ownership import Wanted
from runner.jobs.preflight.findings import PreflightFinding
from runner.jobs.preflight.obstacles import Look, preflight_many
from runner.jobs.specification import TuningJobSpec
from runner.wording import counted

PLAN_VERSION = 1


@dataclass(slots=True, kw_only=True)
class Plan:
    """The actions of `apply` at this moment."""

    project: str
    location: str
    paths: list[str]
    prune: bool
    jobs: list[PlannedJob]
    removed: list[Removed]
    quota: fleet.Quota
    active: int
    """Number of used slots."""
    elsewhere: int = 0
    """Number of slots that jobs of other locations use."""
    queued: int
    findings: list[PreflightFinding] = field(default_factory=list)
    accuracies: list[Accuracy] = field(default_factory=list)
    running_usd_per_hour: float | None = None
    """Price of the deployed models; None if the price of a machine is unknown or was not requested."""
    deployed_models: int = 0

    @property
    def changes(self) -> bool:
        """Return whether applying would change anything."""
        return any(job.acts for job in self.jobs) or any(item.action == "cancel" for item in self.removed)

    @property
    def summary(self) -> dict[str, int]:
        """Return the number of jobs for each action."""
        counts: dict[str, int] = {}
        for action in [*(job.action for job in self.jobs), *(item.action for item in self.removed)]:
            counts[action] = counts.get(action, 0) + 1
        return counts

    @property
    def billable(self) -> list[PlannedJob]:
        """Return the jobs that cost money when the plan is applied."""
        return [job for job in self.jobs if job.bills]

    @property
    def cost(self) -> dict[str, float | int | None]:
        """Return the price of the jobs that would be created; unknown prices are counted, not estimated."""
        known = [job.price for job in self.billable if job.price.high is not None]
        return {
            "low": round(sum(price.low or 0.0 for price in known), 6),
            "expected": round(sum(price.expected or 0.0 for price in known), 6),
            "high": round(sum(price.high or 0.0 for price in known), 6),
            "withRepetitions": round(sum(job.worst or 0.0 for job in self.billable), 6),
            "unknown": len(self.billable) - len(known),
        }

    def decisions(self) -> list[dict[str, Any]]:
        """Return the values that are compared with a saved plan."""
        return [*(job.decision() for job in self.jobs), *(item.decision() for item in self.removed)]

    def to_json(self) -> dict[str, Any]:
        """Return the stable JSON form, which `--out` saves."""
        return {
            "version": PLAN_VERSION,
            "project": self.project,
            "location": self.location,
            "paths": self.paths,
            "prune": self.prune,
            "changes": self.changes,
            "summary": self.summary,
            "jobs": [job.to_json() for job in self.jobs],
            "removed": [item.to_json() for item in self.removed],
            "cost": self.cost,
            "quota": {
                "limit": self.quota.limit,
                "source": self.quota.source,
                "active": self.active,
                "elsewhere": self.elsewhere,
                "free": max(0, self.quota.limit - self.active),
                "queued": self.queued,
            },
            "serving": {"usdPerHour": self.running_usd_per_hour, "deployedModels": self.deployed_models},
            "preflight": [finding.to_json() for finding in self.findings],
            "estimateHistory": [item.to_json() for item in self.accuracies],
            "decisions": self.decisions(),
        }


def make_plan(
    session: Session,
    paths: list[Path],
    *,
    prune: bool = False,
    quota: int | None = None,
    preflight: bool = True,
    replace_output: bool = False,
    progress: Callable[[str], None] | None = None,
) -> Plan:
    """Return the plan for the manifests under `paths`.

    Args:
        session: the project and location.
        paths: files and folders.
        prune: cancel running jobs whose manifest was removed or has changed.
        quota: number of concurrent jobs, instead of the project's quota.
        replace_output: delete the results of other jobs from the output folders that the manifests name.
        preflight: check the regions and grants of the buckets of new jobs.
        progress: called with a line for each phase.

    Raises:
        ConfigurationError: manifests, catalog or environment have errors; all are listed.
        DatasetError: the data of a job has errors.
        GoogleApiError, UnreachableError: a service cannot be read.
    """
    tell = progress or (lambda line: None)
    loaded = manifests.load(paths)
    loaded.raise_for_problems(
        others=[*session.environment.missing("contract_bucket"), *manifests.check(loaded.jobs, session.environment)],
        hint=HOW_TO_SET if session.environment.missing("project", "contract_bucket") else "",
    )
    tell(f"{counted(len(loaded.jobs), 'job')} in {counted(loaded.files, 'file')}")
    ledger = StateLedger(session)
    reader = DataReader(session)
    with ThreadPoolExecutor(3) as pool:
        looking = pool.submit(look, session, ledger, everywhere=True)
        asking = pool.submit(fleet.tuning_quota, session)
        reading = pool.submit(reader.look_up, _sources(loaded))
        view, found_quota = looking.result(), asking.result()
        reading.result()
    tell(f"{counted(len(view.jobs), 'job')} in the project, {counted(len(view.entries), 'record')}")
    _raise_for_missing(loaded, reader)
    history = price_history.accuracies(entry.record for entry in view.entries.values())
    planned = _decide(session, loaded, view, reader, replace_output=replace_output)
    _price(planned, reader, history)
    return Plan(
        project=session.environment.project,
        location=session.environment.location,
        paths=[str(path) for path in paths],
        prune=prune,
        jobs=planned,
        removed=decisions.removed(view, planned, paths, prune=prune),
        quota=found_quota if quota is None else fleet.Quota(quota, "--quota"),
        active=view.active(),
        elsewhere=view.elsewhere,
        queued=sum(entry.record.run.phase == "queued" for entry in view.entries.values()),
        findings=_preflight(session, planned) if preflight else [],
        accuracies=_relevant(planned, history),
    )


def _sources(loaded: Loaded) -> list[Path | str]:
    return [source for job in loaded.jobs for source in (job.train, job.validation) if source is not None]


def _raise_for_missing(loaded: Loaded, reader: DataReader) -> None:
    problems = []
    for job in loaded.jobs:
        for name, source in (("train", job.train), ("validation", job.validation)):
            if source is not None and source in reader.problems:
                problems.append(job.problem(("spec", "data", name), reader.problems[source]))
    loaded.raise_for_problems(others=dict.fromkeys(problems))


def _decide(
    session: Session, loaded: Loaded, view: View, reader: DataReader, *, replace_output: bool
) -> list[PlannedJob]:
    identities: dict[str, str] = {}
    origins: dict[str, Origin] = {}
    planned = []
    for job in loaded.jobs:
        spec, data = placed(job, reader)
        after = f"{job.after}@{identities[job.after]}" if job.after else None
        inputs = identity.inputs_of(
            spec,
            train=data["train"].digest,
            validation=data["validation"].digest if "validation" in data else None,
            after=after,
            revision=job.revision,
        )
        identities[job.name] = identity.identity_of(session.environment, job.name, inputs)
        origin = origins.get(job.file) or origins.setdefault(job.file, origin_of(Path(job.file)))
        run = Run(
            identity=identities[job.name],
            phase="queued",
            repository=origin.repository,
            file=origin.path,
            inputs=inputs,
            fields={key: value for key, value in spec.given().items() if key not in ("labels", "display_name")},
            labels=spec.labels,
            data=data,
            priority=job.priority,
            after=after or "",
            retries=job.retry.attempts,
            retry_on=job.retry.on,
            replace_output=replace_output,
            deploy=job.deploy.model_dump(exclude_none=True) if job.deploy else None,
            evaluation=job.evaluation.model_dump() if job.evaluation else None,
        )
        planned.append(decisions.decide(job, run, view))
    return planned


def placed(job: ManifestJob, reader: DataReader) -> tuple[TuningJobSpec, dict[str, DataVersion]]:
    """Return the resolved specification with the addresses of its data, and the data's versions."""
    data = {"train": reader.versions[job.train]}
    if job.validation is not None:
        data["validation"] = reader.versions[job.validation]
    validation = data["validation"].uri if "validation" in data else None
    spec = dataclasses.replace(job.spec, training_dataset=data["train"].uri, validation_dataset=validation)
    return spec.resolved(), data


def _price(planned: Iterable[PlannedJob], reader: DataReader, history: dict[tuple[str, str], Accuracy]) -> None:
    """Check the data of jobs that may be created, and calculate their prices. Raises DatasetError."""
    lines: list[str] = []
    findings: list[dict[str, Any]] = []
    for job in planned:
        if not job.bills:
            if job.last is not None:
                job.price, job.data = job.last.price, data_delta(job.last, job.last.data)
            continue
        run, source = job.run, job.source
        model, mode = str(run.fields["base_model"]), run.fields["mode"]
        try:
            report = reader.report(source.train, source.validation, model, mode)
        except RunnerError as error:
            lines.append(source.problem(("spec", "data"), error.message))
            continue
        if report.errors:
            lines += [source.problem(("spec", "data"), line) for line in errors_of(report)]
            findings += [finding.to_json() for finding in report.errors]
            continue
        data = {"train": reader.version(source.train, report.training, report.tokens_exact)}
        if source.validation is not None and report.validation is not None:
            data["validation"] = reader.version(source.validation, report.validation, report.tokens_exact)
        job.warnings += [f"{finding.place}: {finding.message}" for finding in report.warnings[:3]]
        if len(report.warnings) > 3:
            job.warnings.append(f"… and {len(report.warnings) - 3} more warnings: `runner data check`")
        job.data = data_delta(job.last, data)
        job.price = price_history.widened(_estimated(run, report), history.get((model, str(mode))))
        job.run = run.model_copy(update={"data": data, "price": job.price})
    if lines:
        shown = "\n".join(lines)
        raise DatasetError(
            f"{counted(len(lines), 'mistake')} in the data:\n{shown}",
            findings=findings,
            hint="`runner explain CODE` explains a finding",
        )


def _estimated(run: Run, report: Report) -> Price:
    found = estimate.estimate(TuningJobSpec(**run.fields), estimate.statistics_of(report))
    return Price.model_validate(found, from_attributes=True)


def _preflight(session: Session, planned: list[PlannedJob]) -> list[PreflightFinding]:
    return preflight_many(session, [_look(job) for job in planned if job.bills])


def _look(job: PlannedJob) -> Look:
    run, spec = job.run, TuningJobSpec(**job.run.fields)
    wanted = None
    if spec.output_uri:  # otherwise, the folder is named after the job
        fingerprint = identity.labels_of(job.name, run)[FINGERPRINT_LABEL]
        wanted = Wanted(
            output=spec.output_uri, fingerprint=fingerprint, lineage=run.identity, replace=run.replace_output
        )
    images = any(version.images for version in run.data.values())
    return Look(spec=spec, sound=[version.uri for version in run.data.values()], images=images, wanted=wanted)


def _relevant(planned: list[PlannedJob], history: dict[tuple[str, str], Accuracy]) -> list[Accuracy]:
    keys = {(str(job.run.fields["base_model"]), str(job.run.fields["mode"])) for job in planned}
    return [accuracy for key, accuracy in history.items() if key in keys]
