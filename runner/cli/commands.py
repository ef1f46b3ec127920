"""Command classes: groups that import a command only when it is used, and commands with the global options."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import click
from click.core import augment_usage_errors, iter_params_for_processing

from runner.cli.options import Invocation, global_options
from runner.cli.values import Refused, name_of
from runner.errors import RunnerError

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

_HELP = {"help_option_names": ["-h", "--help"]}
SHARED_TITLE = "Global options, anywhere on the line"
MAY_BE_EMPTY = frozenset({"message", "system"})
"""Options that contain messages to a model. An empty value of any other option is an unset shell variable; it must not
count as a missing option with a default, such as the only endpoint."""


Checks = Callable[[Invocation, Mapping[str, Any]], list[str]]
"""Returns the errors in those values of a command line that could be converted."""


class Mistakes(click.UsageError):
    """All errors in a command line. `first` is the error that determines the hint."""

    def __init__(self, problems: list[str], first: click.UsageError, ctx: click.Context) -> None:
        super().__init__("; ".join(problems), ctx)
        self.problems = list(dict.fromkeys(problems))
        self.first = first


def sentence_of(error: click.ClickException) -> str:
    """Return a message of click in the style of this tool: one line, lower case first, no period."""
    if isinstance(error, Refused):
        return error.format_message()
    message = " ".join(error.format_message().split()).rstrip(".")  # click lists choices on lines of their own
    return message[:1].lower() + message[1:]


def _require_sound(
    command: click.Command, ctx: click.Context, args: Sequence[str], checks: Checks | None = None
) -> None:
    """Parse a command line before click does, because click stops at the first error. Raises Mistakes with all errors.

    An unknown option is reported alone, because the following words could be its values.

    Args:
        command: the command.
        ctx: its context.
        args: the command line.
        checks: further checks, for a line with errors; if there are none, the command itself finds all other errors.
    """
    if ctx.resilient_parsing:
        return
    given, left, order = command.make_parser(ctx).parse_args(list(args))
    found: list[click.UsageError] = []
    for parameter in iter_params_for_processing(order, command.get_params(ctx)):
        try:
            with augment_usage_errors(ctx, parameter):
                _require_given(parameter, given.get(str(parameter.name)))
                parameter.handle_parse_result(ctx, given, left)
        except click.UsageError as error:
            found += _of_values(parameter, ctx, given) or [error]
    if left and not ctx.allow_extra_args:
        words = ", ".join(f"'{word}'" for word in left)
        found.append(click.UsageError(f"unexpected argument{'s' if len(left) > 1 else ''} {words}"))
    if not found:
        return
    problems = [sentence_of(error) for error in found]
    if checks is not None:
        sources = (click.core.ParameterSource.COMMANDLINE, click.core.ParameterSource.ENVIRONMENT)
        sound = {name: value for name, value in ctx.params.items() if ctx.get_parameter_source(name) in sources}
        try:
            problems += checks(ctx.ensure_object(Invocation), sound)
        except RunnerError as error:  # such as an emulator that does not run
            problems.append(error.message)
    missing = (error for error in found if isinstance(error, click.MissingParameter))  # its help says what to give
    raise Mistakes(problems, next(missing, found[0]), ctx)


def _of_values(parameter: click.Parameter, ctx: click.Context, given: Mapping[str, Any]) -> list[click.UsageError]:
    """Return the errors in the values of a repeatable option, and store the valid values in the context."""
    values = given.get(str(parameter.name))
    several = (isinstance(parameter, click.Option) and parameter.multiple) or parameter.nargs == -1
    if not several or not isinstance(values, list | tuple):
        return []
    found: list[click.UsageError] = []
    sound: list[Any] = []
    for value in values:
        try:
            with augment_usage_errors(ctx, parameter):
                _require_given(parameter, value)
                sound.append(parameter.type(value, parameter, ctx))
        except click.UsageError as error:
            found.append(error)
    ctx.params[str(parameter.name)] = tuple(sound)
    return found


def _require_given(parameter: click.Parameter, value: Any) -> None:
    if parameter.name not in MAY_BE_EMPTY and _has_empty(value):
        raise Refused("is empty; is a variable not set?")


def _has_empty(value: Any) -> bool:
    return any(map(_has_empty, value)) if isinstance(value, list | tuple) else value == ""


def _split_help(command: click.Command, ctx: click.Context, formatter: click.HelpFormatter) -> None:
    """Write the options of the command, then those of all commands."""
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
    """A command that also accepts the global options and shows examples in its help.

    Args:
        examples: complete command lines for the help.
        changes: whether it changes or costs something, so that its first line names the target.
        checks: further checks for a line with errors, so that all errors are reported together.
    """

    def __init__(
        self,
        *args: Any,
        examples: Sequence[str] = (),
        changes: bool = False,
        checks: Checks | None = None,
        **attributes: Any,
    ) -> None:
        super().__init__(*args, **{"context_settings": _HELP} | attributes)
        self.examples = tuple(examples)
        self.changes = changes
        self.checks = checks
        self.shared_options = global_options()
        self.params.extend(self.shared_options)

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse the line; add the command to an error, so that the hint names it."""
        with augment_usage_errors(ctx):
            options = ctx.ensure_object(Invocation).options
            for parameter in self.params:
                options.setdefault(str(parameter.name), []).append(name_of(parameter, None))
            _require_sound(self, ctx, args, self.checks)
            return super().parse_args(ctx, args)

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command, and set its name in the invocation, and whether it names the target."""
        invocation = ctx.ensure_object(Invocation)
        invocation.command, invocation.announces = ctx.command_path, self.changes
        return super().invoke(ctx)

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the command's options, then the global options."""
        _split_help(self, ctx, formatter)

    def format_help_text(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the description, then the examples, which most readers look for."""
        super().format_help_text(ctx, formatter)
        _write_examples(self.examples, formatter)


class Group(click.Group):
    """A group with a table of commands, which are imported when they run.

    Args:
        lazy: maps a command name to (module, one line of help). The command is the attribute `command` of the module,
            or the one after `:`.
        examples: complete command lines for the help.
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
        """Parse the line up to the command; add the group to an error, so that the hint names it."""
        with augment_usage_errors(ctx):
            _require_sound(self, ctx, args)
            return super().parse_args(ctx, args)

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names in the order of the table, which follows the workflow."""
        return list(self.lazy)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import a command."""
        if cmd_name not in self.lazy:
            return None
        module, _, attribute = self.lazy[cmd_name][0].partition(":")
        found: click.Command = getattr(importlib.import_module(module), attribute or "command")
        return found

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """Offer the options and the commands in the table, without imports."""
        from click.shell_completion import CompletionItem

        names = [
            CompletionItem(name, help=line) for name, (_, line) in self.lazy.items() if name.startswith(incomplete)
        ]
        return names + click.Command.shell_complete(self, ctx, incomplete)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command; for an unknown name, suggest the nearest."""
        name = args[0]
        if name not in self.lazy and not name.startswith("-") and not ctx.resilient_parsing:
            from runner.cli.suggestions import suggested
            from runner.cli.text import visible

            near = suggested(name, self.lazy, ctx.command_path, ctx.find_root().command.lazy)  # type: ignore[attr-defined]
            known = near or f"commands here: {', '.join(self.lazy)}"
            raise click.UsageError(f"no such command {visible(name)!r}; {known}", ctx)
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the commands in the table, without imports."""
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
    """Convert a function to a command with its docstring as help.

    Args:
        examples: complete command lines, the simplest first.
        **attributes: attributes of `Command`, or arguments for click.
    """

    def decorate(function: Callable[..., Any]) -> Command:
        return click.command(cls=Command, examples=examples, **attributes)(function)

    return decorate


def _write_examples(examples: Sequence[str], formatter: click.HelpFormatter) -> None:
    if examples:
        with formatter.section("Examples"):
            for example in examples:
                # Without the wrapping formatter, so that examples can be copied.
                formatter.write(f"{'':>{formatter.current_indent}}{example}\n")
