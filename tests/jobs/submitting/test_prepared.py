"""What a job without a folder or a name gets."""

from __future__ import annotations

import dataclasses

import pytest

from runner.gcp.session import Session
from runner.jobs.specification import TuningJobSpec
from runner.jobs.submitting.prepared import prepare
from tests.projects import MODEL, upload_dataset


@pytest.mark.parametrize(
    ("name", "folder"),
    [
        ("Müller & Söhne 2", "m-ller-s-hne-2"),  # as it has always been: a folder is not moved
        ("日本語", "llama-3-1-8b-instruct"),
        ("—", "llama-3-1-8b-instruct"),
        ("", "llama-3-1-8b-instruct"),
    ],
)
def test_a_folder_has_a_name_that_people_can_read(name: str, folder: str, session: Session) -> None:
    spec = TuningJobSpec(base_model=MODEL, training_dataset=upload_dataset(session), epochs=1)
    prepared = prepare(session, dataclasses.replace(spec, display_name=name))
    assert prepared.spec.output_uri is not None
    assert prepared.spec.output_uri.rpartition("/tuned/")[2] == f"{folder}-{prepared.fingerprint[:10]}"
    assert prepared.fingerprint == prepare(session, spec).fingerprint
