"""`runner emulator`: the local server's process, state and variables."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from runner.cli.commands import Group

if TYPE_CHECKING:
    from runner.running_emulator import ServerInfo

command = Group(
    name="emulator",
    help="Run a local server with Google's APIs: its tuning jobs train models, its endpoints serve them.",
    examples=(
        "runner emulator start",
        "runner emulator provision",
        'eval "$(runner emulator env)"',
        "runner emulator stop",
    ),
    lazy={
        "start": ("runner.cli.emulator.process:start", "Start the emulator, unless it is already running."),
        "stop": ("runner.cli.emulator.process:stop", "Stop the emulator and keep its state."),
        "status": ("runner.cli.emulator.process:status", "Show the address of the running emulator."),
        "provision": (
            "runner.cli.emulator.state:provision",
            "Set up a project in the emulator with the Pulumi program.",
        ),
        "env": ("runner.cli.emulator.state:env", "Print variables that point Google's tools at the emulator."),
        "key": ("runner.cli.emulator.state:key", "Create a key file for a service account in the emulator."),
        "faults": ("runner.cli.emulator.faults", "Inject faults: errors, delays, stalls."),
        "logs": ("runner.cli.emulator.process:logs", "Show the emulator's log."),
        "reset": ("runner.cli.emulator.state:reset", "Stop the emulator and delete its state."),
    },
)


def running() -> Any:
    """Return the running emulator. Raises UnreachableError."""
    from runner import running_emulator
    from runner.errors import UnreachableError
    from runner.state import emulator_directory

    found = running_emulator.find(emulator_directory())
    if found is None:
        raise UnreachableError("no emulator is running", hint="`runner emulator start`")
    return found


def ask(
    method: str,
    path: str,
    body: Any = None,
    *,
    about: str,
    hint: str,
    info: ServerInfo | None = None,
    missing: bool = False,
) -> Any:
    """Return the running emulator's response. Raises UnreachableError, and ConfigurationError for refused requests.

    Args:
        method: the HTTP method.
        path: the path.
        body: JSON values.
        about: the subject of the request, for messages.
        hint: the hint for refused requests.
        info: an emulator other than the running one.
        missing: return None for 404.
    """
    from runner.errors import ConfigurationError
    from runner.gcp.failures import call
    from runner.gcp.rest import RestClient

    info = info or running()
    headers = {"authorization": f"Bearer {info.token}"} if info.token else {}
    with RestClient(info.url, trust_environment=False) as client:
        response = call(about, info.url, lambda: client.request(method, path, json=body, headers=headers, timeout=30))
    if missing and response.status_code == 404:
        return None
    if not response.is_success:
        mend = "`runner emulator logs` says more" if response.status_code >= 500 else hint
        raise ConfigurationError(str(response.json()["error"]["message"]), hint=mend)
    return response.json()
