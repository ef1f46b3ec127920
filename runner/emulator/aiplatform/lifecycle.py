"""The background parts of the emulator: the job executor and the deployed models."""

from __future__ import annotations

from dataclasses import dataclass

from runner.emulator.aiplatform.batch.executor import BatchExecutor
from runner.emulator.aiplatform.deployments import Deployments
from runner.emulator.aiplatform.executor import JobExecutor
from runner.emulator.aiplatform.usage import Usage
from runner.emulator.context import Emulator


@dataclass(slots=True)
class Runtime:
    """The running parts of one emulator."""

    executor: JobExecutor
    deployments: Deployments
    usage: Usage
    batch: BatchExecutor


_runtimes: dict[int, Runtime] = {}


def runtime(emulator: Emulator) -> Runtime:
    """Return the running parts of a started emulator."""
    return _runtimes[id(emulator)]


async def start(emulator: Emulator) -> None:
    """Continue unfinished jobs and start the processes of deployed models; returns without waiting for them."""
    deployments = Deployments(emulator)
    batch = BatchExecutor(emulator, deployments)
    parts = Runtime(JobExecutor(emulator), deployments, Usage(emulator), batch)
    _runtimes[id(emulator)] = parts
    await parts.executor.start()
    await parts.deployments.start()
    parts.batch.start()


async def stop(emulator: Emulator) -> None:
    """Stop all work; unfinished jobs continue at the next start."""
    parts = _runtimes.pop(id(emulator), None)
    if parts is not None:
        await parts.executor.stop()
        await parts.batch.stop()
        await parts.deployments.stop()
