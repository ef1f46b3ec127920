"""Commands run nothing that lies in the current directory, which may be anyone's: an unpacked dataset, a clone."""

from __future__ import annotations

import ast
import base64
import io
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path

import click
import pytest
from PIL import Image
from tokenizers import Tokenizer, models

from runner.cli.main import root
from runner.cli.reference import walk
from runner.jobs.checkouts import commit_of, origin_of
from tests.jobs.manifests.folder import MODEL, Manifests

ROOT = Path(__file__).parents[2]
LEAVES = [path for path, command, _ in walk(root, None, "runner") if not isinstance(command, click.Group)]
_PROGRAMS = ("git", "pulumi", "ps", "python", "python3", "gcloud", "uv", "node")
_ENTRY = """
import json, sys
from pathlib import Path
from runner.cli.main import main
lines, marker = json.loads(sys.argv[1]), Path(sys.argv[2])
for line in lines:
    try:
        main(line.split())
    except SystemExit as end:
        sys.stdout.flush()
        found = marker.read_text().split() if marker.exists() else []
        print(chr(30) + json.dumps([line, end.code or 0, found]), flush=True)
        print("after", line, file=sys.stderr)
"""
"""Runs command lines as the console script does, which is started by its path: its own folder is on the module path,
not the current directory. All in one process, which has to import the SDKs once."""

COMMANDS: tuple[tuple[str, int], ...] = (
    ("models ls", 0),
    (f"models show {MODEL}", 0),
    ("schema", 0),
    ("console --environment not-there.json", 2),
    ("data check train.jsonl", 0),
    ("data check train.jsonl --workers 2 --tokenizer tokenizer", 0),
    ("data check pictures.jsonl --decode-images", 0),
    ("data stats train.jsonl", 0),
    ("data preview train.jsonl", 0),
    ("data report train.jsonl --html report.html", 0),
    ("data fix train.jsonl --output fixed.jsonl", 0),
    ("data split train.jsonl --training a.jsonl --validation b.jsonl", 0),
    ("data convert table.csv --output converted.jsonl", 0),
    (f"estimate train.jsonl --model {MODEL}", 0),
    ("emulator start --port 0 --stand-in tiny", 0),
    ("emulator status", 0),
    ("emulator faults ls", 0),
    ("emulator faults add job:quota-wait=0", 0),
    ("emulator faults clear", 0),
    ("emulator provision", 0),
    ("emulator env", 0),
    ("emulator key", 0),
    ("emulator logs", 0),
    ("environment show", 0),
    ("context add test --project acme --location us-central1", 0),
    ("context ls", 0),
    ("context show", 0),
    ("context rm test", 0),
    ("explain over-length", 0),
    ("init new", 0),
    ("completion bash", 0),
    ("open --print", 0),
    ("use emulator", 0),
    ("data upload train.jsonl", 0),
    (f"jobs submit --model {MODEL} --train train.jsonl --name tone --yes", 0),
    ("jobs ls", 0),
    ("jobs show latest", 0),
    ("jobs why latest", 0),
    ("jobs watch latest", 0),
    ("jobs wait latest", 0),
    ("jobs logs latest", 0),
    ("jobs metrics latest", 0),
    ("jobs diff latest latest", 0),
    ("jobs compare latest", 0),
    ("jobs export latest --to tensorboard", 0),
    ("jobs clone latest --set epochs=1 --dry-run", 0),
    ("jobs cancel latest", 0),
    ("checkpoints ls latest", 0),
    ("checkpoints download latest --to downloaded", 0),
    ("checkpoints export latest --to exported", 0),
    ("checkpoints prune latest", 0),
    ("reproduce latest", 0),
    ("endpoints deploy latest --yes", 0),
    ("endpoints ls", 0),
    ("endpoints show", 0),
    ("endpoints traffic tone", 0),
    ("endpoints extend tone", 0),
    ("endpoints check tone --golden train.jsonl", 0),
    ("endpoints canary tone", 0),
    ("endpoints promote tone", 0),
    ("endpoints rollback tone", 2),
    ("predict Hello --max-tokens 4", 0),
    ("chat Hello --max-tokens 4", 0),
    ("batch questions.jsonl --output answers.jsonl --max-tokens 4", 0),
    ("eval train.jsonl --endpoint tone --base-endpoint tone --max-tokens 4 --yes", 0),
    ("endpoints undeploy tone --yes", 0),
    ("plan -f manifests", 2),
    ("apply -f manifests --yes", 0),
    ("drift -f manifests", 0),
    ("queue ls", 0),
    ("queue run --once", 0),
    ("bill", 0),
    ("leaks", 0),
    ("repair", 0),
    ("infra init project --project acme-ml", 0),
    ("infra graph", 0),
    ("infra iam", 0),
    ("infra doctor", 1),
    ("infra bootstrap --project my-project --dry-run", 0),
    ("infra preview --dry-run", 0),
    ("infra refresh --yes", 2),
    ("infra up --stack local --embedded --yes", 0),
    ("infra outputs --stack local --embedded", 0),
    ("infra destroy --stack local --embedded --yes", 0),
    ("doctor", 1),
    ("emulator stop", 0),
    ("emulator reset --yes", 0),
)
"""Command lines that need no cloud, in an order in which each finds what it needs, with their exit codes.

2 is a plan with changes, and a rollback without another model; 9 and 1 say that Pulumi's engine or a cloud is missing.
"""


