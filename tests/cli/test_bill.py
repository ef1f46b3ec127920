"""What has been spent, on the command line."""

from __future__ import annotations

from tests.cli.invocation import CommandLine
from tests.provisioning import Provisioned


def test_a_project_without_anything_has_no_bill(run: CommandLine, in_project: Provisioned) -> None:
    outcome = run("bill")
    assert (outcome.code, outcome.out) == (0, "")
    assert outcome.err.startswith("nothing was spent\nspent $0.00")
    assert outcome.err.endswith("nothing is charged in the emulator\n")
    body = run("bill", "--json").document
    assert (body["lines"], body["usd"]) == ([], 0)
