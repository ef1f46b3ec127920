"""`runner environment show`: what commands use, in lines that a person can read."""

from __future__ import annotations

import json
from pathlib import Path

import httpx

from tests.cli.invocation import CommandLine
from tests.provisioning import Provisioned


def test_a_line_holds_one_value_and_the_document_is_named_once(run: CommandLine, tmp_path: Path) -> None:
    document = str(tmp_path / "a-folder-that-everybody-shares" / "environment.json")
    Path(document).parent.mkdir()
    project, number = "acme-ml", "123456789012"
    endpoint = f"projects/{project}/locations/us-central1/endpoints/5578674001"
    body = {"version": 1, "project": project, "projectNumber": number, "location": "us-central1"}
    Path(document).write_text(json.dumps({**body, "endpoints": {"default": endpoint}}))
    lines = run("environment", "show", "--environment", document).out.splitlines()
    assert [line.split() for line in lines if document in line] == [["document", "-", document]]
    assert ["default", "endpoint", endpoint, "document"] in [line.split() for line in lines]
    for key, domain in (("aiplatform", "gcp-sa-aiplatform"), ("tuning", "gcp-sa-vertex-moss-ft")):
        agent = f"service-{number}@{domain}.iam.gserviceaccount.com"
        assert ["service", "agent,", key, agent] in [line.split()[:4] for line in lines]
    assert max(len(line) for line in lines if document not in line) < 130, "also in a pipe, which has no width"


def test_the_emulator_has_no_page_of_an_endpoint_or_a_job(run: CommandLine, in_project: Provisioned) -> None:
    made = f"{in_project.url}/v1/{in_project.parent}/endpoints?endpointId=4711000000"
    httpx.post(made, json={"displayName": "of-nobody"}, trust_env=False, timeout=120).raise_for_status()
    endpoint = "4711000000"
    outcome = run("open", endpoint, "--json")
    assert (outcome.code, outcome.out) == (1, "")
    assert outcome.error["message"] == f"the emulator has no page of endpoint {endpoint}"
    assert outcome.error["hint"] == f"run `runner console --open`, then open /endpoints/{endpoint} there"
    assert run("open", "--json").document["opened"] is False
