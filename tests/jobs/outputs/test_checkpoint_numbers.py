"""Folders are numbered by epoch, the service counts its checkpoints from 1: none is taken for another."""

from __future__ import annotations

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from runner.emulator.engine.artifacts import checkpoint_epochs
from runner.gcp.tuning_jobs import TuningJob, from_document
from runner.jobs.outputs.checkpoints import matched

patiently = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])


def _job(moments: list[tuple[int, int]]) -> TuningJob:
    listed = [
        {"checkpointId": str(number), "epoch": str(epoch), "step": str(step)}
        for number, (epoch, step) in enumerate(moments, 1)
    ]
    return from_document({"name": "projects/p/locations/l/tuningJobs/1", "tunedModel": {"checkpoints": listed}})


@patiently
@given(epochs=st.integers(1, 60), steps=st.integers(1, 50), data=st.data())
def test_a_folder_is_the_checkpoint_of_its_epoch(epochs: int, steps: int, data: st.DataObject) -> None:
    kept = checkpoint_epochs(epochs, last_only=False)
    job = _job([(epoch, epoch * steps) for epoch in kept])
    left = data.draw(st.sets(st.sampled_from(kept), min_size=1))  # others were pruned
    assert {number: item.epoch for number, item in matched(job, left).items()} == {epoch: epoch for epoch in left}


@patiently
@given(steps=st.integers(61, 500), epochs=st.integers(1, 10), data=st.data())
def test_a_folder_of_a_step_is_the_checkpoint_of_that_step(steps: int, epochs: int, data: st.DataObject) -> None:
    moments = [(epoch, epoch * steps) for epoch in range(1, epochs + 1)]
    left = data.draw(st.sets(st.sampled_from([step for _, step in moments]), min_size=1))
    assert {number: item.step for number, item in matched(_job(moments), left).items()} == {step: step for step in left}


def test_numbers_that_mean_nothing_go_by_their_order_or_are_nobodys() -> None:
    job = _job([(4, 40), (8, 80), (12, 120)])
    assert [item.epoch for _, item in sorted(matched(job, [1, 2, 3]).items())] == [4, 8, 12]
    assert matched(job, [1, 3]) == {}
