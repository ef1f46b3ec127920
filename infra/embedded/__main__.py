"""Command line: `python -m infra.embedded --emulator http://127.0.0.1:8085`."""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path

from infra.embedded.apply import DEFAULT_PROJECT, ApplyResult, apply, destroy
from infra.settings.stack import DEFAULT_REGION
from runner.environment import state_directory
from runner.errors import ConfigurationError, RunnerError
from runner.local_files import replace

NOTICE = "This is not the Pulumi engine: the same program, evaluated here and made through the emulator's REST."

DEFAULT_URL = "http://127.0.0.1:8085"
TOKEN_VARIABLE = "RUNNER_EMULATOR_TOKEN"  # noqa: S105 - the name of a variable
"""Environment variable with the token of an emulator that requires one; it is not written to the state file."""


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m infra.embedded",
        description="Apply the infrastructure program to a local emulator, without the Pulumi engine.",
        epilog=f"An emulator that was started with a token wants it in {TOKEN_VARIABLE}.",
    )
    parser.add_argument("--emulator", metavar="URL", help=f"default: {DEFAULT_URL}, for --destroy where it was")
    parser.add_argument("--project", default=DEFAULT_PROJECT, help="project id, default: %(default)s")
    parser.add_argument("--location", default=DEFAULT_REGION, help="region, default: %(default)s")
    parser.add_argument("--output", metavar="FILE", type=Path, help="write the environment document here")
    parser.add_argument("--state", metavar="FILE", type=Path, help="file that remembers what was made")
    parser.add_argument("--destroy", action="store_true", help="delete what the state remembers and is not protected")
    parser.add_argument(
        "--config", metavar="KEY=VALUE", action="append", default=[], help="a setting, as in Pulumi.yaml; repeatable"
    )
    return parser


def _report(result: ApplyResult) -> None:
    for mark, names in (
        ("+", result.created),
        ("~", result.updated),
        ("-", result.deleted),
        ("kept:", result.kept),
        ("protected:", result.protected),
    ):
        for name in names:
            sys.stderr.write(f" {mark} {name}\n")
    counts = ("created", "updated", "unchanged", "deleted")
    sys.stderr.write(", ".join(f"{len(getattr(result, name))} {name}" for name in counts) + "\n")


def _token() -> dict[str, str]:
    token = os.environ.get(TOKEN_VARIABLE)
    return {"gcp:accessToken": token} if token else {}


def _config(pairs: list[str]) -> dict[str, str]:
    wrong = [pair for pair in pairs if "=" not in pair]
    if wrong:
        problems = [f"--config {pair!r} is not KEY=VALUE" for pair in wrong]
        raise ConfigurationError("; ".join(problems), problems=problems)
    return dict(pair.split("=", 1) for pair in pairs)


def main(arguments: list[str] | None = None) -> int:
    """Run the command line and return its exit status."""
    options = _parser().parse_args(arguments)
    state = options.state or state_directory() / "infra.json"
    sys.stderr.write(NOTICE + "\n")
    try:
        if options.destroy:
            token = os.environ.get(TOKEN_VARIABLE)
            _report(destroy(state, project=options.project, url=options.emulator, token=token))
            return 0
        result = apply(
            options.emulator or DEFAULT_URL,
            project=options.project,
            location=options.location,
            config={**_token(), **_config(options.config)},
            state=state,
        )
        text = json.dumps(result.environment, indent=2, sort_keys=True) + "\n"
        if options.output:
            replace(options.output, text)
    except KeyboardInterrupt:
        sys.stderr.write("error: it was stopped; run the same command again: it goes on from there\n")
        return 130
    except RunnerError as error:
        # On one line if possible: the program that started this process may show only its last line.
        message = error.message.replace(":\n  ", ": ").replace("\n  ", "; ")
        sys.stderr.write(f"error: {message}" + (f" ({error.hint})\n" if error.hint else "\n"))
        return error.exit_code
    _report(result)
    if not options.output:
        sys.stdout.write(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
