"""Questions to the user at a terminal. Without a terminal, missing values are errors or have defaults."""

from __future__ import annotations

import sys
from typing import Any

import click

from runner.cli.options import Invocation


def at_terminal() -> bool:
    """Return whether the user can read a question and answer it."""
    return sys.stdin is not None and sys.stdin.isatty() and sys.stderr.isatty()


def may_ask(invocation: Invocation) -> bool:
    """Return whether a command asks for values that no option contains."""
    return not invocation.yes and not invocation.output.is_json and at_terminal()


def asked(question: str, default: str | None = None, kind: Any = None) -> str:
    """Return an answer; empty input selects the default, and without a default the question is repeated."""
    return str(click.prompt(question, default=default, type=kind, err=True))


def agreed(question: str) -> bool:
    """Ask for confirmation; the end of the input does not confirm."""
    try:
        return click.confirm(question, default=False, err=True)
    except click.Abort as abort:
        if isinstance(abort.__cause__, KeyboardInterrupt) or isinstance(abort.__context__, KeyboardInterrupt):
            raise
        return False
