"""The reference of all commands, generated from their help: `python -m runner.cli.reference > docs/cli.md`.

With `--man`, it is a man page: `python -m runner.cli.reference --man > docs/runner.1`.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator

import click

from runner.cli.commands import SHARED_TITLE
from runner.cli.main import root
from runner.cli.options import Invocation

_HEAD = """# Command line

`python -m runner.cli.reference > docs/cli.md` generates this page, and a test compares the two.

Every command prints its result to standard output and everything else to standard error. Global options can stand
anywhere on the line. With `--format json`, the result is one JSON document, or one per line for commands that print
events. An error is one JSON object on standard error; see [errors and exit codes](errors.md). `--quiet` prints only
names, for `xargs`.

`runner` does not execute or import anything from the current directory, so you can use it in a folder that somebody
else made. Python itself imports modules from the current directory first: if the script `runner` is not on the PATH,
run `python -P -m runner` and not `python -m runner`. With Pulumi's engine, `runner infra` runs the program in the
folder that `--directory` names.

Results are tables. If a table is wider than the terminal, `runner` first shortens ids to prefixes that commands accept,
then drops columns and names them below the table, and only then prints each row as a block. It never cuts a value.
Control characters in text from a service are escaped.
"""

_WIDTH = 100
_MAN_WIDTH = 72
"""Columns: `man` indents by seven, and a terminal has 80."""


def reference() -> str:
    """Return the reference as Markdown."""
    parts = [_HEAD]
    for path, command, ctx in walk(root, None, "runner"):
        level = "#" * (1 + len(path.split()))
        text = command.get_help(ctx)
        if command is not root:
            text = text.partition(f"\n{SHARED_TITLE}")[0]  # shown once, at the top
        parts.append(f"{level} {path}\n\n```text\n{text.rstrip()}\n```\n")
    return "\n".join(parts)


_MAN_HEAD = """.TH RUNNER 1
.SH NAME
runner \\- tune open models on Google Cloud: check data, submit jobs, deploy tuned models, send prompts
.SH SYNOPSIS
.B runner
.RI [ OPTIONS ] " COMMAND " [ ARGUMENTS ]...
.SH DESCRIPTION
Every command prints its result to standard output and everything else to standard error. With
.B \\-\\-format json
the result is one JSON document, or one per line for commands that print events, and an error is one JSON object on
standard error.
.B runner explain
.I CODE
explains an error, a finding, or an exit code.
"""


def man_page() -> str:
    """Return the reference as a man page with a section for each command."""
    parts = [_MAN_HEAD]
    for path, command, ctx in walk(root, None, "runner", width=_MAN_WIDTH):
        text = command.get_help(ctx)
        title = "OPTIONS AND COMMANDS" if command is root else path.upper()
        if command is not root:
            text = text.partition(f"\n{SHARED_TITLE}")[0]
        lines = "\n".join(_man_line(line) for line in text.rstrip().splitlines())
        parts.append(f'.SH "{title}"\n.nf\n{lines}\n.fi\n')
    return "".join(parts)


def _man_line(line: str) -> str:
    """Escape a line for `man`: leading dots are requests, hyphens can break, and old programs only read ASCII."""
    line = line.replace("\\", "\\e").replace("-", "\\-")
    line = "".join(letter if letter.isascii() else f"\\[u{ord(letter):04X}]" for letter in line)
    return rf"\&{line}" if line.startswith((".", "'")) else line


def walk(
    command: click.Command, parent: click.Context | None, name: str, *, width: int = _WIDTH
) -> Iterator[tuple[str, click.Command, click.Context]]:
    """Yield a command and those below it: the path on the command line, the command, and a context for its help."""
    ctx = click.Context(
        command, parent=parent, info_name=name, obj=Invocation(), max_content_width=width, **command.context_settings
    )
    ctx.terminal_width = width
    yield ctx.command_path, command, ctx
    if isinstance(command, click.Group):
        for child in command.list_commands(ctx):
            found = command.get_command(ctx, child)
            if found is not None:
                yield from walk(found, ctx, child, width=width)


if __name__ == "__main__":
    os.environ.pop("COLUMNS", None)
    sys.stdout.write(man_page() if sys.argv[1:] == ["--man"] else reference())