def executed(folder: Path) -> set[str]:
    """Return what of a folder was executed or imported."""
    marker = folder.with_name("executed")
    return set(marker.read_text().split()) if marker.exists() else set()


@pytest.fixture
def hostile(tmp_path: Path) -> Path:
    """A current directory with a module of every name that anything may import, each of which leaves its name."""
    folder = tmp_path / "work"
    folder.mkdir()
    marker = str(tmp_path / "executed")
    names = {*sys.stdlib_module_names, *metadata.packages_distributions()}
    names |= {"sitecustomize", "usercustomize", "conftest", "setup", "__main__", "noxfile", "tasks"}
    for name in {name for name in names if name.isidentifier()} - {"runner", "infra"}:
        (folder / f"{name}.py").write_text(f"open({marker!r}, 'a').write({name + chr(10)!r})\n")
    for name in ("runner", "infra"):
        (folder / name).mkdir()
        for file in ("__init__.py", "__main__.py"):
            (folder / name / file).write_text(f"open({marker!r}, 'a').write({f'{name}/{file}{chr(10)}'!r})\n")
    (folder / ".env").write_text("RUNNER_LOCATION=nowhere\nRUNNER_PROJECT=nobodys\n")
    (folder / "pyproject.toml").write_text("[this is not TOML\n")
    (folder / "setup.cfg").write_text("neither is this\n")
    git = shutil.which("git")
    if git is not None:
        _commit(git, folder)
        hooks = folder / ".git" / "hooks"
        for name in ("post-index-change", "fsmonitor-watchman", "pre-commit"):
            _program(hooks / name, marker)
        with (folder / ".git" / "config").open("a") as config:
            config.write(f"[core]\n\tfsmonitor = {hooks / 'fsmonitor-watchman'}\n")
    for name in _PROGRAMS:
        _program(folder / name, marker)
    return folder


def _program(path: Path, marker: str) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text(f"#!/bin/sh\necho {path.name} >> {marker}\n")
    path.chmod(0o755)


def _commit(git: str, folder: Path) -> None:
    (folder / "committed").write_text("one\n")
    who = ("-c", "user.name=Somebody", "-c", "user.email=somebody@example.com")
    for arguments in (("init", "-q"), ("add", "committed"), (*who, "commit", "-q", "-m", "First")):
        subprocess.run([git, *arguments], cwd=folder, check=True)
    (folder / "committed").write_text("two\n")


@pytest.fixture
def entry(tmp_path: Path) -> Path:
    """A script outside of the folder."""
    path = tmp_path / "bin" / "runner"
    path.parent.mkdir()
    path.write_text(_ENTRY)
    return path


@pytest.fixture
def variables(tmp_path: Path) -> dict[str, str]:
    return {
        **os.environ,
        "HOME": str(tmp_path / "home"),
        "RUNNER_STATE_DIR": str(tmp_path / "state"),
        "PATH": "/usr/bin:/bin",
        "PYTHONPATH": str(ROOT),
        "COLUMNS": "100",
    }


