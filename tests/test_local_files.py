"""What people are told of a path that cannot be used: what is in the way, and what to type."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from runner.errors import RunnerError
from runner.local_files import unusable, unwritable


@pytest.mark.parametrize("told", [unusable, unwritable])
@pytest.mark.parametrize(
    ("name", "said", "hint"),
    [
        ("nowhere/x", "the folder {0}/nowhere does not exist", "mkdir -p {0}/nowhere"),
        ("no where/deep/x", "the folder {0}/no where/deep does not exist", "mkdir -p '{0}/no where/deep'"),
        ("file/x", "{0}/file is a file, not a folder", "name another path"),
        ("file/deep/x", "{0}/file is a file, not a folder", "name another path"),
        (".", "a folder, not a file", "name another path"),
    ],
)
def test_a_path_that_cannot_be_used(
    told: Callable[[Path, OSError], RunnerError], name: str, said: str, hint: str, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    path = tmp_path / name
    with pytest.raises(OSError) as failed:
        path.write_text("")
    error = told(path, failed.value)
    assert error.message.endswith(said.format(tmp_path))
    assert error.hint == hint.format(tmp_path)
    error = unwritable(path, failed.value, hint="free disk space")
    assert error.hint == (hint.format(tmp_path) if hint.startswith("mkdir") else "free disk space")
