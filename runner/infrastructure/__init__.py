"""Where the Pulumi program is, and how it is started.

In a clone it is `infra/` beside `Pulumi.yaml`. A wheel must not install a package of that name, which is what Pulumi's
users call their own; there both are in the folder `program` of this package, which is on nobody's module path.
"""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

from runner.errors import ConfigurationError
from runner.local_files import replace
from runner.local_processes import module_command

_ENTRY = '''"""Entry point of `pulumi up`: the program of the installed package open-model-tuning."""

from runner.infrastructure import start

start("infra")
'''


def root() -> Path:
    """Return the folder that holds `Pulumi.yaml` and `infra/`."""
    here = Path(__file__).resolve().parent
    return here / "program" if (here / "program").is_dir() else here.parents[1]


def is_present() -> bool:
    """Tell whether the program is there: an installation may have left it out."""
    return (root() / "infra" / "__main__.py").is_file()


def program_command(module: str, *arguments: str) -> list[str]:
    """Return the command that runs a module of the program: `infra.automation`, `infra.embedded`."""
    return module_command("runner.infrastructure", module, *arguments)


def start(module: str) -> object:
    """Import a module's entry point and return it, the program's folder first on the module path."""
    place = str(root())
    if sys.path[:1] != [place]:
        sys.path.insert(0, place)
    return importlib.import_module(f"{module}.__main__")


def make_project(directory: Path) -> list[Path]:
    """Write a Pulumi project that runs the installed program, and return its files.

    Raises:
        ConfigurationError: one of them is there already, or the folder cannot be written; nothing is overwritten.
    """
    source = (root() / "Pulumi.yaml").read_text("utf-8")
    files = {
        directory / "Pulumi.yaml": source.replace("virtualenv: .venv", f"virtualenv: {sys.prefix}"),
        directory / "infra" / "__main__.py": _ENTRY,
    }
    problems = [f"{path} exists" for path in files if path.exists()]
    if problems:
        raise ConfigurationError("; ".join(problems), problems=problems, hint="name an empty folder")
    for path, content in files.items():
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            problem = f"cannot make {path.parent}: {error.strerror or error}"
            raise ConfigurationError(problem, problems=[problem]) from error
        replace(path, content)
    return list(files)
