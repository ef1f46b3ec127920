"""Runs tuning jobs: a durable state machine in which every step can be killed, and then continues.

    queued     waits for the project's quota; jobs of a project start in the order they were created
    preparing  permissions, copies of the inputs; started again after a kill
    training   one process, resumed from its last saved state after a kill
    publishing uploads; existing objects are not written again

The end of a job is one transaction, so that a job that is killed at any time has exactly one model and one set of
metrics.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

from runner.emulator.aiplatform import tuning_events, tuning_experiments, tuning_inputs, tuning_jobs, tuning_outputs
from runner.emulator.context import Emulator
from runner.emulator.control import quotas
from runner.emulator.engine import launcher
from runner.emulator.engine.launcher import WorkerProcess
from runner.emulator.errors import ApiError, disk_error, engine_error
from runner.emulator.projects import Project

logger = logging.getLogger(__name__)

_POLL_SECONDS = 0.2
"""Interval at which a training process's events file is read."""
_IDLE_SECONDS = 2.0
"""Interval at which the queue is checked without a notification, because a quota may have been raised."""
_MAX_DEATHS = 3
"""How often a training process can die without an explanation and without progress."""
_STOP_SECONDS = 5.0
"""Seconds for a process to save its state when the emulator stops, or to end after a kill."""

_KEPT = (".log", "events.jsonl", "job.json")


class JobExecutor:
    """All unfinished jobs of one emulator. Call its methods on the emulator's event loop."""

    def __init__(self, emulator: Emulator) -> None:
        self.emulator = emulator
        self._woken = asyncio.Event()
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._loop: asyncio.Task[None] | None = None
        # More training processes than processors make every job slower: further jobs within the quota wait for
        # capacity, as on the service.
        self._capacity = asyncio.Semaphore(max(2, os.cpu_count() or 2))

    async def start(self) -> None:
        """Kill the processes of an earlier emulator, then continue every unfinished job."""
        unfinished = {folder_of(self.emulator, name) for name, _ in self.emulator.store.read(tuning_jobs.unfinished)}
        for directory in self.emulator.jobs.iterdir():
            if directory.is_dir():
                await asyncio.to_thread(launcher.kill_stale, directory)
                if directory not in unfinished:
                    await asyncio.to_thread(_clean, directory)
        self._loop = asyncio.create_task(self._schedule_forever())

    async def stop(self) -> None:
        """Stop all jobs without changing their state; the next start continues them."""
        tasks = [task for task in (self._loop, *self._tasks.values()) if task is not None]
        self._loop = None
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def wake(self) -> None:
        """Check the queue now."""
        self._woken.set()

    def cancel(self, name: str) -> None:
        """Stop a job that has been marked as cancelled."""
        task = self._tasks.get(name)
        if task is not None:
            task.cancel()
        self._woken.set()

    @property
    def running(self) -> list[str]:
        """Return the names of the running jobs."""
        return sorted(self._tasks)

    async def _schedule_forever(self) -> None:
        while True:
            self._woken.clear()
            try:
                await self._schedule()
            except Exception:
                logger.exception("the queue of tuning jobs could not be looked at")
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._woken.wait(), _IDLE_SECONDS)

    async def _schedule(self) -> None:
        store = self.emulator.store
        free: dict[str, int] = {}
        for name, work in store.read(tuning_jobs.unfinished):
            if name in self._tasks:
                continue
            if work.get("cancelled"):
                await self._end_cancelled(name)
                continue
            project = work["project"]
            if work["phase"] == "queued" and (left := self._fault_wait(name)) > 0:
                await self._wait(name)
                asyncio.get_running_loop().call_later(left, self.wake)
                continue
            if project not in free:
                free[project] = self._free_slots(work)
            if free[project] > 0 or work["phase"] != "queued":
                free[project] -= 1
                self._tasks[name] = asyncio.create_task(self._run(name))
            else:
                await self._wait(name)

    async def _wait(self, name: str) -> None:
        now = self.emulator.clock.timestamp()
        if "tuningJobState" not in self.emulator.store.read(lambda connection: tuning_jobs.get(connection, name)):
            await self.emulator.store.write(lambda connection: tuning_jobs.set_waiting(connection, name, now))

    def _fault_wait(self, name: str) -> float:
        """Return for how many more seconds a fault makes a job wait for quota."""
        if not self.emulator.faults.all():
            return 0.0
        job = self.emulator.store.read(lambda connection: tuning_jobs.get(connection, name))
        return self.emulator.faults.waits_for_quota(job, self.emulator.clock.scale)

    def _free_slots(self, work: dict[str, Any]) -> int:
        default = self.emulator.settings.concurrent_tuning_jobs
        project = Project(work["project"], work["number"])
        allowed = self.emulator.store.read(lambda connection: quotas.granted(connection, project, default))
        taken = sum(1 for name in self._tasks if name.split("/")[1] == work["number"])
        return allowed - taken

    async def _run(self, name: str) -> None:
        try:
            await _JobRun(self.emulator, name, self._capacity, lambda: self._loop is None).run()
        except asyncio.CancelledError:
            if self._loop is None:
                raise  # the emulator stops; the job continues at its next start
            await self._end_cancelled(name)
        except ApiError as error:
            await self._fail(name, error)
        except Exception as error:
            full = disk_error(error, self.emulator.settings.directory)
            if full is None:
                logger.exception("bug while running %s", name)
            await self._fail(name, full or ApiError("INTERNAL", "Internal error encountered."))
        finally:
            self._tasks.pop(name, None)
            self._woken.set()

    async def _end_cancelled(self, name: str) -> None:
        now = self.emulator.clock.timestamp()
        reason = ApiError("CANCELLED", "The tuning job was cancelled.")
        await self._write_end(
            lambda connection: tuning_jobs.finish(connection, name, "JOB_STATE_CANCELLED", now, reason)
        )
        await forget(self.emulator, name)

    async def _fail(self, name: str, error: ApiError) -> None:
        now = self.emulator.clock.timestamp()
        await self._write_end(lambda connection: tuning_jobs.finish(connection, name, "JOB_STATE_FAILED", now, error))
        await forget(self.emulator, name)

    async def _write_end(self, work: Callable[[sqlite3.Connection], Any]) -> None:
        """Write the end of a job.

        On a full disk, wait for free space, because the job would otherwise run again immediately.
        """
        while True:
            try:
                await self.emulator.store.write(work)
            except Exception as error:
                full = disk_error(error, self.emulator.settings.directory)
                if full is None:
                    raise
                logger.warning("the end of a job waits: %s", full.message)
                await asyncio.sleep(_IDLE_SECONDS)
            else:
                return


