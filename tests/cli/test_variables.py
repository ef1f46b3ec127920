"""The variables for Google's own tools."""

from __future__ import annotations

import json
import shutil
import subprocess

import pytest

from runner.cli.emulator.variables import emulator_variables, spelled

AWKWARD = 'it\'s "$HOME" `x` \\ ü'


def test_the_providers_endpoints_end_as_it_demands() -> None:
    variables = emulator_variables("http://127.0.0.1:8085", token=None, project="p")
    endpoints = {name: value for name, value in variables.items() if name.endswith("_CUSTOM_ENDPOINT")}

    assert len(endpoints) == 13
    assert all(value.startswith("http://127.0.0.1:8085/") and value.endswith("/") for value in endpoints.values())
    assert "GOOGLE_IAM_CUSTOM_ENDPOINT" not in endpoints  # ignored by the provider, which would call Google
    assert variables["GOOGLE_OAUTH_ACCESS_TOKEN"] == "emulator"
    assert "GOOGLE_APPLICATION_CREDENTIALS" not in variables


def test_existing_exceptions_from_the_proxy_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "example.com,localhost")
    monkeypatch.setenv("no_proxy", "localhost,example.org")
    variables = emulator_variables("http://10.0.0.7:1", token="t")
    assert variables["NO_PROXY"] == "example.com,localhost,example.org,127.0.0.1,::1,10.0.0.7"
    assert variables["no_proxy"] == variables["NO_PROXY"], "clients that read both prefer either"


def test_a_shell_reads_them_back() -> None:
    script = spelled({"AWKWARD": AWKWARD}, "bash") + '\nprintf %s "$AWKWARD"'

    assert subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=True).stdout == AWKWARD


@pytest.mark.skipif(not shutil.which("fish"), reason="needs the shell fish")
def test_fish_reads_them_back() -> None:
    script = spelled({"AWKWARD": AWKWARD}, "fish") + '\nprintf %s "$AWKWARD"'

    assert subprocess.run(["fish", "-c", script], capture_output=True, text=True, check=True).stdout == AWKWARD


def test_other_spellings() -> None:
    assert spelled({"A": "it's"}, "powershell") == "$Env:A = 'it''s'"
    assert spelled({"A": "it's \\"}, "fish") == "set -gx A 'it\\'s \\\\'"
    assert json.loads(spelled({"A": AWKWARD}, "json")) == {"A": AWKWARD}
