"""What a mistyped command is taken for: never something that costs money, unless hardly anything else was meant."""

from __future__ import annotations

import difflib
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.cli.main import COMMANDS
from runner.cli.suggestions import PAID, suggested
from tests.cli.invocation import CommandLine


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("deploy", "runner endpoints deploy"),
        ("help", "runner --help"),
        ("status", "runner jobs ls"),
        ("train", "runner jobs submit"),
        ("login", "runner doctor"),
        ("whoami", "runner context"),
        ("evaluate", "runner eval"),
        ("jobs delete", "runner jobs cancel"),
        ("jobs list", "runner jobs ls"),
        ("jobs get", "runner jobs show"),
        ("endpoints rm", "runner endpoints undeploy"),
        ("emulator restart", "runner emulator start"),
        ("context delete", "runner context rm"),
        ("jbos", "runner jobs"),
        ("jobs sbumit", "runner jobs submit"),
    ],
)
def test_what_is_meant(typed: str, meant: str, run: CommandLine) -> None:
    outcome = run(*typed.split())
    assert outcome.code == 2
    assert f"did you mean `{meant}`?" in outcome.err


def test_a_verb_of_many_groups_names_them(run: CommandLine) -> None:
    found = re.findall(r"`runner (\w+) ls`", run("ls").err)
    assert len(found) == 3
    assert "leaks" not in run("ls").err


@given(st.text("abcdefghijklmnopqrstuvwxyz-", min_size=1, max_size=12))
def test_nothing_paid_is_suggested_for_a_distant_typo(typed: str) -> None:
    for path, here in (("runner", COMMANDS), ("runner jobs", {"submit": ("", ""), "ls": ("", "")})):
        for line in re.findall(r"`([^`]+)`", suggested(typed, here, path, COMMANDS)):
            verb = line.split()[-1]
            near = difflib.SequenceMatcher(None, typed, verb).ratio() >= 0.8
            assert (
                verb not in PAID
                or near
                or typed in {"create", "train", "tune", "finetune", "fine-tune", "serve", "publish"}
            )
