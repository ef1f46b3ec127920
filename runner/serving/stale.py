"""Unused objects in buckets: datasets that were uploaded for jobs, their images, and checkpoints.

Only objects of this tool count: those whose metadata says that it uploaded them, and the intermediate checkpoints of
jobs with its label. `final/` is never deleted, and neither are objects that a model, an endpoint or an unfinished job
uses, or that were added to a checkpoint's folder after its job had ended.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Sequence

from runner import times
from runner.errors import GoogleApiError, NotFoundError, RunnerError
from runner.gcp import deployed, endpoints, fleet, records, storage
from runner.gcp.session import Session
from runner.gcp.storage import ObjectInfo, each_object
from runner.gcp.tuning_jobs import TuningJob
from runner.jobs.labels import managed
from runner.jobs.outputs.checkpoints import matched
from runner.jobs.outputs.ownership import FOLDER as CHECKPOINTS_FOLDER
from runner.serving import stale_images
from runner.serving.leak import Kind, Leak
from runner.serving.leaks import clean as clean_serving
from runner.serving.leaks import find_leaks
from runner.serving.stored import cost
from runner.wording import counted

STALE_SECONDS = 30 * 86400.0
"""Minimum age of a stored object."""
_DATASETS = "datasets/"
"""Folder of datasets in their bucket, which also contains images (`stale_images`)."""
_CHECKPOINT = re.compile(r"checkpoint-([0-9]+)/")


def find_stale(
    session: Session,
    *,
    older_than: float = STALE_SECONDS,
    now: float | None = None,
    note: Callable[[str], None] | None = None,
    read_all: bool = False,
) -> list[Leak]:
    """Return the stored objects that are no longer used, most expensive first. Changes nothing.

    Args:
        session: the project and location; from other locations, only unfinished jobs are read.
        older_than: seconds since an object was written, or since its job ended.
        now: seconds since 1970; None uses the service's clock.
        note: called with a line for each bucket that cannot be read, and if images are not checked.
        read_all: read all datasets to find unused images, even if this is more than a GiB.
    """
    jobs = fleet.all_jobs(session)
    moment = session.now() if now is None else now
    wanted = _Wanted(session, jobs, moment - older_than)
    found = _staging(session, wanted, moment, older_than, note, read_all)
    for job in jobs:
        if managed(job.labels) and _ended_before(job, moment - older_than):
            found += _checkpoints(session, job, wanted, moment, note)
    session.now()  # refuses a time before all of this was written
    return sorted(found, key=lambda leak: -(float("inf") if leak.usd_per_hour is None else leak.usd_per_hour))


def find_all(
    session: Session,
    *,
    older_than: float = STALE_SECONDS,
    note: Callable[[str], None] | None = None,
    read_all: bool = False,
) -> list[Leak]:
    """Return the leaks of serving, then the stored ones; see `leaks.find_leaks` and `find_stale`. Changes nothing."""
    return [*find_leaks(session), *find_stale(session, older_than=older_than, note=note, read_all=read_all)]


def clean(
    session: Session, found: Sequence[Leak], *, progress: Callable[[str], None] | None = None
) -> tuple[list[str], list[str]]:
    """Remove leaks of serving and stored ones; see `leaks.clean` and `remove`."""
    removed, failed = clean_serving(session, [leak for leak in found if not leak.generations], progress=progress)
    if stored := [leak for leak in found if leak.generations]:
        gone, kept = remove(session, stored, progress=progress)
        removed, failed = removed + gone, failed + kept
    return removed, failed


def remove(
    session: Session, leaks: Sequence[Leak], *, progress: Callable[[str], None] | None = None
) -> tuple[list[str], list[str]]:
    """Delete stored leaks in the version that was found; return the deleted ones, and the others with the reasons.

    Objects that a model, an endpoint or a job uses now are kept.
    """
    wanted = _Wanted(session, fleet.all_jobs(session), float("inf"))
    removed: list[str] = []
    failed: list[str] = []
    images = [leak for leak in leaks if leak.kind == "stale image"]
    named: set[str] | None = None
    for leak in [*(leak for leak in leaks if leak.kind != "stale image"), *images]:
        if leak.kind == "stale image":
            if named is None:  # the datasets to delete have been deleted by now
                named, problem = _named_images(session, wanted, images)
                failed += [problem] if problem else []
            if leak.resource in named:
                continue
        if wanted.names(leak.resource.rstrip("/")):
            continue
        if progress:
            progress(f"deleting {leak.resource}")
        for uri, generation in zip(leak.resources, leak.generations, strict=True):
            bucket, name = storage.parse_gs_uri(uri)
            try:
                if records.delete_record(session, bucket, name, generation=generation):
                    removed.append(uri)
            except RunnerError as error:
                failed.append(f"{uri}: {error.message}")
    return removed, failed


class _Wanted:
    """The addresses that models, endpoints and jobs use."""

    def __init__(self, session: Session, jobs: Sequence[TuningJob], recent: float) -> None:
        """Read the addresses.

        Unfinished jobs count, including those of other locations, and those of `jobs` that ended after `recent`, in
        seconds since 1970.
        """
        self.running = [*(job for job in jobs if not job.ended), *fleet.unended_elsewhere(session)]
        lately = [job for job in jobs if job.ended and not _ended_before(job, recent)]
        self.datasets = {
            uri for job in (*self.running, *lately) for uri in (job.training_dataset_uri, job.validation_dataset_uri)
        }
        models = deployed.list_models(session)
        documents = [model.document for model in models]
        for model in models:
            if model.document.get("versionId", "1") != "1":
                documents += deployed.list_versions(session, model.name)
        documents += [endpoint.raw for endpoint in endpoints.list_endpoints(session)]
        self._running = json.dumps([job.raw for job in self.running])
        self._text = json.dumps(documents) + self._running

    def names(self, uri: str) -> bool:
        """Return whether an address, or an address below it, is used."""
        plain = json.dumps(uri)[1:-1]
        return uri in self.datasets or re.search(re.escape(plain) + r"(?![\w.-])", self._text) is not None

    def continues(self, job: TuningJob) -> bool:
        """Return whether an unfinished job continues from this job's model."""
        return bool(job.tuned_model) and job.tuned_model.split("@", 1)[0] in self._running


