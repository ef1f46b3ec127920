"""Bills are counted with the tokenizer of the model that was asked for, where it is on this machine."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from runner.catalog import find_model
from runner.datasets.checks import check_files
from runner.emulator.server import EmulatorServer
from runner.gcp import uploads
from runner.gcp.session import Session
from runner.gcp.tuning_jobs import TuningJob
from runner.jobs.following import watching
from runner.jobs.following.progress import billed
from runner.jobs.specification import TuningJobSpec
from runner.jobs.submitting import submission
from tests.own_tokenizers import place_tokenizer
from tests.projects import MODEL, environment_of
from tests.provisioning import Provisioned

ROWS = [{"prompt": f"What is {number}, in words?", "completion": f"It is number {number}."} for number in range(12)]


def _trained(session: Session, folder: Path) -> TuningJob:
    folder.mkdir(exist_ok=True)
    path = folder / "train.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    uri = f"gs://{session.environment.datasets_bucket}/train.jsonl"
    uploads.upload_bytes(session, path.read_bytes(), uri)
    spec = TuningJobSpec(base_model=MODEL, training_dataset=uri, epochs=1)
    return watching.wait(session, submission.submit(session, spec).id, 300, poll=0.3)


@pytest.mark.training
@pytest.mark.parametrize("state", ["whole", "broken", "absent"])
def test_the_models_own_tokenizer_counts_and_a_stand_ins_count_is_marked(
    emulator: EmulatorServer,
    project: Provisioned,
    state_directory: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    state: str,
) -> None:
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "home" / "hub"))
    folder = place_tokenizer(tmp_path / "home", emulator.settings.model_cache, MODEL)
    path = tmp_path / "train.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    exact = check_files(path, model=find_model(MODEL), mode="FULL", tokenizer=folder).training.tokens.total
    if state == "broken":
        (folder / "tokenizer.json").write_text('{"version": "1.0", "chat_template"')
    elif state == "absent":
        (folder / "tokenizer.json").unlink()
    with Session(environment_of(project)) as session:
        job = _trained(session, tmp_path / "data")
    assert job.succeeded
    used = billed(job)
    assert used is not None
    assert (used.stand_in, job.counted_by_stand_in) == ((state != "whole"),) * 2
    assert (used.tokens == exact) == (state == "whole")
