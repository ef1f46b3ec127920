"""Whatever stands in a file of the state directory, no command takes it for a bug of its own."""

from __future__ import annotations

import ast
import json
from pathlib import Path

import pytest

import runner
from tests.cli.invocation import CommandLine
from tests.provisioning import Provisioned

CONTENTS = (b"", b"[", b"7", b"null", b"[1]", b'{"x": 1}', b"\xff\xfe", b"[" * 100_000)
COMMANDS = (
    ("context", "ls"),
    ("environment", "show"),
    ("jobs", "ls"),
    ("endpoints", "ls"),
    ("leaks",),
    ("emulator", "status"),
    ("repair", "--dry-run"),
)


def _turned(body: object) -> object:
    """Give every value another type."""
    if isinstance(body, dict):
        return {key: _turned(value) for key, value in body.items()}
    return [body] if isinstance(body, str) else "text"


@pytest.fixture
def files(run: CommandLine, in_project: Provisioned, state_directory: Path) -> list[Path]:
    """The files that commands leave."""
    assert run("context", "add", "mine", "--project", in_project.project, "--location", "us-central1").code == 0
    assert run("jobs", "ls").code == 0
    assert run("endpoints", "ls").code == 0
    server = state_directory / "emulator" / "server.json"
    server.parent.mkdir(exist_ok=True)
    server.write_text(json.dumps({"pid": 1, "url": in_project.url, "token": ""}))
    return sorted(path for path in state_directory.rglob("*.json*") if path.is_file())


def test_damaged_files_of_the_state_directory(files: list[Path], run: CommandLine) -> None:
    assert len(files) >= 2
    for path in files:
        sound = path.read_bytes()
        for content in (*CONTENTS, json.dumps(_turned(json.loads(sound))).encode()):
            path.write_bytes(content)
            for command in COMMANDS:
                outcome = run(*command, "--json")
                assert outcome.code in (0, 1, 2, 69), (path.name, content[:40], command, outcome.err[-600:])
        path.write_bytes(sound)


def test_json_of_others_is_read_in_one_place() -> None:
    root = Path(runner.__file__).parent
    found = {
        str(path.relative_to(root))
        for path in root.rglob("*.py")
        if not str(path.relative_to(root)).startswith(("emulator/", "datasets/"))
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Attribute) and node.attr in {"loads", "load"} and ast.unparse(node.value) == "json"
    }
    assert found == {"json_text.py"}, "use runner.json_text: deep nesting is no ValueError to the standard library"
