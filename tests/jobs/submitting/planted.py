"""Mistakes that a kill sweep must find, put into the program in the process that is killed."""

from __future__ import annotations

from typing import Any

from runner.gcp import tuning_jobs
from runner.gcp.session import Session
from runner.gcp.tuning_jobs import TuningJob
from runner.jobs.manifests import claiming, identity
from runner.jobs.specification import TuningJobSpec
from runner.jobs.submitting import offers, submission
from runner.jobs.submitting.creating import Once
from runner.jobs.submitting.ledger import Ledger
from runner.jobs.submitting.prepared import prepare


def post_then_record() -> None:
    """Make a submission create the job first, record it afterwards, and believe its record alone."""

    def careless(session: Session, spec: TuningJobSpec, **options: Any) -> Once[TuningJob]:
        prepared = prepare(session, spec)
        with Ledger.open("f") as ledger:
            done = [
                entry["job"]
                for entry in ledger._entries()
                if (entry["fingerprint"], entry["kind"]) == (prepared.fingerprint, "created")
            ]
            if done:
                return Once(job=tuning_jobs.get(session, done[0]), created=False)
            job = tuning_jobs.create(session, prepared.fields)
            ledger.record(prepared.fingerprint, session.environment.parent, "created", job.name)
        return Once(job=job, created=True)

    submission.submit_once = careless
    offers.submit_once = careless  # type: ignore[attr-defined]


def trust_the_record() -> None:
    """Make `apply` believe its records alone: no job is looked for by its labels."""
    identity.of_attempt = lambda jobs, record: []
    claiming.jobs_of = lambda session, fingerprint: []  # type: ignore[attr-defined]