def _staging(
    session: Session,
    wanted: _Wanted,
    now: float,
    older_than: float,
    note: Callable[[str], None] | None,
    read_all: bool,
) -> list[Leak]:
    """Return the datasets that no job uses, and the images that no other dataset uses."""
    bucket = session.environment.datasets_bucket
    if not bucket:
        return []
    found: list[Leak] = []
    images: dict[str, tuple[ObjectInfo, float]] = {}
    uri = f"gs://{bucket}/{_DATASETS}"
    for item in _readable(session, uri, note):
        made = times.seconds_of(item.created)
        ours = storage.STAGED.items() <= item.metadata.items()
        if not ours or made is None or now - made < older_than:
            continue
        if stale_images.IMAGES_FOLDER in item.uri:
            if stale_images.is_image(item):
                images[item.uri] = item, made
        elif not wanted.names(item.uri):
            found.append(_leak("stale staging object", item.uri, [item], now, made, "no recent job uses it"))
    try:
        unnamed = stale_images.unnamed(
            session,
            [item for item, _ in images.values()],
            datasets=wanted.datasets,
            unwanted={leak.resource for leak in found},
            read_all=read_all,
        )
    except stale_images.UnknownNamesError as error:
        if note:
            note(f"images were not checked: {error.message}" + (f"; {error.hint}" if error.hint else ""))
        return found
    for item in unnamed:
        made = images[item.uri][1]
        found.append(_leak("stale image", item.uri, [item], now, made, "no remaining dataset refers to it"))
    return found


def _named_images(session: Session, wanted: _Wanted, leaks: Sequence[Leak]) -> tuple[set[str], str]:
    """Return which of these images a dataset uses now, and an error if this is unknown; then all count as used."""
    every = {leak.resource for leak in leaks}
    items = [
        ObjectInfo(uri=uri, size=0, crc32c="", generation=0, metadata=dict(storage.STAGED)) for uri in sorted(every)
    ]
    try:
        free = stale_images.unnamed(session, items, datasets=wanted.datasets, unwanted=(), read_all=True)
    except RunnerError as error:
        return every, f"{counted(len(every), 'image')}: {error.message}"
    return every - {item.uri for item in free}, ""


def _checkpoints(
    session: Session, job: TuningJob, wanted: _Wanted, now: float, note: Callable[[str], None] | None
) -> Iterator[Leak]:
    if not job.output_uri or job.create_time is None or job.end_time is None or wanted.continues(job):
        return
    folder = f"{job.output_uri.rstrip('/')}/{CHECKPOINTS_FOLDER}/"
    begun, ended = job.create_time.timestamp(), job.end_time.timestamp()
    found: dict[int, list[ObjectInfo]] = {}
    numbers: set[int] = set()
    for item in _readable(session, folder, note):
        match = _CHECKPOINT.match(item.uri.removeprefix(folder))
        made = times.seconds_of(item.created)
        if match is None:
            continue
        numbers.add(int(match[1]))
        if made is not None and begun <= made <= ended:
            found.setdefault(int(match[1]), []).append(item)
    known = matched(job, numbers)
    if any(item.endpoint for item in job.checkpoints) and len(known) < len(numbers):
        return  # one of them serves, but it is unknown which
    for number, items in sorted(found.items()):
        uri = f"{folder}checkpoint-{number}/"
        serves = number in known and known[number].endpoint
        if not serves and not wanted.names(uri.rstrip("/")):
            yield _leak("stale checkpoint", uri, items, now, ended, f"job {job.id} has ended, and nothing uses it")


def _readable(session: Session, uri: str, note: Callable[[str], None] | None) -> Iterator[ObjectInfo]:
    try:
        yield from each_object(session, uri)
    except NotFoundError:
        return  # the bucket does not exist
    except GoogleApiError as error:
        if note:
            note(f"not checked: {error.message}")


def _leak(kind: Kind, uri: str, items: Sequence[ObjectInfo], now: float, since: float, reason: str) -> Leak:
    return Leak(
        kind=kind,
        resource=uri,
        usd_per_hour=cost(items),
        age=now - since,
        resources=tuple(item.uri for item in items),
        generations=tuple(item.generation for item in items),
        reason=reason,
    )


def _ended_before(job: TuningJob, moment: float) -> bool:
    """Return whether a job had ended by this time; a job without an end time had not."""
    return job.ended and job.end_time is not None and job.end_time.timestamp() < moment
