"""Whatever command is given the name of a job or an endpoint that nothing has says so in one way."""

from __future__ import annotations

import pytest

from tests.cli.invocation import CommandLine
from tests.provisioning import Provisioned


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
