"""Command classes: groups that import a command only when it is asked for, and commands with the global options."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import click
from click.core import augment_usage_errors

from runner.cli.options import Invocation, global_options

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

_HELP = {"help_option_names": ["-h", "--help"]}
SHARED_TITLE = "Global options, anywhere on the line"
MAY_BE_EMPTY = frozenset({"message", "prompt", "system"})
"""What people say to a model. Any other empty value is a shell variable that is not set: it must not count as no value,
for which there is a default, such as the only endpoint."""


def _require_values(command: click.Command, ctx: click.Context, args: Sequence[str]) -> None:
    given = command.make_parser(ctx).parse_args(list(args))[0]
    for parameter in command.get_params(ctx):
        if parameter.name not in MAY_BE_EMPTY and _has_empty(given.get(parameter.name)):
            raise click.BadParameter("it is empty; is a variable not set?", ctx, parameter)


def _has_empty(value: Any) -> bool:
    return any(map(_has_empty, value)) if isinstance(value, list | tuple) else value == ""


def _split_help(command: click.Command, ctx: click.Context, formatter: click.HelpFormatter) -> None:
    """Write the options of the command, then those that all commands have."""
    own: list[tuple[str, str]] = []
    shared: list[tuple[str, str]] = []
    for parameter in command.get_params(ctx):
        record = parameter.get_help_record(ctx)
        if record is not None:
            (shared if parameter in command.shared_options else own).append(record)  # type: ignore[attr-defined]
    for title, records in (("Options", own), (SHARED_TITLE, shared)):
        if records:
            with formatter.section(title):
                formatter.write_dl(records)


class Command(click.Command):
    """A command that takes the global options too and shows examples in its help.

    Args:
        examples: whole command lines for the help.
        changes: whether it changes or costs something where it acts: then its first line names the target.
    """

    def __init__(self, *args: Any, examples: Sequence[str] = (), changes: bool = False, **attributes: Any) -> None:
        super().__init__(*args, **{"context_settings": _HELP} | attributes)
        self.examples = tuple(examples)
        self.changes = changes
        self.shared_options = global_options()
        self.params.extend(self.shared_options)

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Read the line; a mistake in it knows its command, so that the hint names it."""
        with augment_usage_errors(ctx):
            _require_values(self, ctx, args)
            return super().parse_args(ctx, args)

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; the invocation knows its name, and whether it names the target."""
        invocation = ctx.ensure_object(Invocation)
        invocation.command, invocation.announces = ctx.command_path, self.changes
        return super().invoke(ctx)

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write own options, then global options."""
        _split_help(self, ctx, formatter)

    def format_help_text(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the description, then the examples, which are what most readers came for."""
        super().format_help_text(ctx, formatter)
        _write_examples(self.examples, formatter)


class Group(click.Group):
    """A group whose commands are named in a table and imported when invoked.

    Args:
        lazy: command name to (module, one line of help). The command is the attribute `command` of the module, or the
            one named after `:`.
        examples: whole command lines for the help.
    """

    def __init__(
        self, *args: Any, lazy: Mapping[str, tuple[str, str]], examples: Sequence[str] = (), **attributes: Any
    ) -> None:
        super().__init__(*args, **{"context_settings": _HELP} | attributes)
        self.lazy = dict(lazy)
        self.examples = tuple(examples)
        self.shared_options = global_options()
        self.params.extend(self.shared_options)

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Read the line up to the command; a mistake in it knows its group, so that the hint names it."""
        with augment_usage_errors(ctx):
            _require_values(self, ctx, args)
            return super().parse_args(ctx, args)

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names in the order of the table: that of the work."""
        return list(self.lazy)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import a command."""
        if cmd_name not in self.lazy:
            return None
        module, _, attribute = self.lazy[cmd_name][0].partition(":")
        found: click.Command = getattr(importlib.import_module(module), attribute or "command")
        return found

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """Offer the commands from the table, importing none, and the options."""
        from click.shell_completion import CompletionItem

        names = [
            CompletionItem(name, help=line) for name, (_, line) in self.lazy.items() if name.startswith(incomplete)
        ]
        return names + click.Command.shell_complete(self, ctx, incomplete)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command; on a mistake suggest the nearest."""
        name = args[0]
        if name not in self.lazy and not name.startswith("-") and not ctx.resilient_parsing:
            from runner.cli.suggestions import suggested
            from runner.cli.text import visible

            near = suggested(name, self.lazy, ctx.command_path, ctx.find_root().command.lazy)  # type: ignore[attr-defined]
            known = near or f"commands here: {', '.join(self.lazy)}"
            raise click.UsageError(f"no such command {visible(name)!r}; {known}", ctx)
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the commands from the table, importing none."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, line) for name, (_, line) in self.lazy.items()])

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the commands, then the options."""
        self.format_commands(ctx, formatter)
        _split_help(self, ctx, formatter)

    def format_help_text(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the description, then the examples."""
        super().format_help_text(ctx, formatter)
        _write_examples(self.examples, formatter)


def command(*, examples: Sequence[str], **attributes: Any) -> Callable[[Callable[..., Any]], Command]:
    """Make a function a command; its docstring is the help.

    Args:
        examples: whole command lines, the simplest first.
        **attributes: of `Command`, or passed to click.
    """

    def decorate(function: Callable[..., Any]) -> Command:
        return click.command(cls=Command, examples=examples, **attributes)(function)

    return decorate


def _write_examples(examples: Sequence[str], formatter: click.HelpFormatter) -> None:
    if examples:
        with formatter.section("Examples"):
            for example in examples:
                # Not through the wrapping writer: an example must survive copying.
                formatter.write(f"{'':>{formatter.current_indent}}{example}\n")
