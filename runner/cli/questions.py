"""Questions to a person at a terminal. Without one, what is missing is a mistake or has a default."""

from __future__ import annotations

import sys
from typing import Any

import click

from runner.cli.options import Invocation


def at_terminal() -> bool:
    """Return whether a person can read a question and answer it."""
    return sys.stdin is not None and sys.stdin.isatty() and sys.stderr.isatty()


def may_ask(invocation: Invocation) -> bool:
    """Return whether a command asks for what no option says."""
    return not invocation.yes and not invocation.output.is_json and at_terminal()


def asked(question: str, default: str | None = None, kind: Any = None) -> str:
    """Return an answer; empty input is the default, and without a default the question comes again."""
    return str(click.prompt(question, default=default, type=kind, err=True))


def agreed(question: str) -> bool:
    """Ask for agreement; the end of the input is none."""
    try:
        return click.confirm(question, default=False, err=True)
    except click.Abort as abort:
        if isinstance(abort.__cause__, KeyboardInterrupt) or isinstance(abort.__context__, KeyboardInterrupt):
            raise
        return False
