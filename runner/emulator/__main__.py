"""`python -m runner.emulator`: one server in the foreground, until Ctrl-C or SIGTERM."""

from __future__ import annotations

import argparse
import logging
import os
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from types import FrameType
from typing import get_args

from runner import local_files
from runner.emulator import daemon
from runner.emulator.settings import EmulatorSettings, StandIn
from runner.errors import RunnerError


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    made = argparse.ArgumentParser(prog="python -m runner.emulator", description=__doc__)
    made.add_argument("--directory", type=Path, required=True, help="state directory; made if it is missing")
    made.add_argument("--host", default="127.0.0.1", help="address to bind; all but loopback need a token")
    made.add_argument("--port", type=int, help="default: 8085, or a free one if it is taken; 0: a free one")
    made.add_argument(
        "--stand-in", choices=get_args(StandIn), default="auto", help="small model behind each base model"
    )
    made.add_argument("--model-directory", action="append", default=[], metavar="ID=PATH", help="real weights")
    made.add_argument("--concurrent-tuning-jobs", type=int, default=1, metavar="N", help="jobs that run at once")
    made.add_argument("--training-threads", type=int, default=2, metavar="N", help="threads of one training process")
    made.add_argument(
        "--allow-host", action="append", default=[], metavar="NAME", help="further Host name to answer to"
    )
    made.add_argument("--dedicated-certificate", type=Path, metavar="PEM", help="makes dedicated endpoints possible")
    made.add_argument("--dedicated-key", type=Path, metavar="PEM", help="its key")
    made.add_argument("--dedicated-port", type=int, default=0, metavar="N", help="their port; 0: a free one")
    made.add_argument(
        "--dedicated-host", default="localhost", metavar="NAME", help="their name; {endpoint}, {location}, {number}"
    )
    made.add_argument(
        "--fault", action="append", default=[], metavar="METHOD:ACTION", help="see `runner explain faults`"
    )
    made.add_argument("--time-scale", type=float, default=1.0, metavar="N", help="how much faster its clock runs")
    made.add_argument("--ready-file", type=Path, help="file that receives the address once it can be reached")
    made.epilog = f"The variable {daemon.TOKEN_VARIABLE} makes it demand that bearer token of every request."
    return made


def run(
    settings: EmulatorSettings, *, ready_file: Path | None = None, ready: Callable[[str], None] | None = None
) -> int:
    """Serve until a signal; return the exit code.

    Args:
        settings: the settings of the server.
        ready_file: see `server.serve`.
        ready: called with the address when the server is ready.
    """
    daemon.check_installed()
    from runner.emulator.server import StateInUseError, UnsafeAddressError, serve

    def announce(url: str) -> None:
        daemon.announce(settings, url)
        if ready is not None:
            ready(url)

    asked: list[int] = []

    def note(number: int, _frame: FrameType | None) -> None:
        """Record a SIGTERM during the start, or one that the server raises again after a proper end.

        An exception raised here could be lost, because it is raised at an arbitrary point of the program.
        """
        asked.append(number)

    previous = signal.signal(signal.SIGTERM, note)
    try:
        serve(settings, ready_file=ready_file, on_ready=announce, is_asked_to_stop=lambda: bool(asked))
    except KeyboardInterrupt:
        return 0
    except StateInUseError as error:
        raise RunnerError(str(error), hint="`runner emulator stop` stops it") from error
    except UnsafeAddressError as error:
        raise RunnerError(str(error)) from error
    except OSError as error:
        if error.errno in local_files.DISK_ERRORS:
            raise local_files.unwritable(settings.directory, error) from error
        raise RunnerError(f"cannot listen on {settings.host}:{settings.port}: {error.strerror or error}") from error
    finally:
        daemon.withdraw(settings.directory)
        signal.signal(signal.SIGTERM, previous)
    return 0


def main(arguments: Sequence[str] | None = None) -> int:
    """Parse the command line and serve."""
    given = parser().parse_args(arguments)
    logging.basicConfig(format="%(asctime)s %(levelname)s %(name)s: %(message)s", level=logging.INFO)
    logging.getLogger("httpx").setLevel(logging.WARNING)  # a line for every request to a deployed model
    settings = EmulatorSettings(
        directory=given.directory,
        host=given.host,
        port=daemon.free_port(given.host) if given.port is None else given.port,
        token=os.environ.pop(daemon.TOKEN_VARIABLE, None),
        allowed_hosts=tuple(given.allow_host),
        dedicated_certificate=given.dedicated_certificate,
        dedicated_key=given.dedicated_key,
        dedicated_port=given.dedicated_port,
        dedicated_host=given.dedicated_host,
        stand_in=given.stand_in,
        model_directories=dict(_model_directory(text) for text in given.model_directory),
        concurrent_tuning_jobs=given.concurrent_tuning_jobs,
        training_threads=given.training_threads,
        faults=tuple(given.fault),
        time_scale=given.time_scale,
    )
    try:
        return run(settings, ready_file=given.ready_file)
    except RunnerError as error:
        logging.getLogger("runner.emulator").error("%s", error.message)
        return error.exit_code


def _model_directory(text: str) -> tuple[str, Path]:
    model, _, path = text.partition("=")
    return model, Path(path)


if __name__ == "__main__":
    sys.exit(main())
