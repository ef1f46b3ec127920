"""The entry point: global options, the table of commands, and the conversion of errors to exit codes."""

from __future__ import annotations

import codecs
import errno
import itertools
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn, TextIO

import click

from runner import local_files
from runner.cli.commands import Group, Mistakes, sentence_of
from runner.cli.options import Invocation
from runner.cli.text import of_few_characters, replaced
from runner.errors import ConfigurationError, DiskError, Problem, RunnerError, together
from runner.waiting import told

INTERNAL_ERROR = 70
"""Exit code of a bug in this program (EX_SOFTWARE of sysexits.h)."""
INTERRUPTED = 130
BROKEN_PIPE = 141
"""The exit code that a shell reports after SIGPIPE: the reader closed the pipe, which is not an error."""

COMMANDS = {
    "quickstart": ("runner.cli.quickstart", "Tune a small model on this machine and compare it with its base."),
    "init": ("runner.cli.init", "Write a folder with a tuning job that you can plan at once."),
    "emulator": ("runner.cli.emulator.group", "Run a local server with Google's APIs."),
    "use": (
        "runner.cli.context:use",
        "Set where commands act: the emulator, Google Cloud, or a context that you added.",
    ),
    "context": ("runner.cli.context", "List, add and show the places where commands can work."),
    "environment": ("runner.cli.environment", "Show the project, location and buckets that commands use."),
    "models": ("runner.cli.models", "List base models with limits, modes and prices."),
    "data": ("runner.cli.data.group", "Check, convert and upload datasets."),
    "estimate": ("runner.cli.estimate", "Estimate the price of a tuning job."),
    "jobs": ("runner.cli.jobs.group", "Submit, follow and cancel tuning jobs."),
    "plan": ("runner.cli.manifests.plan", "Show what applying manifests would do and cost."),
    "apply": ("runner.cli.manifests.apply", "Create the jobs that manifests describe, each once."),
    "drift": ("runner.cli.manifests.plan:drift", "Check whether manifests, records and jobs still agree."),
    "queue": ("runner.cli.manifests.queue_commands", "List and run jobs that wait for quota."),
    "schema": ("runner.cli.manifests.schema", "Print the JSON Schema of manifests."),
    "checkpoints": ("runner.cli.checkpoints.group", "List, download and prune checkpoints of a tuning job."),
    "reproduce": ("runner.cli.reproduce", "Run a job again from its run manifest."),
    "endpoints": ("runner.cli.endpoints.group", "Deploy and undeploy tuned models."),
    "bill": ("runner.cli.bill", "Show the cost of jobs and deployments: so far, and per hour."),
    "leaks": ("runner.cli.leaks", "Find what still costs money but is no longer used."),
    "repair": ("runner.cli.repair", "Repair damaged state of this tool."),
    "predict": ("runner.cli.asking.predict", "Send instances to an endpoint."),
    "batch": ("runner.cli.asking.batch", "Send a file of questions to an endpoint."),
    "eval": ("runner.cli.asking.evaluate", "Compare a tuned model with its base."),
    "chat": ("runner.cli.asking.chat", "Talk with a tuned model."),
    "infra": ("runner.cli.infra.group", "Set up a Google Cloud project with the Pulumi program."),
    "console": ("runner.cli.console", "Run a web console on this machine."),
    "open": ("runner.cli.open", "Open the page of a job, an endpoint, or the project."),
    "explain": ("runner.cli.explain", "Explain an error, a finding of a dataset, or an exit code."),
    "completion": ("runner.cli.completion", "Print the completion script of a shell."),
    "doctor": ("runner.cli.doctor", "Check this machine and this environment, and show how to fix problems."),
}

_DESCRIPTION = """Managed tuning of open models on Google Cloud: provision, check, tune, deploy, ask.

The same commands work against the local emulator and against Google Cloud.
"""

_EPILOGUE = "`runner COMMAND --help` has examples. `runner explain` lists error codes and exit codes."


def _show_version(ctx: click.Context, parameter: click.Parameter, value: bool) -> None:
    if value and not ctx.resilient_parsing:
        from importlib.metadata import version

        click.echo(f"runner {version('open-model-tuning')}")
        ctx.exit()


