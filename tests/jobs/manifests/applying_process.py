"""Processes that apply manifests, forked from a server that has imported everything already."""

from __future__ import annotations

import multiprocessing
import os
from multiprocessing.context import ForkServerProcess
from pathlib import Path

from runner.environment import Environment
from runner.gcp.session import Session
from runner.jobs.manifests.applying import apply_plan
from runner.jobs.manifests.claiming import Step
from runner.jobs.manifests.planning import make_plan

MANY = 1000
"""A quota that keeps nothing waiting."""
_context = multiprocessing.get_context("forkserver")
_context.set_forkserver_preload([__name__])


def start(environment: Environment, folder: Path) -> ForkServerProcess:
    """Start a process that applies the manifests of a folder."""
    process = _context.Process(target=_apply, args=(environment, folder, os.environ["RUNNER_STATE_DIR"]), daemon=True)
    process.start()
    return process


def apply(session: Session, folder: Path) -> list[Step]:
    """Apply the manifests of a folder and return what happened."""
    return apply_plan(session, make_plan(session, [folder], quota=MANY, preflight=False))


def _apply(environment: Environment, folder: Path, state: str) -> None:
    os.environ["RUNNER_STATE_DIR"] = state
    with Session(environment) as session:
        apply(session, folder)
