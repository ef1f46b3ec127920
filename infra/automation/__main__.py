"""Command line: `python -m infra.automation VERB`. Prints one JSON document: `{"result": …}` or `{"error": …}`."""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import threading
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

from runner.errors import ConfigurationError, RunnerError
from runner.local_processes import STOPS

VERBS = ("init", "bootstrap", "preview", "up", "refresh", "destroy", "outputs", "graph", "iam", "doctor")


def parser() -> argparse.ArgumentParser:
    """Return the parser."""
    made = argparse.ArgumentParser(prog="python -m infra.automation", description=__doc__)
    made.add_argument("verb", choices=VERBS)
    made.add_argument("--stack", default="dev", help="stack, default: %(default)s")
    made.add_argument("--directory", type=Path, help="folder of Pulumi.yaml, default: the current one")
    made.add_argument("--project", help="project, instead of the stack file's")
    made.add_argument("--location", help="home region, instead of the stack file's")
    made.add_argument("--embedded", action="store_true", help="without the engine, in an emulator")
    made.add_argument("--emulator", metavar="URL", help="address of the emulator, for --embedded and bootstrap")
    made.add_argument("--state", type=Path, help="what --embedded remembers")
    made.add_argument("--dry-run", action="store_true", help="do nothing; return equivalent gcloud commands")
    made.add_argument("--expect-no-changes", action="store_true", help="fail if anything would change")
    made.add_argument("--policies", action="store_true", help="run the policy pack")
    made.add_argument("--confirmed", action="store_true", help="changes were confirmed")
    made.add_argument("--only-check", action="store_true", help="change nothing; return where the verb would act")
    made.add_argument("--install-engine", action="store_true", help="download Pulumi's engine")
    _add_answers(made.add_argument_group("settings of a stack that init writes"))
    return made


def _add_answers(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--kind", help="what the stack is for, default: its name, where that says it")
    group.add_argument("--operator", action="append", metavar="MEMBER", help="who may act as the runner")
    group.add_argument("--notify", action="append", metavar="EMAIL", help="who receives alerts")
    group.add_argument("--budget", type=int, metavar="AMOUNT", help="monthly budget, whole units of the currency")
    group.add_argument("--currency", metavar="CODE", help="of the budget")
    group.add_argument("--billing-account", metavar="ID", help="of the budget")
    group.add_argument("--force", action="store_true", help="overwrite the stack's file")


def main(arguments: list[str] | None = None) -> int:
    """Run one verb and return the exit status."""
    options = parser().parse_args(arguments)
    try:
        if threading.current_thread() is threading.main_thread():
            for number in STOPS:
                signal.signal(number, _stop)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, STOPS)  # the command line has blocked these signals until here
        from infra.automation.verbs import run

        body: dict[str, Any] = {"result": run(options)}
        status = 0
    except RunnerError as error:
        from infra.automation.stack import complete, located

        if isinstance(error, ConfigurationError) and options.verb != "init":
            located(error, options)
        error.hint = error.hint and complete(error.hint, options)
        body = {"error": error.to_json()}
        status = error.exit_code
    except KeyboardInterrupt:
        message = f"{options.verb} of stack {options.stack} was stopped"
        body = {"error": {"code": "interrupted", "message": message, "hint": "run the same command again to continue"}}
        status = 130
    try:
        sys.stdout.write(json.dumps(body) + "\n")
        sys.stdout.flush()
    except BrokenPipeError:  # the process that started this one has ended
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return status


def _stop(number: int, frame: FrameType | None) -> NoReturn:
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
