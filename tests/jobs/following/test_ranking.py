"""The ranking is an order: the best validation loss first, whatever came in which order."""

from __future__ import annotations

import itertools

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from runner.gcp.tuning_jobs import TuningJob, from_document
from runner.jobs.following.ranking import jobs_of_sweep, parameters, ranked
from runner.jobs.following.results import Measurement, Results

patiently = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])

MODEL = "meta/llama3_1@llama-3.1-8b-instruct"
LOSSES = st.one_of(st.none(), st.floats(0, 10))


def _job(number: int, *, tokens: int = 1000, labels: dict[str, str] | None = None) -> TuningJob:
    return from_document(
        {
            "name": f"projects/p/locations/l/tuningJobs/{number}",
            "state": "JOB_STATE_SUCCEEDED",
            "baseModel": MODEL,
            "labels": labels or {},
            "supervisedTuningSpec": {
                "tuningMode": "TUNING_MODE_FULL",
                "hyperParameters": {"epochCount": "1", "learningRate": number * 1e-5},
            },
            "tuningDataStats": {"supervisedTuningDataStats": {"totalBillableTokenCount": str(tokens)}},
        }
    )


def _results(training: float | None, validation: float | None) -> Results:
    found = Results()
    for kind, loss in (("step", training), ("evaluation", validation)):
        if loss is not None:
            found.measurements.append(Measurement(kind=kind, step=1, epoch=1.0, loss=loss))  # type: ignore[arg-type]
    return found


@patiently
@given(st.lists(st.tuples(LOSSES, LOSSES, st.integers(1, 10**6)), min_size=1, max_size=8), st.randoms())
def test_the_best_comes_first_in_whichever_order_they_are_given(
    given_losses: list[tuple[float | None, float | None, int]], chance: object
) -> None:
    jobs = [_job(number, tokens=tokens) for number, (_, _, tokens) in enumerate(given_losses, 1)]
    results = {
        job.id: _results(training, validation)
        for job, (training, validation, _) in zip(jobs, given_losses, strict=True)
    }
    found = ranked(jobs, results)
    chance.shuffle(jobs)  # type: ignore[attr-defined]
    assert [item.order for item in ranked(jobs, results)] == [item.order for item in found]
    validated = [item.validation_loss for item in found if item.validation_loss is not None]
    assert validated == sorted(validated)
    assert [item.validation_loss is None for item in found] == sorted(item.validation_loss is None for item in found)
    for one, other in itertools.pairwise(found):
        if one.validation_loss is not None and one.validation_loss == other.validation_loss:
            assert one.billed is not None
            assert other.billed is not None
            assert (one.billed.usd or 0) <= (other.billed.usd or 0)


def test_a_sweep_is_its_jobs_in_their_last_attempts() -> None:
    def of(number: int, manifest: str, attempt: str = "1", **labels: str) -> TuningJob:
        given = {"runner-manifest": manifest, "runner-identity": manifest, "runner-attempt": attempt, **labels}
        return _job(number, labels=given)

    jobs = [of(1, "tone-lr1e-4"), of(2, "tone-lr2e-4", "2"), of(3, "tone-lr2e-4", "1"), of(4, "tones-lr1e-4"), _job(5)]
    jobs += [_job(6, labels={"sweep": "tone"}), _job(7, labels={"sweep": "other"})]
    assert [job.id for job in jobs_of_sweep(jobs, "tone")] == ["1", "2", "6"]
    assert jobs_of_sweep(jobs, "none") == []


def test_parameters_say_which_differ() -> None:
    found = {title: differ for title, _, differ in parameters([_job(1), _job(2)])}
    assert found == {"base model": False, "mode": False, "epochs": False, "learning rate": True}