class _JobRun:
    """One job, from its current state to its end."""

    def __init__(
        self, emulator: Emulator, name: str, capacity: asyncio.Semaphore, stopping: Callable[[], bool]
    ) -> None:
        self.emulator = emulator
        self.name = name
        self.capacity = capacity
        self.stopping = stopping
        self.directory = folder_of(emulator, name)

    async def run(self) -> None:
        work = self.emulator.store.read(lambda connection: tuning_jobs.find_work(connection, self.name))
        if work is None:
            return
        if work["phase"] in ("queued", "preparing"):
            work = await self._prepare()
        if work["phase"] == "training":
            await self._train(work)
        await self._publish()

    async def _enter(self, phase: str, detail: str) -> dict[str, Any]:
        now = self.emulator.clock.timestamp()
        return await self.emulator.store.write(
            lambda connection: tuning_jobs.set_phase(connection, self.name, phase, now, detail=detail)
        )

    async def _prepare(self) -> dict[str, Any]:
        work = await self._enter("preparing", "PROCESSING_DATASET")
        job = self.emulator.store.read(lambda connection: tuning_jobs.get(connection, self.name))
        self.emulator.faults.fail(job, work["number"], ("data", "configuration", "permission", "quota"))
        reason = self.emulator.launcher.available()
        if reason is not None:
            raise ApiError("FAILED_PRECONDITION", reason)
        described = await asyncio.to_thread(tuning_inputs.prepare, self.emulator, job, work, self.directory)
        now = self.emulator.clock.timestamp()

        def describe(connection: sqlite3.Connection) -> None:
            experiment = tuning_experiments.create(connection, job, tuning_outputs.region(connection, job), now)
            own = {**job.get("emulator", {}), **described}
            tuning_jobs.update(connection, self.name, emulator=own, experiment=experiment)

        await self.emulator.store.write(describe)
        return await self._enter("training", "WAITING_FOR_CAPACITY")

    async def _meet_faults(self, work: dict[str, Any]) -> None:
        """Wait and fail as the faults require, before a processor is used."""
        faults, scale = self.emulator.faults, self.emulator.clock.scale
        job = self.emulator.store.read(lambda connection: tuning_jobs.get(connection, self.name))
        await faults.hold("capacity-wait", job, scale)
        faults.fail(job, work["number"], ("capacity",))
        if faults.of_job("stall", job) or faults.of_job("fail", job):
            await self._enter("training", "TUNING")
        await faults.hold("stall", job, scale)
        faults.fail(job, work["number"], ("platform",))

    async def _train(self, work: dict[str, Any]) -> None:
        await self._meet_faults(work)
        async with self.capacity:
            await self._enter("training", "TUNING")
            work = await self._ingest()
            deaths, reached = 0, -1
            while "done" not in work:
                if "failed" in work:
                    raise _failure(work["failed"])
                if deaths >= _MAX_DEATHS:
                    raise ApiError("INTERNAL", "The training process ended repeatedly without saying why.")
                code = await self._run_process()
                work = await self._ingest()
                # Every death without progress since the previous one counts.
                deaths = deaths + 1 if work["lastStep"] <= reached else 1
                reached = work["lastStep"]
                if code != 0:
                    logger.warning("the training process of %s ended with %d", self.name, code)

    async def _run_process(self) -> int:
        worker = self.emulator.launcher.start_training(self.directory)
        try:
            ended = asyncio.ensure_future(worker.wait())
            while not ended.done():
                await asyncio.wait([ended], timeout=_POLL_SECONDS)
                await self._ingest()
            return ended.result()
        except BaseException:
            await _end_process(worker, gently=self.stopping())
            raise

    async def _ingest(self) -> dict[str, Any]:
        """Store the reported events of the process. Writes nothing if there are none."""
        path = self.directory / "events.jsonl"
        work = self.emulator.store.read(lambda connection: tuning_jobs.find_work(connection, self.name))
        if work is None:
            raise asyncio.CancelledError
        size = path.stat().st_size if path.exists() else 0
        if size <= work["offset"]:
            return work
        clock = self.emulator.clock
        return await self.emulator.store.write(
            lambda connection: tuning_events.ingest(connection, self.name, path, clock)
        )

    async def _publish(self) -> None:
        await self._enter("publishing", "POST_PROCESSING")
        emulator = self.emulator
        job = emulator.store.read(lambda connection: tuning_jobs.get(connection, self.name))
        await tuning_outputs.publish(emulator, job, self.name, self.directory / "output")
        now = emulator.clock.timestamp()

        def end(connection: Any) -> None:
            work = tuning_jobs.find_work(connection, self.name)
            if work is None:
                return
            current = tuning_jobs.get(connection, self.name)
            tuned = tuning_outputs.make_model(connection, current, work, now)
            metrics = tuning_outputs.metrics_uri(current)
            tuning_jobs.finish(
                connection, self.name, "JOB_STATE_SUCCEEDED", now, tunedModel=tuned, gcsMetricsUri=metrics
            )

        await emulator.store.write(end)
        await forget(emulator, self.name)


def folder_of(emulator: Emulator, name: str) -> Path:
    """Return the folder of a job; its ID alone is unique."""
    return emulator.jobs / name.rpartition("/")[2]


async def forget(emulator: Emulator, name: str) -> None:
    """Delete what an ended job no longer needs: its files except the logs, and its faults."""
    emulator.faults.forget(name)
    await asyncio.to_thread(_clean, folder_of(emulator, name))


def _failure(event: dict[str, Any]) -> ApiError:
    message = str(event.get("message", "Training failed."))
    return engine_error(str(event.get("status", "INTERNAL")), message, str(event.get("reason", "")))


async def _end_process(worker: WorkerProcess, *, gently: bool) -> None:
    """End a process; with `gently`, it saves its state first and continues from it at the next start."""
    if gently:
        worker.terminate()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(worker.wait(), _STOP_SECONDS)
            return
    worker.kill()
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(worker.wait(), _STOP_SECONDS)


def _clean(directory: Path) -> None:
    """Delete everything of a finished job except its logs."""
    if not directory.is_dir():
        return
    for path in directory.iterdir():
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        elif not path.name.endswith(_KEPT):
            path.unlink(missing_ok=True)
