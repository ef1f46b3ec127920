"""What has been spent: jobs by their billed tokens, endpoints by their age."""

from __future__ import annotations

from tests.cli.invocation import CommandLine
from tests.provisioning import Provisioned


def test_a_project_without_anything_has_no_bill(run: CommandLine, in_project: Provisioned) -> None:
    outcome = run("bill")
    assert (outcome.code, outcome.out, outcome.err) == (0, "", "nothing has cost anything\n")
    body = run("bill", "--json").document
    assert (body["items"], body["usd"], body["charged"]) == ([], 0, False)
