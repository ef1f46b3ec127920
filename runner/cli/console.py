"""`runner console`: the pages in a browser."""

from __future__ import annotations

import click

from runner.cli import commands
from runner.cli.options import Invocation
from runner.cli.values import Count
from runner.errors import EngineMissingError


@commands.command(
    name="console",
    examples=("runner console", "runner console --open", "runner console --read-only --port 9090"),
)
@click.option("--open", "open_it", is_flag=True, help="Open the address in the default browser.")
@click.option("--read-only", is_flag=True, help="Show everything and refuse every change.")
@click.option("--port", type=Count(0, 65535), help="Port [default: 8090, or a free port if 8090 is taken].")
@click.pass_obj
def command(invocation: Invocation, open_it: bool, read_only: bool, port: int | None) -> None:
    """Run a web console for datasets, jobs, endpoints and costs, on this machine only, until Ctrl-C.

    The console acts where commands act: in the running emulator or on Google Cloud. The printed address works once, for
    one browser; then the command prints a new one.
    """
    try:
        from runner.console.server import serve
    except ImportError as error:
        raise EngineMissingError(
            f"the console needs a package that is not installed: {error.name}",
            hint="pip install 'open-model-tuning[console]'",
        ) from error
    output = invocation.output

    def ready(address: str) -> None:
        output.result({"url": address}, f"{address}", name=address)
        output.note("the console; stop it with Ctrl-C")
        if open_it:
            import webbrowser

            webbrowser.open(address)

    with invocation.session() as session:
        session.environment.require("project")
        serve(
            session,
            port=port,
            read_only=read_only,
            ready=ready,
            announce=lambda address: output.note(f"opened; for another browser: {address}"),
        )
