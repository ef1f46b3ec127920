"""The entry point: global options, the table of commands, and the one place where errors become exit codes."""

from __future__ import annotations

import errno
import itertools
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn, TextIO

import click

from runner import local_files
from runner.cli.commands import Group
from runner.cli.options import Invocation
from runner.errors import DiskError, RunnerError

INTERNAL_ERROR = 70
"""Exit code of a bug in this program (EX_SOFTWARE of sysexits.h)."""
INTERRUPTED = 130
BROKEN_PIPE = 141
"""What a shell reports of a program that SIGPIPE ended: the reader went away, which is no failure of ours."""

COMMANDS = {
    "quickstart": ("runner.cli.quickstart", "Tune a small model on this machine and compare it with its base."),
    "emulator": ("runner.cli.emulator.group", "The local server that speaks Google's protocols."),
    "environment": ("runner.cli.environment", "Where commands work: project, location, buckets."),
    "models": ("runner.cli.models", "Base models: limits, modes, prices."),
    "data": ("runner.cli.data.group", "Check datasets and upload them."),
    "estimate": ("runner.cli.estimate", "What a tuning job would cost."),
    "jobs": ("runner.cli.jobs.group", "Tuning jobs: submit, follow, cancel."),
    "plan": ("runner.cli.manifests.plan", "What applying manifests would do, and what it would cost."),
    "apply": ("runner.cli.manifests.apply", "Create the jobs that manifests ask for, each once."),
    "drift": ("runner.cli.manifests.plan:drift", "Whether manifests, records and jobs still agree."),
    "queue": ("runner.cli.manifests.queue_commands", "Jobs that wait for a slot of the quota."),
    "schema": ("runner.cli.manifests.schema", "The JSON Schema of manifests."),
    "checkpoints": ("runner.cli.checkpoints.group", "What a tuning job wrote: list, download, prune."),
    "reproduce": ("runner.cli.reproduce", "Run a job again as it was, from its run manifest."),
    "endpoints": ("runner.cli.endpoints.group", "Serve a tuned model, and stop serving it."),
    "leaks": ("runner.cli.leaks", "What costs money though nobody wants it; --clean removes it."),
    "predict": ("runner.cli.asking.predict", "Send instances to an endpoint."),
    "batch": ("runner.cli.asking.batch", "A file of questions through an endpoint."),
    "eval": ("runner.cli.asking.evaluate", "Is the tuned model better than its base? With intervals."),
    "chat": ("runner.cli.asking.chat", "Talk with a tuned model."),
    "infra": ("runner.cli.infra.group", "Set up a Google Cloud project with the Pulumi program."),
    "doctor": ("runner.cli.doctor", "Find out what is missing here, and how to mend it."),
}

_DESCRIPTION = """Managed tuning of open models on Google Cloud: provision, check, tune, deploy, ask.

The same commands work against the local emulator and against Google Cloud.
"""

_EPILOGUE = "`runner COMMAND --help` has examples. Exit codes: docs/errors.md."


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
            ["--version"], is_flag=True, expose_value=False, is_eager=True, callback=_show_version, help="Show it."
        )
    ],
)


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run one command line and leave with its exit code."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            # A terminal that cannot show a character gets its number instead of a traceback.
            stream.reconfigure(errors="backslashreplace")
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    invocation = Invocation()
    status = _run(arguments, invocation)
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


def _run(arguments: list[str], invocation: Invocation) -> int:
    try:
        return _dispatch(arguments, invocation)
    except click.exceptions.Exit as end:
        return end.exit_code
    except click.ClickException as error:
        return _report_usage(error, invocation, arguments)
    except RunnerError as error:
        return _report_failure(error, invocation)
    except (KeyboardInterrupt, click.Abort):
        if sys.stderr.isatty():
            click.echo(err=True)  # ends the line on which the terminal shows ^C
        if invocation.interrupted:
            invocation.output.note(invocation.interrupted)
        return INTERRUPTED
    except BrokenPipeError:
        return _abandon(sys.stdout)
    except OSError as error:
        if error.errno in local_files.DISK_ERRORS:
            return _report_failure(_disk_error(error), invocation)
        if _is_of_state(error):
            hint = "export RUNNER_STATE_DIR=DIRECTORY names another directory"
            return _report_failure(
                local_files.unwritable(Path(os.fsdecode(error.filename)), error, hint=hint), invocation
            )
        return _report_bug(error, invocation)
    except Exception as error:
        return _report_bug(error, invocation)


def _is_of_state(error: OSError) -> bool:
    """Tell whether the directory that this tool was given for its state cannot be used: a file is in the way, or so."""
    from runner.environment import state_directory

    wrong = error.errno in (errno.ENOTDIR, errno.EACCES, errno.EPERM, errno.ELOOP, errno.ENAMETOOLONG)
    return wrong and error.filename is not None and Path(os.fsdecode(error.filename)).is_relative_to(state_directory())


def _disk_error(error: OSError) -> RunnerError:
    """Return the failure of a write that nobody has caught where it was made."""
    hint = "make room, then the same command again: what was done on the service is found"
    if error.filename is not None:
        return local_files.unwritable(Path(os.fsdecode(error.filename)), error, hint=hint)
    try:
        sys.stdout.flush()
    except OSError as again:
        _abandon(sys.stdout)
        return _unprinted(again)
    # Python keeps nothing to flush where PYTHONUNBUFFERED is set.
    return DiskError(f"cannot write standard output or a local file: {error.strerror}", path="", hint=hint)


def _unprinted(error: OSError) -> RunnerError:
    hint = "what the command did is done, only its output is lost: make room, or send it elsewhere"
    return DiskError(f"cannot write standard output: {error.strerror}", path="-", hint=hint)


def _dispatch(arguments: list[str], invocation: Invocation) -> int:
    """Run the command. Not click's own `main`, which makes exit code 1 of a reader that went away."""
    wanted_completion = os.environ.get("_RUNNER_COMPLETE")
    if wanted_completion:
        from click.shell_completion import shell_complete

        return shell_complete(root, {}, "runner", "_RUNNER_COMPLETE", wanted_completion)
    with root.make_context("runner", arguments, obj=invocation) as context:
        root.invoke(context)
    return 0


def _report_failure(error: RunnerError, invocation: Invocation) -> int:
    if invocation.debug:
        _print_traceback()
    invocation.output.failure(error.to_json(), listed=invocation.has_listed_findings)
    return error.exit_code


def _report_usage(error: click.ClickException, invocation: Invocation, arguments: list[str]) -> int:
    if isinstance(error, click.exceptions.NoArgsIsHelpError):
        click.echo(error.format_message(), err=True)
        return 2
    if "json" in _given_formats(arguments):
        invocation.format = "json"  # the line was not understood, so the option may not have been stored
    context = error.ctx if isinstance(error, click.UsageError) else None
    path = context.command_path if context else "runner"
    message = error.format_message().rstrip(".")
    body: dict[str, Any] = {
        "code": "configuration",
        "message": message[:1].lower() + message[1:],
        "hint": f"`{path} --help` has examples",
        "problems": [message],
    }
    invocation.output.failure(body)
    return 2


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
        "hint": f"this is a bug in this program; the traceback is in {where}" if where else "--debug shows where",
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
    """Point a stream nowhere, so that the interpreter's last flush does not complain either."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, stream.fileno())
    os.close(nowhere)
    return BROKEN_PIPE
