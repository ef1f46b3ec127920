"""Apply a plan: upload, queue, submit. After an interruption, the next run continues, and nothing is billed twice."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

from runner import local_files
from runner.errors import ConfigurationError, NotFoundError, StalePlanError
from runner.gcp import tuning_jobs
from runner.gcp.session import Session
from runner.jobs.checkouts import Checkout, checkout_of
from runner.jobs.manifests.claiming import Step
from runner.jobs.manifests.data import upload
from runner.jobs.manifests.decisions import PlannedJob, Removed
from runner.jobs.manifests.planning import PLAN_VERSION, Plan
from runner.jobs.manifests.queueing import advance
from runner.jobs.manifests.records import Entry, Record, StateLedger
from runner.json_text import parsed
from runner.prices import amount

MAX_PLAN_BYTES = 64 * 1024 * 1024


def read_plan(path: Path) -> dict[str, Any]:
    """Return a saved plan. Raises ConfigurationError if the file does not contain one."""
    problem = ""
    body: Any = None
    try:
        if path.stat().st_size > MAX_PLAN_BYTES:
            problem = "is too large"
        else:
            body = parsed(path.read_bytes())
    except OSError as error:
        raise local_files.unreadable(path, error) from error
    except ValueError as error:
        problem = f"is not JSON: {error}"
    if not problem and not _is_plan(body):
        problem = "is not a plan of `runner plan --out`"
    elif not problem and body.get("version") != PLAN_VERSION:
        problem = f"was made by another version of this program (plan version {body.get('version')!r})"
    if problem:
        raise ConfigurationError(f"{path} {problem}")
    found: dict[str, Any] = body
    return found


def _is_plan(body: Any) -> bool:
    if not isinstance(body, dict):
        return False
    decisions, paths = body.get("decisions"), body.get("paths")
    return (
        isinstance(decisions, list)
        and all(isinstance(item, dict) and isinstance(item.get("name"), str) for item in decisions)
        and isinstance(paths, list)
        and all(isinstance(path, str) and path for path in paths)
    )


def check_unmoved(saved: dict[str, Any], now: Plan) -> None:
    """Return normally if a saved plan equals the current plan. Raises StalePlanError with the differences."""
    changes = []
    if (saved.get("project"), saved.get("location")) != (now.project, now.location):
        changes.append(
            f"the plan is for {saved.get('project')!r} in {saved.get('location')!r}, "
            f"not {now.project!r} in {now.location!r}"
        )
    before = {str(item["name"]): item for item in saved["decisions"]}
    after = {str(item["name"]): item for item in now.decisions()}
    for name in dict.fromkeys([*before, *after]):
        one, other = before.get(name), after.get(name)
        if one == other:
            continue
        if one is None or other is None:
            changes.append(f"{name}: {'only in the manifests now' if one is None else 'no longer there'}")
            continue
        keys = [key for key in dict.fromkeys([*one, *other]) if one.get(key) != other.get(key)]
        changes.append(f"{name}: " + ", ".join(_moved(key, one.get(key), other.get(key)) for key in keys))
    if changes:
        shown = "\n".join(changes)
        raise StalePlanError(
            f"the plan no longer fits, and nothing was changed:\n{shown}",
            changes=changes,
            hint="run `runner plan` again",
        )


def _moved(key: str, before: Any, after: Any) -> str:
    """Describe the old and the new value of one part of a decision."""
    if key in _DIGESTS:
        return _DIGESTS[key]
    if key == "high":
        prices = [
            amount(usd) if isinstance(usd, int | float) and 0 <= usd <= _MOST_USD else "nothing"
            for usd in (before, after)
        ]
        return f"its price was up to {prices[0]}, is {prices[1]}"
    was, now = ("none" if value is None else value for value in (before, after))
    return f"{key} was {was}, is {now}"


_MOST_USD = 1e12
"""A saved plan is a file, which can contain anything."""
_DIGESTS = {"identity": "its values or its data changed", "generation": "its record changed"}


def apply_plan(
    session: Session, plan: Plan, *, fair_by: str = "", progress: Callable[[Step], None] | None = None
) -> list[Step]:
    """Upload and queue the jobs that a plan creates, cancel those that it cancels, and submit jobs to the free slots.

    The caller must have approval for the price. Jobs that other runners have queued are submitted too, in the common
    order.

    Raises:
        StalePlanError: a record changed after the plan was made; jobs that are already queued stay queued.
        ConfigurationError: a file changed after the plan was made.
        RunnerError: the service failed; applying again continues.
    """
    ledger, git = StateLedger(session), functools.cache(checkout_of)
    steps: list[Step] = []
    for job in plan.jobs:
        if job.bills:
            for source, key in ((job.source.train, "train"), (job.source.validation, "validation")):
                if isinstance(source, Path):
                    upload(session, source, job.run.data[key])
        if job.acts:
            _queue(ledger, job, _state(git(Path(job.source.file).parent), job), session.timestamp())
        if job.action == "adopt" and job.job is not None:
            steps.append(Step(name=job.name, what="adopted", job=job.job.name))
            if progress:
                progress(steps[-1])
    for item in plan.removed:
        if item.action == "cancel":
            steps.append(_cancel(session, ledger, item))
            if progress:
                progress(steps[-1])
    steps += advance(session, limit=plan.quota.limit, fair_by=fair_by, progress=progress)
    return steps + _unlisted(ledger, plan, {step.name for step in steps}, progress or (lambda step: None))


def _unlisted(ledger: StateLedger, plan: Plan, done: set[str], progress: Callable[[Step], None]) -> list[Step]:
    """Return the jobs whose record was written but is missing in the list; a lost record must not count as success."""
    steps = []
    for name in dict.fromkeys(job.name for job in plan.jobs if job.bills and job.name not in done):
        entry = ledger.read(name)
        if entry is None or entry.record.run.phase in ("queued", "claimed"):
            steps.append(Step(name=name, what="uncertain", message="its record is not listed yet; apply again"))
            progress(steps[-1])
    return steps


def _state(checkout: Checkout | None, job: PlannedJob) -> dict[str, Any] | None:
    """Return the state of the checkout for the files of a job."""
    used = (Path(job.source.file), job.source.train, job.source.validation)
    return None if checkout is None else checkout.state(item for item in used if isinstance(item, Path))


def _queue(ledger: StateLedger, job: PlannedJob, git: dict[str, Any] | None, queued: str) -> None:
    if job.action == "adopt" and job.job is not None:
        run = job.run.model_copy(update={"phase": "submitted", "job": job.job.name})
    else:
        run = job.run.model_copy(update={"queued": queued, "git": git})
    record = job.entry.record.replaced(run) if job.entry else Record(name=job.name, run=run)
    if ledger.write(record, job.generation) is None:
        _check_same(ledger.read(job.name), job)


def _check_same(found: Entry | None, job: PlannedJob) -> None:
    """Accept a record that another runner wrote for the same job. Raises StalePlanError for any other job."""
    run = found.record.run if found else None
    if run is not None and (run.identity, run.attempt) == (job.run.identity, job.run.attempt):
        return
    change = f"{job.name}: another runner changed its record"
    raise StalePlanError(
        f"{change}; nothing was submitted for it", changes=[change], hint="run `runner plan` again, then `runner apply`"
    )


def _cancel(session: Session, ledger: StateLedger, item: Removed) -> Step:
    entry = item.entry
    if entry is not None and item.job is None:
        withdrawn = entry.record.changed(phase="withdrawn", owner="", problem="its manifest is gone")
        if ledger.write(withdrawn, entry.generation) is None:
            return Step(name=item.name, what="elsewhere", message="another runner is submitting it; apply again")
        return Step(name=item.name, what="withdrawn")
    if item.job is None:
        raise AssertionError("what is removed has a job or a record")
    try:
        tuning_jobs.cancel(session, item.job.name)
    except NotFoundError:
        return Step(name=item.name, what="ended", job=item.job.name, message="it is gone")
    return Step(name=item.name, what="cancelled", job=item.job.name, message="what it has trained so far is billed")