@pytest.fixture
def data(hostile: Path) -> None:
    """Fill the folder with what the commands read."""
    examples = [json.dumps({"prompt": f"What is {i}?", "completion": f"It is {i}."}) for i in range(40)]
    (hostile / "train.jsonl").write_text("\n".join(examples) + "\n")
    (hostile / "table.csv").write_text("prompt,completion\n" + "".join(f"What is {i}?,It is {i}.\n" for i in range(9)))
    (hostile / "questions.jsonl").write_text('{"prompt": "What is 1?"}\n')
    picture = io.BytesIO()
    Image.new("RGB", (8, 8)).save(picture, "PNG")
    url = f"data:image/png;base64,{base64.b64encode(picture.getvalue()).decode()}"
    parts = [{"type": "text", "text": "What is this?"}, {"type": "image_url", "image_url": {"url": url}}]
    turns = [{"role": "user", "content": parts}, {"role": "assistant", "content": "A square."}]
    (hostile / "pictures.jsonl").write_text(json.dumps({"messages": turns}) + "\n")
    (hostile / "tokenizer").mkdir()
    words = Tokenizer(models.WordLevel({"what": 0, "?": 1}, unk_token="?"))
    words.save(str(hostile / "tokenizer" / "tokenizer.json"))
    (hostile / "tokenizer" / "chat_template.jinja").write_text("{% for m in messages %}{{ m.content }}{% endfor %}")
    Manifests(hostile / "manifests").folder.mkdir()
    (hostile / "manifests" / "train.jsonl").write_text("\n".join(examples) + "\n")
    for path in ROOT.glob("Pulumi*.yaml"):
        shutil.copy(path, hostile)
    Manifests(hostile / "manifests").add("tone", spec="maxCost: 5")


def test_every_command_is_here() -> None:
    run = {next(path for path in LEAVES if f"runner {line} ".startswith(f"{path} ")) for line, _ in COMMANDS}
    assert sorted([*run, "runner quickstart"]) == sorted(LEAVES)


def test_the_markers_work(hostile: Path, variables: dict[str, str]) -> None:
    subprocess.run([sys.executable, "-m", "runner"], cwd=hostile, env=variables, check=False)
    assert "runner/__main__.py" in executed(hostile)


def test_help_imports_nothing_of_the_current_directory(hostile: Path, entry: Path, variables: dict[str, str]) -> None:
    lines = [(" ".join([*path.split()[1:], "--help"]), 0) for path, _, _ in walk(root, None, "runner")]
    assert _run(entry, lines, hostile, variables) == [(line, code, []) for line, code in lines]


def test_the_state_of_git_is_read_without_its_programs(hostile: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(hostile)
    state = commit_of(Path())
    origin_of(Path())
    assert state is None or state["dirty"] is True
    assert executed(hostile) == set()


@pytest.mark.training
@pytest.mark.usefixtures("data")
def test_commands_execute_nothing_of_the_current_directory(
    hostile: Path, entry: Path, variables: dict[str, str]
) -> None:
    try:
        assert _run(entry, COMMANDS, hostile, variables) == [(line, code, []) for line, code in COMMANDS]
    finally:
        _run(entry, [("emulator stop", 0)], hostile, variables)


@pytest.mark.training
def test_the_quickstart_runs_nothing_of_the_current_directory(
    hostile: Path, entry: Path, variables: dict[str, str]
) -> None:
    lines = [("quickstart --fast", 0)]
    assert _run(entry, lines, hostile, variables) == [("quickstart --fast", 0, [])]


def _run(
    entry: Path, lines: Sequence[tuple[str, int]], folder: Path, variables: dict[str, str]
) -> list[tuple[str, int, list[str]]]:
    """Run command lines in a folder; return each with its exit code and what of the folder was executed by then."""
    marker = folder.with_name("executed")
    command = [sys.executable, str(entry), json.dumps([line for line, _ in lines]), str(marker)]
    done = subprocess.run(
        command, cwd=folder, env=variables, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
    )
    sys.stderr.write(done.stderr)  # shown where the test fails
    return [
        (line, code, found)
        for line, code, found in (json.loads(text.partition("\n")[0]) for text in done.stdout.split("\x1e")[1:])
    ]


def test_python_is_started_in_one_place_only() -> None:
    found = [
        str(path.relative_to(ROOT))
        for package in ("runner", "infra")
        for path in sorted((ROOT / package).rglob("*.py"))
        if ".venv" not in path.parts
        for node in ast.walk(ast.parse(path.read_text()))
        if _starts_python(node)
    ]
    assert found == ["runner/local_processes.py"]


def _starts_python(node: ast.AST) -> bool:
    """Tell whether a node names this interpreter, or a library that starts it."""
    if isinstance(node, ast.Attribute):
        return node.attr in ("executable", "_base_executable", "ProcessPoolExecutor", "run_module", "run_path")
    if isinstance(node, ast.ImportFrom):
        names = {node.module or "", *(alias.name for alias in node.names)}
    else:
        names = {alias.name for alias in node.names} if isinstance(node, ast.Import) else set()
    return bool(names & {"multiprocessing", "runpy", "ProcessPoolExecutor", "executable"})
