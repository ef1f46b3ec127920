"""Whatever command is given the name of a job or an endpoint that nothing has says so in one way."""

from __future__ import annotations

import httpx
import pytest

from runner.errors import NotFoundError
from runner.gcp.prediction import resolve_endpoint
from runner.gcp.session import Session
from runner.jobs.naming import job_name
from tests.cli.invocation import CommandLine
from tests.loopback import NO_TLS
from tests.projects import MODEL, upload_dataset
from tests.provisioning import Provisioned


def test_no_name_names_nothing_not_even_what_has_none(session: Session) -> None:
    """Neither the only endpoint nor the only job is taken, which has no name."""
    parent = f"{session.environment.vertex_base}/v1beta1/{session.environment.parent}"
    data = upload_dataset(session)
    body = {"baseModel": MODEL, "supervisedTuningSpec": {"trainingDatasetUri": data}, "outputUri": f"{data}-tuned"}
    httpx.post(f"{parent}/tuningJobs", json=body, verify=NO_TLS, timeout=120).raise_for_status()
    httpx.post(f"{parent}/endpoints", json={"displayName": "one"}, verify=NO_TLS, timeout=120).raise_for_status()
    for find in (resolve_endpoint, job_name):
        with pytest.raises(NotFoundError, match="the name ''"):
            find(session, "")


@pytest.mark.parametrize(
    "words",
    [
        *(f"jobs {verb} absent" for verb in ("show", "watch", "wait", "why", "logs", "metrics", "cancel", "clone")),
        *("jobs diff absent absent", "jobs compare absent", "jobs export absent --to tensorboard", "reproduce absent"),
        *(f"checkpoints {verb} absent" for verb in ("ls", "download", "export", "prune")),
        *("endpoints show absent", "endpoints deploy absent --yes", "endpoints undeploy absent --yes"),
        *("endpoints extend absent", "predict hello --endpoint absent", "chat hello --endpoint absent", "open absent"),
    ],
)
def test_a_name_that_nothing_has_is_exit_4_with_what_lists_them(
    words: str, run: CommandLine, in_project: Provisioned
) -> None:
    outcome = run(*words.split(), "--json")
    assert (outcome.code, outcome.out, outcome.error["code"]) == (4, "", "not_found")
    assert "absent" in outcome.error["message"]
    assert " ls`" in outcome.error["hint"]
