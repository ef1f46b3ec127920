"""The location of the Pulumi program, and how to start it.

In a clone, it is `infra/` beside `Pulumi.yaml`. A wheel must not install a package with this name, because users of
Pulumi have their own; there, both are in the folder `program` of this package, which is not in the module path.
"""

from __future__ import annotations

import importlib
import re
import sys
from importlib import util
from pathlib import Path

from runner.errors import ConfigurationError, EngineMissingError
from runner.installation import install_hint
from runner.local_files import replace, unusable
from runner.local_processes import module_command

_ENTRY = '''"""Entry point of `pulumi up`: the program of the installed package open-model-tuning."""

from runner.infrastructure import start

start("infra")
'''


STACK_KINDS = ("dev", "test", "staging", "prod")
"""Names of stacks for known purposes."""


_STACK = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9_.-]{0,99}")


def root() -> Path:
    """Return the folder with `Pulumi.yaml` and `infra/`."""
    here = Path(__file__).resolve().parent
    return here / "program" if (here / "program").is_dir() else here.parents[1]


def is_present() -> bool:
    """Return whether the program exists, because an installation can omit it."""
    return (root() / "infra" / "__main__.py").is_file()


def require_program(what: str) -> None:
    """Return normally if the program can run here. Raises EngineMissingError with `what`, the feature that needs it."""
    missing = [name for name in ("pulumi", "pulumi_gcp") if util.find_spec(name) is None]
    missing += [] if is_present() else ["the Pulumi program"]
    if missing:
        raise EngineMissingError(
            f"{what} needs packages that are not installed: {', '.join(missing)}", hint=install_hint("infra")
        )


def program_command(module: str, *arguments: str) -> list[str]:
    """Return the command that runs a module of the program: `infra.automation`, `infra.embedded`."""
    return module_command("runner.infrastructure", module, *arguments)


def start(module: str) -> object:
    """Import a module's entry point and return it, with the program's folder first in the module path."""
    place = str(root())
    if sys.path[:1] != [place]:
        sys.path.insert(0, place)
    return importlib.import_module(f"{module}.__main__")


def stack_file(stack: str, directory: Path) -> Path:
    """Return the file of a stack's settings. Raises ConfigurationError for an invalid stack name."""
    if not _STACK.fullmatch(stack):
        problem = f"{stack!r} cannot name a stack: use 1 to 100 letters, digits, _, - and ."
        raise ConfigurationError(problem, hint="name it with --stack, such as dev")
    return directory / f"Pulumi.{stack}.yaml"


def project_files(directory: Path) -> dict[Path, str]:
    """Return the files of a Pulumi project that runs the installed program, with their texts."""
    source = (root() / "Pulumi.yaml").read_text("utf-8")
    return {
        directory / "Pulumi.yaml": source.replace("virtualenv: .venv", f"virtualenv: {sys.prefix}"),
        directory / "infra" / "__main__.py": _ENTRY,
    }


def make_project(directory: Path) -> list[Path]:
    """Write a Pulumi project that runs the installed program, and return its files.

    Raises:
        ConfigurationError: the folder cannot be written.
    """
    files = project_files(directory)
    for path, content in files.items():
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise unusable(path.parent, error) from error
        replace(path, content)
    return list(files)