root = Group(
    name="runner",
    lazy=COMMANDS,
    help=_DESCRIPTION,
    epilog=_EPILOGUE,
    examples=(
        "runner quickstart",
        "runner emulator start && runner emulator provision",
        "runner data check train.jsonl --model meta/llama3_1@llama-3.1-8b-instruct",
        "runner jobs submit --model meta/llama3_1@llama-3.1-8b-instruct --train train.jsonl --max-cost 20",
    ),
    no_args_is_help=True,
    params=[
        click.Option(
            ["--version"],
            is_flag=True,
            expose_value=False,
            is_eager=True,
            callback=_show_version,
            help="Show the version and exit.",
        )
    ],
)


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run one command line and exit with its exit code."""
    _open_closed()
    codecs.register_error("plain", replaced)
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:  # closed by the parent: the next opened file must not get its number
            setattr(sys, name, Path(os.devnull).open(mode, encoding="utf-8"))  # noqa: SIM115
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            # For a character that the terminal cannot show, print a plain one or its number, instead of a traceback.
            encoding = "ascii" if stream.isatty() and of_few_characters(os.environ) else None
            stream.reconfigure(encoding=encoding, errors="plain")
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    invocation = Invocation()
    status = _run(arguments, invocation)
    _tell_of_clock(invocation)
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        status = _abandon(sys.stdout)
    except OSError as error:
        if error.errno not in local_files.DISK_ERRORS:
            raise
        _abandon(sys.stdout)
        status = _report_failure(_unprinted(error), invocation)
    sys.exit(status)


def _open_closed() -> None:
    """Redirect closed standard streams to the null device; otherwise, the next file or connection gets their number."""
    for number, (name, mode) in enumerate((("stdin", "r"), ("stdout", "w"), ("stderr", "w"))):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # gets the lowest free number
            setattr(sys, name, open(number, mode, encoding="utf-8", closefd=False))  # noqa: SIM115 - stays open


def _run(arguments: list[str], invocation: Invocation) -> int:
    try:
        with told(lambda line: invocation.output.note(line)):
            return _dispatch(arguments, invocation)
    except click.exceptions.Exit as end:
        return end.exit_code
    except click.ClickException as error:
        return _report_usage(error, invocation, arguments)
    except RunnerError as error:
        return _report_failure(error, invocation)
    except (KeyboardInterrupt, click.Abort):
        return _report_interruption(invocation)
    except BrokenPipeError:
        return _abandon(sys.stdout)
    except OSError as error:
        if error.errno in local_files.DISK_ERRORS:
            return _report_failure(_disk_error(error), invocation)
        known = _of_path(error, arguments)
        return _report_bug(error, invocation) if known is None else _report_failure(known, invocation)
    except Exception as error:
        # Compiled packages that were interrupted raise their own errors, with the interruption in the text.
        interrupted = "KeyboardInterrupt" in f"{type(error.__cause__)} {type(error.__context__)} {error}"
        return _report_interruption(invocation) if interrupted else _report_bug(error, invocation)


def _report_interruption(invocation: Invocation) -> int:
    if sys.stderr.isatty():
        click.echo(err=True)  # ends the line on which the terminal shows ^C
    if invocation.interrupted:
        invocation.output.note(invocation.interrupted)
    return INTERRUPTED


def _tell_of_clock(invocation: Invocation) -> None:
    """Warn of a wrong clock: no decision depends on it, but displayed times and logins do."""
    for session in invocation.sessions:
        from runner.gcp.service_clock import off

        found = off(session.clock.ahead())
        if found:
            invocation.output.warning(
                f"{found}; leases and locks go by the service's: set the clock, because logins need it"
            )
            return


def _of_path(error: OSError, arguments: list[str]) -> RunnerError | None:
    """Return the user's mistake behind an error of a path; None if it is not one."""
    if _is_of_state(error):
        hint = "choose another directory: export RUNNER_STATE_DIR=DIRECTORY"
        return local_files.unwritable(Path(os.fsdecode(error.filename)), error, hint=hint)
    given = _path_of_line(error, arguments)
    return None if given is None else local_files.unusable(given, error)


def _path_of_line(error: OSError, arguments: list[str]) -> Path | None:
    """Return the path of an error if the command line contains it or a related path; None if not."""
    if error.filename is None or not isinstance(error.filename, str | bytes):
        return None
    path = Path(os.fsdecode(error.filename)).absolute()
    given = (argument.partition("=")[2] if argument.startswith("--") else argument for argument in arguments)
    named = [_expanded(argument).absolute() for argument in given if argument not in {"", "-"}]
    if any(place == path or place in path.parents for place in named):
        return path
    beside = [place for place in named if place.parent == path.parent]
    # A file is first written under a longer name in the same folder.
    return next((place for place in beside if place.name[:100] in path.name), path if beside else None)


def _expanded(argument: str) -> Path:
    try:
        return local_files.expanded(argument)
    except RunnerError:
        return Path(argument)


def _is_of_state(error: OSError) -> bool:
    """Return whether the given state directory cannot be used, for example because it is a file."""
    from runner.environment import state_directory

    wrong = error.errno in (errno.ENOTDIR, errno.EACCES, errno.EPERM, errno.ELOOP, errno.ENAMETOOLONG)
    return wrong and error.filename is not None and Path(os.fsdecode(error.filename)).is_relative_to(state_directory())


