"""Handlers that all these collections share: get one document, delete it with everything below it."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from typing import Any

from runner.emulator import store
from runner.emulator.aiplatform import long_running, scope, tuning_experiments
from runner.emulator.resources import reading, writing
from runner.emulator.routing import ApiRequest, Handler

Document = dict[str, Any]
NameOf = Callable[[sqlite3.Connection, ApiRequest], str]
"""Returns the name of the resource in a path."""


def missing(message: str, name: str) -> str:
    """Return the message for a resource that does not exist."""
    return f"The {message} {name} is not found."


def get_and_delete(
    kind: str,
    message: str,
    name_of: NameOf,
    view: Callable[[sqlite3.Connection, Document], Document] = lambda _, document: document,
) -> tuple[Handler, Handler]:
    """Return the handlers that return a document, converted by `view`, and that delete it."""

    @reading
    def got(connection: sqlite3.Connection, request: ApiRequest) -> Document:
        name = name_of(connection, request)
        return view(connection, store.get(connection, kind, name, missing=missing(message, name)))

    @writing
    def deleted(connection: sqlite3.Connection, request: ApiRequest) -> Document:
        name = name_of(connection, request)
        tuning_experiments.remove(connection, kind, name, missing=missing(message, name))
        where = scope.resolve(connection, request.fields).name
        return long_running.done(connection, request, where, "Delete")

    return got, deleted
