"""Stands in for a program that a pipeline calls in a clean clone; the name by which it is called says for which.

It notes its words in the file $CALLS. What installs packages, makes environments or talks to a registry does no more:
this environment's programs are there instead. They run as they were called, but for what $SHORTER makes shorter.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import NoReturn

ENVIRONMENT = ("python", "python3", "pip", "uv", "runner", "ruff", "mypy", "lint-imports", "zensical")
"""Programs of a virtual environment."""
TOOLS = ("maturin", "pip-audit", "cyclonedx-py", "pypi-attestations")
"""Programs that pipelines install in environments of their own."""
SYSTEM = ("python", "python3", "apt-get", "sudo", "curl", "go", "npm", "cargo", "rustup")
_REAL = Path(sys.executable).parent


def main() -> None:
    """Note the call, and do what can be done here."""
    called, words = Path(sys.argv[0]), sys.argv[1:]
    name = called.name
    with Path(os.environ["CALLS"]).open("a") as file:
        file.write(json.dumps([name, *words]) + "\n")
    if "install" in words[:3] and name in {"python", "python3", "pip", "uv"}:
        _look_for(words)
    elif name.startswith("python") and words[:2] == ["-m", "venv"]:
        _environment(Path(words[2]))
    elif name == "uv" and words[0] == "venv":
        _environment(Path(words[-1]))
    elif name == "uv" and words[0] == "build":
        os.environ["VIRTUAL_ENV"] = str(_REAL.parent)
        _become(_REAL / "uv", words)
    elif name == "sudo":
        _become(called.with_name(words[0]), words[1:])
    elif name in TOOLS:
        _tool(name, words)
    elif name in ENVIRONMENT and name != "uv":
        _run(called.absolute(), words)


def _run(called: Path, words: list[str]) -> None:
    """Run a program of this environment; one of the clone's environment works in the clone."""
    if called.parents[1].name == ".venv":
        os.environ["PYTHONPATH"] = str(called.parents[2])
    for start, change in json.loads(os.environ.get("SHORTER", "{}")).items():
        if f"{called.name} {' '.join(words)} ".startswith(f"{start} "):
            rest = len(start.split()) - 1
            words = [*change, *words[rest:]] if change[0] == "-c" else [*words, *change]
    if called.name == "runner":
        words = ["-m", "runner", *words]
    program = "python" if called.name in {"python3", "runner"} else called.name
    _become(_REAL / program, words)


def _become(program: Path, words: list[str]) -> NoReturn:
    os.execv(program, [str(program), *words])  # noqa: S606 - it is what was called


def _look_for(words: list[str]) -> None:
    """End with a mistake where a file of requirements, or one that it includes, is not there."""
    files = [Path(words[at + 1]) for at, word in enumerate(words) if word == "-r"]
    while files:
        file = files.pop()
        if not file.is_file():
            sys.exit(f"no requirements in {file}")
        lines = file.read_text("utf-8").splitlines()
        files += [file.parent / line.removeprefix("-r ") for line in lines if line.startswith("-r ")]


def _environment(folder: Path) -> None:
    (folder / "bin").mkdir(parents=True, exist_ok=True)
    for name in (*ENVIRONMENT, *TOOLS):
        if not (folder / "bin" / name).is_symlink():
            (folder / "bin" / name).symlink_to(Path(sys.argv[0]).resolve())


def _tool(name: str, words: list[str]) -> None:
    """Leave the files that the program would."""
    if name == "cyclonedx-py":
        Path(words[words.index("--output-file") + 1]).write_text("{}\n")
    elif name == "maturin":
        folder = Path(words[words.index("--out") + 1])
        folder.mkdir(exist_ok=True)
        (folder / f"scanner-{words[words.index('--target') + 1]}.whl").touch()


if __name__ == "__main__":
    main()
