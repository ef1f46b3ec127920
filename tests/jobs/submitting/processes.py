"""Processes that submit a job, forked from a server that has imported everything already."""

from __future__ import annotations

import multiprocessing
import os
import time
from multiprocessing.context import ForkServerProcess
from multiprocessing.queues import Queue
from pathlib import Path
from typing import Any

from runner.environment import Environment
from runner.errors import AmbiguousSubmissionError
from runner.gcp.session import Session
from runner.jobs.specification import TuningJobSpec
from runner.jobs.submitting.submission import submit_once

_context = multiprocessing.get_context("forkserver")
_context.set_forkserver_preload([__name__])


def answers() -> Queue[Any]:
    """Return a queue for what the processes have to say."""
    return _context.Queue()


def start(
    environment: Environment, spec: TuningJobSpec, queue: Queue[Any], state: Path | None = None, jump: float = 0.0
) -> ForkServerProcess:
    """Start a process that submits and puts (job id, created), or (code of the error, False), into the queue.

    Args:
        environment: where.
        spec: what.
        queue: of `answers`.
        state: makes another machine of it.
        jump: seconds by which its clock is wrong.
    """
    arguments = (environment, spec, str(state or os.environ["RUNNER_STATE_DIR"]), queue, jump)
    process = _context.Process(target=_submit, args=arguments, daemon=True)
    process.start()
    return process


def _submit(environment: Environment, spec: TuningJobSpec, state: str, queue: Queue[Any], jump: float) -> None:
    os.environ["RUNNER_STATE_DIR"] = state
    real = time.time
    time.time = lambda: real() + jump
    try:
        with Session(environment) as session:
            done = submit_once(session, spec)
    except AmbiguousSubmissionError as error:
        queue.put((error.code, False))
    else:
        queue.put((done.job.id, done.created))
