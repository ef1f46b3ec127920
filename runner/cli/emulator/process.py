"""`runner emulator start|stop|status|logs`."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import click

from runner.cli.commands import command
from runner.cli.emulator.group import running
from runner.cli.options import Invocation
from runner.cli.values import INPUT, Count, Duration, OneOf, Quantity
from runner.errors import ConfigurationError, require_sound
from runner.state import emulator_directory


@command(
    name="start",
    examples=(
        "runner emulator start",
        "runner emulator start --port 9000 --jobs 2",
        "runner emulator start --model-directory meta/llama3-2@llama-3.2-1b-instruct=./llama-1b",
        "runner emulator start --fault tuningJobs.get:status=503,times=3 --fault job:quota-wait=20",
        "runner emulator start --foreground",
    ),
)
@click.option("--port", type=Count(0, 65535), help="Port [default: 8085, or a free port if 8085 is taken].")
@click.option(
    "--host",
    default="127.0.0.1",
    show_default=True,
    help="Address to listen on; an address other than loopback needs --token.",
)
@click.option(
    "--token",
    envvar="RUNNER_EMULATOR_TOKEN",
    show_envvar=True,
    help="Require this bearer token. Other users can read command lines: set the variable instead.",
)
@click.option(
    "--stand-in",
    type=OneOf(["auto", "smollm2", "tiny"]),
    default="auto",
    show_default=True,
    envvar="RUNNER_EMULATOR_STAND_IN",
    show_envvar=True,
    help="Small model that stands in for base models whose weights are not on this machine.",
)
@click.option(
    "--model-directory",
    "model_directories",
    multiple=True,
    metavar="ID=PATH",
    help="Folder with the real weights of a base model; repeatable.",
)
@click.option(
    "--jobs",
    "concurrent_tuning_jobs",
    type=Count(1),
    default=1,
    show_default=True,
    help="Maximum number of concurrent tuning jobs.",
)
@click.option(
    "--fault",
    "faults",
    multiple=True,
    metavar="METHOD:ACTION",
    help="Fault to inject from the start (`runner explain faults`); repeatable.",
)
@click.option(
    "--time-scale",
    type=Quantity(0.001, 100_000),
    default=1.0,
    metavar="N",
    help="Run the clock N times faster: timestamps, expiry and delays of faults, but not training [default: 1].",
)
@click.option(
    "--dedicated",
    nargs=2,
    type=INPUT,
    metavar="CERTIFICATE KEY",
    help="Serve dedicated endpoints over TLS on localhost with these PEM files.",
)
@click.option("--foreground", is_flag=True, help="Run in the foreground until Ctrl-C.")
@click.option(
    "--timeout", type=Duration(), default=60.0, help="How long to wait for the emulator to answer [default: 60s]."
)
@click.pass_obj
def start(
    invocation: Invocation,
    /,
    port: int | None,
    model_directories: tuple[str, ...],
    faults: tuple[str, ...],
    dedicated: tuple[Path, Path] | None,
    foreground: bool,
    timeout: float,
    **choices: Any,
) -> None:
    """Start the emulator and return once it answers.

    It runs until `runner emulator stop`. Starting it twice is not an error.
    """
    from runner.cli.emulator.faults import armed, checked
    from runner.emulator import daemon
    from runner.emulator.settings import EmulatorSettings

    settings = EmulatorSettings(
        directory=emulator_directory(),
        port=daemon.free_port(choices["host"]) if port is None else port,
        model_directories=_model_directories(model_directories),
        faults=checked(faults),
        dedicated_certificate=dedicated[0] if dedicated else None,
        dedicated_key=dedicated[1] if dedicated else None,
        **choices,
    )
    output = invocation.output
    if foreground:
        from runner.emulator.__main__ import run

        run(settings, ready=lambda url: output.note(f"listening on {url}; stop with Ctrl-C"))
        return
    info, fresh = daemon.start(settings, port=port, timeout=timeout)
    provisioned = (settings.directory / "environment.json").exists()
    body = {**info.describe(settings.directory), "alreadyRunning": not fresh, "provisioned": provisioned}
    output.result(body, [("url", info.url), ("log", body["log"])], name=info.url)
    if not fresh:
        output.note("it ran already")
    if left := [text for text in armed() if text not in faults]:
        output.warning(
            f"faults from earlier are still active: {'; '.join(left)}; `runner emulator faults clear` removes them"
        )
    if not provisioned:
        output.note("next: `runner emulator provision`")
    output.note("in a browser: `runner console --open`")
    _tell_context(invocation)


def _tell_context(invocation: Invocation) -> None:
    """Print where commands act if that is not this emulator."""
    from runner.environment import contexts

    chosen = contexts.chosen(invocation.context)
    if chosen is not None and chosen[0].name != contexts.EMULATOR:
        invocation.output.warning(
            f"commands act in context {chosen[0].name} ({chosen[1]}): `runner use emulator` changes that"
        )


@command(name="stop", examples=("runner emulator stop",))
@click.pass_obj
def stop(invocation: Invocation) -> None:
    """Stop the emulator and keep its state; running jobs continue at the next start."""
    from runner.cli.emulator.faults import unused
    from runner.emulator import daemon

    idle = unused()
    stopped = daemon.stop(emulator_directory())
    body: dict[str, Any] = {"stopped": stopped}
    if idle:
        body["unusedFaults"] = idle
        invocation.output.warning(f"faults that never fired: {'; '.join(idle)}")
    invocation.output.result(body, "stopped" if stopped else "no emulator was running")
    if stopped:
        invocation.output.note(
            "until you start it again, commands in its context fail; `runner use google` switches to Google Cloud"
        )


@command(name="status", examples=("runner emulator status", "runner emulator status --format json"))
@click.pass_obj
def status(invocation: Invocation) -> None:
    """Show the address of the running emulator. The exit code is 69 if none is running."""
    from runner.emulator.definitions import documents

    info = running()
    place = emulator_directory()
    document = place / "environment.json"
    body = {**info.describe(place), "environment": str(document) if document.exists() else None}
    body["definitions"] = documents.revisions()
    labels = ("url", "pid", "started", "directory", "log", "environment")
    shown = [(label, body[label]) for label in labels]
    shown.append(("definitions", f"Google's aiplatform v1beta1 of {body['definitions']['aiplatform.v1beta1']}"))
    invocation.output.result(body, shown, name=info.url)
    if not document.exists():
        invocation.output.note("it has no project yet: `runner emulator provision`")


@command(
    name="logs",
    examples=("runner emulator logs --lines 20", "runner emulator logs --follow", "runner emulator logs --requests"),
)
@click.option("-n", "--lines", type=Count(0), default=50, show_default=True, help="Number of lines from the end.")
@click.option("-f", "--follow", is_flag=True, help="Print new lines until Ctrl-C.")
@click.option("--requests", is_flag=True, help="Show only requests: method, path, status, time to the answer.")
@click.pass_obj
def logs(invocation: Invocation, lines: int, follow: bool, requests: bool) -> None:
    """Show the end of the emulator's log: requests and errors."""
    from runner.running_emulator import LOG_FILE

    path: Path = emulator_directory() / LOG_FILE
    try:
        with path.open(encoding="utf-8", errors="replace") as file:
            recent = [line for line in file if not requests or _REQUESTS in line]
            shown = recent[-lines:] if lines else []
            _print_lines(invocation, shown)
            while follow:
                line = file.readline()
                if line and requests and _REQUESTS not in line:
                    continue
                if line:
                    _print_lines(invocation, [line])
                else:
                    time.sleep(0.3)
    except FileNotFoundError as error:
        raise ConfigurationError(
            f"there is no log at {path}", hint="start the emulator: `runner emulator start`"
        ) from error


_REQUESTS = " runner.emulator.access_log: "
"""The parts of a log line of a request."""


def _print_lines(invocation: Invocation, lines: list[str]) -> None:
    for line in lines:
        if invocation.output.is_json:
            invocation.output.document({"line": line.rstrip("\n")}, lines=True)
        else:
            invocation.output.piece(line)


def _model_directories(texts: tuple[str, ...]) -> dict[str, Path]:
    from runner.catalog import find_model

    found, problems = {}, []
    for text in texts:
        name, separator, path = text.partition("=")
        if not separator:
            problems.append(f"--model-directory {text!r} is not ID=PATH")
        elif not Path(path).is_dir():
            problems.append(f"--model-directory {name}: {path} is not a directory")
        else:
            found[find_model(name).id] = Path(path).absolute()
    require_sound(problems)
    return found
