"""Delete intermediate checkpoints of a job, but never the final weights or anything outside its folder."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from runner.errors import ConfigurationError, require_sound
from runner.gcp import records, storage
from runner.gcp.session import Session
from runner.gcp.storage import ObjectInfo, parse_gs_uri
from runner.gcp.tuning_jobs import TuningJob
from runner.jobs.labels import managed
from runner.jobs.outputs import ownership
from runner.jobs.outputs.checkpoints import FINAL, Checkpoint, list_checkpoints


@dataclass(frozen=True, slots=True, kw_only=True)
class PruningPlan:
    """What would be deleted, and what would be kept."""

    job: TuningJob
    delete: tuple[Checkpoint, ...]
    keep: tuple[Checkpoint, ...]
    objects: tuple[ObjectInfo, ...]
    """Every object of the checkpoints to delete."""

    @property
    def size(self) -> int:
        """Return the bytes that would be freed."""
        return sum(item.size for item in self.objects)


def plan(session: Session, job: TuningJob, *, keep_last: int = 0) -> PruningPlan:
    """Return what pruning a job's checkpoints would delete. Changes nothing.

    Args:
        session: the project and location.
        job: an ended job that this tool submitted.
        keep_last: number of intermediate checkpoints to keep, the latest first; the final one is always kept.

    Raises:
        ConfigurationError: the job is running, was not created by this tool, shares its folder, or has no final
            weights.
    """
    problems = []
    if not managed(job.labels):
        problems.append(f"job {job.id} was not submitted by this tool: its checkpoints are not deleted")
    if not job.ended:
        problems.append(f"job {job.id} has not ended: it may still need its checkpoints")
    if not problems:
        others = ownership.sharing(session, job)
        problems += [f"job {others[0].id} uses the same output folder {others[0].output_uri}"] if others else []
    require_sound(problems)
    found = list_checkpoints(session, job)
    numbered = [item for item in found if item.id != FINAL]
    if numbered and len(numbered) == len(found):
        problem = f"job {job.id} has no final checkpoint: only its intermediate checkpoints are left"
        raise ConfigurationError(problem)
    doomed = numbered[: max(0, len(numbered) - keep_last)]
    folder = f"{job.output_uri.rstrip('/')}/"
    objects = [item for checkpoint in doomed for item in storage.list_objects(session, f"{checkpoint.uri}/")]
    outside = [item.uri for item in objects if not item.uri.startswith(folder)]
    if outside:
        raise AssertionError(f"{outside[0]} is not in {folder}")
    return PruningPlan(
        job=job,
        delete=tuple(doomed),
        keep=tuple(item for item in found if item not in doomed),
        objects=tuple(objects),
    )


def carry_out(
    session: Session, planned: PruningPlan, *, progress: Callable[[int, int], None] | None = None
) -> list[str]:
    """Delete the planned objects; return those that had changed since and were kept."""
    changed = []
    done = 0
    for item in planned.objects:
        bucket, name = parse_gs_uri(item.uri)
        if not records.delete_record(session, bucket, name, generation=item.generation):
            changed.append(item.uri)
        done += item.size
        if progress:
            progress(done, planned.size)
    return changed
