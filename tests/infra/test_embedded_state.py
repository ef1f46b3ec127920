"""The state file of applications without the engine: where it cannot be kept, and what older versions wrote."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from runner.errors import ConfigurationError, DiskError, RunnerError
from tests.infra.embedded_stack import Stack

SMALL = {"idleGuard": "false"}


def _below_a_file(folder: Path) -> Path:
    (folder / "file").write_text("")
    return folder / "file" / "state.json"


def _where_nothing_is_made(folder: Path) -> Path:
    return Path("/proc/none/state.json")


def _a_folder(folder: Path) -> Path:
    (folder / "state.json").mkdir()
    return folder / "state.json"


@pytest.mark.parametrize("place", [_below_a_file, _where_nothing_is_made, _a_folder])
def test_a_state_that_cannot_be_kept_is_refused_before_anything_is_made(
    stack: Stack, tmp_path: Path, place: Callable[[Path], Path]
) -> None:
    elsewhere = replace(stack, state=place(tmp_path))
    for act in (elsewhere.apply, elsewhere.destroy):
        with pytest.raises(ConfigurationError, match=r"state\.json") as caught:
            act()
        assert caught.value.hint
    assert "items" not in stack.request("GET", f"/storage/v1/b?project={stack.project}")


def test_a_full_disk_is_named_and_the_next_application_finds_what_was_made(stack: Stack) -> None:
    aside = stack.state.with_name(f"{stack.state.name}.new")
    aside.symlink_to("/dev/full")
    with pytest.raises(DiskError, match=r"cannot write .*state\.json: No space left") as caught:
        stack.apply(**SMALL)
    assert (caught.value.exit_code, caught.value.path) == (74, str(stack.state))
    aside.unlink()
    assert stack.apply(**SMALL).updated == ()
    assert stack.apply(**SMALL).created == ()


def test_a_document_that_cannot_be_written_is_one_line(stack: Stack, tmp_path: Path) -> None:
    """Whoever started the program may show its last line only."""
    command = [sys.executable, "-m", "infra.embedded", "--emulator", stack.url, "--project", stack.project]
    command += ["--state", str(stack.state), "--config", "idleGuard=false", "--output"]
    for output, status in ((tmp_path / "none" / "environment.json", 2), (Path("/dev/full"), 74)):
        done = subprocess.run([*command, str(output)], capture_output=True, text=True, check=False, timeout=240)
        assert done.returncode == status, done.stderr
        assert str(output) in done.stderr.splitlines()[-1]
        assert "Traceback" not in done.stderr


def test_the_state_of_a_version_that_named_no_stacks_belongs_to_the_first_that_is_applied(stack: Stack) -> None:
    """Entries of projects had neither a stack nor settings, and titles and labels named no stack."""
    named = replace(stack, name="dev")
    named.apply(**SMALL)
    body = json.loads(stack.state.read_text())
    entry = body["stacks"].pop(f"{stack.project}/dev")
    del entry["stack"], entry["settings"]
    body["stacks"][stack.project] = entry
    stack.state.write_text(json.dumps(body))
    again = named.apply(**SMALL)
    assert (again.created, again.updated, again.deleted) == ((), (), ())
    assert list(json.loads(stack.state.read_text())["stacks"]) == [f"{stack.project}/dev"]
    with pytest.raises(RunnerError, match="did not create it"):
        stack.apply(**SMALL)
    named.destroy()
    assert not stack.state.exists()
