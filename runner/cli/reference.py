"""The reference of all commands, made from their help: `python -m runner.cli.reference > docs/cli.md`."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator

import click

from runner.cli.commands import SHARED_TITLE
from runner.cli.main import root
from runner.cli.options import Invocation

_HEAD = """# Command line

Made by `python -m runner.cli.reference > docs/cli.md`; a test compares the two. Every command prints its result to
standard output and everything else to standard error, and takes the global options anywhere on the line. With
`--format json` the result is one JSON document, or one a line for what comes in pieces, and an error is one JSON object
on standard error; exit codes are in [errors.md](errors.md). `--quiet` prints bare names, for `xargs`.

`runner` executes and imports nothing that lies in the current directory, so it is safe to use in a folder that
somebody else made. `python -m runner` is not: Python itself looks for modules in the current directory first. Where the
script `runner` is not on the PATH, use `python -P -m runner`. `runner infra` with Pulumi's engine runs the program in
the folder that `--directory` names.

Results are tables. In a narrow terminal ids get shorter, to beginnings that commands accept, and columns that are named
below the table go; only then each row becomes a block. No value is cut. Control
characters in remote texts are spelled out.
"""

_WIDTH = 100


def reference() -> str:
    """Return the reference as Markdown."""
    parts = [_HEAD]
    for path, command, ctx in walk(root, None, "runner"):
        level = "#" * (1 + len(path.split()))
        text = command.get_help(ctx)
        if command is not root:
            text = text.partition(f"\n{SHARED_TITLE}")[0]  # said once, at the top
        parts.append(f"{level} {path}\n\n```text\n{text.rstrip()}\n```\n")
    return "\n".join(parts)


def walk(
    command: click.Command, parent: click.Context | None, name: str
) -> Iterator[tuple[str, click.Command, click.Context]]:
    """Yield each command at or below one: its path on the command line, itself, and a context for its help."""
    ctx = click.Context(
        command, parent=parent, info_name=name, obj=Invocation(), max_content_width=_WIDTH, **command.context_settings
    )
    ctx.terminal_width = _WIDTH
    yield ctx.command_path, command, ctx
    if isinstance(command, click.Group):
        for child in command.list_commands(ctx):
            found = command.get_command(ctx, child)
            if found is not None:
                yield from walk(found, ctx, child)


if __name__ == "__main__":
    os.environ.pop("COLUMNS", None)
    sys.stdout.write(reference())