def _disk_error(error: OSError) -> RunnerError:
    """Return the error for a failed write that no code has handled."""
    hint = "free disk space, then run the same command again; it continues where it stopped"
    if error.filename is not None:
        return local_files.unwritable(Path(os.fsdecode(error.filename)), error, hint=hint)
    try:
        sys.stdout.flush()
    except OSError as again:
        _abandon(sys.stdout)
        return _unprinted(again)
    # With PYTHONUNBUFFERED, Python has nothing to flush.
    return DiskError(f"cannot write standard output or a local file: {error.strerror}", path="", hint=hint)


def _unprinted(error: OSError) -> RunnerError:
    hint = "the command has finished, only its output is lost: free disk space, or redirect the output"
    return DiskError(f"cannot write standard output: {error.strerror}", path="-", hint=hint)


def _dispatch(arguments: list[str], invocation: Invocation) -> int:
    """Run the command. Not with click's own `main`, which returns exit code 1 if the reader closes the pipe."""
    wanted_completion = os.environ.get("_RUNNER_COMPLETE")
    if wanted_completion:
        from click.shell_completion import shell_complete

        from runner.cli import completion as completion  # supports one more shell

        return shell_complete(root, {}, "runner", "_RUNNER_COMPLETE", wanted_completion)
    with root.make_context("runner", arguments, obj=invocation) as context:
        root.invoke(context)
    return 0


def _report_failure(error: RunnerError, invocation: Invocation) -> int:
    if invocation.debug:
        _print_traceback()
    _name_options(error, invocation)
    body = error.to_json()
    if "hint" not in body and invocation.command:
        body["hint"] = f"`{invocation.command} --help` has examples"
    invocation.output.failure(body, listed=invocation.has_listed_findings)
    return error.exit_code


def _name_options(error: RunnerError, invocation: Invocation) -> None:
    """Add the names of the options to each problem; the library does not know them."""

    def named(problem: str) -> str:
        fields = problem.settings if isinstance(problem, Problem) else ()
        options = [option for name in fields for option in invocation.options.get(name, ())]
        return f"{problem} ({', '.join(options)})" if options else problem

    if not isinstance(error, ConfigurationError):
        error.message = named(error.message)
    elif any(isinstance(problem, Problem) for problem in error.problems):
        error.problems = list(map(named, error.problems))
        error.message = together(error.problems).message


def _report_usage(error: click.ClickException, invocation: Invocation, arguments: list[str]) -> int:
    if isinstance(error, click.exceptions.NoArgsIsHelpError):
        click.echo(error.format_message(), err=True)
        return 2
    if "json" in _given_formats(arguments) or "--json" in arguments:
        invocation.format = "json"  # parsing failed, so the option may not have been stored
    context = error.ctx if isinstance(error, click.UsageError) else None
    path = context.command_path if context else "runner"
    problems = error.problems if isinstance(error, Mistakes) else [sentence_of(error)]
    first = error.first if isinstance(error, Mistakes) else error
    return _report_failure(together(problems, hint=_usage_hint(first, path)), invocation)


def _usage_hint(error: click.ClickException, path: str) -> str:
    """Return the next command; for a missing option, also its help."""
    parameter = error.param if isinstance(error, click.MissingParameter) else None
    said = (getattr(parameter, "help", None) or "").rstrip(".")
    return f"{said}; `{path} --help` has examples" if "`" in said else f"`{path} --help` has examples"


def _given_formats(arguments: list[str]) -> set[str]:
    following = {after for before, after in itertools.pairwise(arguments) if before == "--format"}
    return following | {argument[9:] for argument in arguments if argument.startswith("--format=")}


def _report_bug(error: Exception, invocation: Invocation) -> int:
    if invocation.debug:
        _print_traceback()
    where = _save_traceback()
    body = {
        "code": "internal",
        "message": f"internal error: {type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}",
        "hint": f"this is a bug in this program; the traceback is in {where}"
        if where
        else "run again with --debug to see the traceback",
    }
    invocation.output.failure(body)
    return INTERNAL_ERROR


def _print_traceback() -> None:
    import traceback

    traceback.print_exc(file=sys.stderr)


def _save_traceback() -> str:
    """Write the current traceback to a new file that only this user can read; return its name, "" on failure."""
    import tempfile
    import traceback

    try:
        descriptor, name = tempfile.mkstemp(prefix="runner-traceback-", suffix=".txt")
        with os.fdopen(descriptor, "w", encoding="utf-8", errors="backslashreplace") as file:
            traceback.print_exc(file=file)
    except OSError:
        return ""
    return name


def _abandon(stream: TextIO) -> int:
    """Redirect a stream to the null device, so that the interpreter's last flush does not fail."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, stream.fileno())
    os.close(nowhere)
    return BROKEN_PIPE
