"""Deployments whose command did not end: said by commands that read, dealt with by commands that change."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from runner.cli.options import Invocation
    from runner.gcp.session import Session


def settle(invocation: Invocation, session: Session) -> None:
    """Finish or remove what an interrupted or killed deployment left, before anything else is changed."""
    from runner.serving import deploying

    deploying.settle(session, invocation.output.note)


def mention(invocation: Invocation, session: Session) -> None:
    """Warn of deployments whose command did not end."""
    from runner.serving.recovery import abandoned_records

    found = abandoned_records(session)
    if found:
        names = ", ".join(record.endpoint.rsplit("/", 1)[-1] for record in found)
        invocation.output.warning(f"a deployment was interrupted on {names}: `runner leaks --clean` resolves it")
