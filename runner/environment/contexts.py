"""Contexts: named targets of commands, and the one in use.

`contexts.json` in the state directory contains both. Two contexts always exist: `emulator`, the one on this machine,
and `google`, which uses flags and `RUNNER_*` variables for Google Cloud. If no context was chosen, commands use the
emulator on this machine if it has a project, otherwise Google Cloud.
"""

from __future__ import annotations

import json
import os
import re
from dataclasses import dataclass
from typing import Any

from runner import local_files
from runner.errors import ConfigurationError, UnreachableError, require_sound
from runner.json_text import parsed
from runner.state import emulator_document, emulator_runs, state_directory

FLAG = "--context"
VARIABLE = "RUNNER_CONTEXT"
EMULATOR = "emulator"
GOOGLE = "google"
BUILT_IN = (EMULATOR, GOOGLE)
_VERSION = 1
_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,62}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """A named target. Flags, variables and the document set the fields that are ""."""

    name: str
    environment: str = ""
    """Environment document: a file or a `gs://` object."""
    project: str = ""
    location: str = ""

    def to_json(self) -> dict[str, str]:
        """Return the known fields."""
        fields = {"environment": self.environment, "project": self.project, "location": self.location}
        return {"name": self.name, **{key: value for key, value in fields.items() if value}}


@dataclass(frozen=True, slots=True)
class Contexts:
    """The contents of `contexts.json`."""

    current: str = ""
    """The context in use; "" if none was chosen."""
    saved: tuple[Context, ...] = ()

    def find(self, name: str, *, said_by: str = "") -> Context:
        """Return a context. Raises ConfigurationError."""
        if name in BUILT_IN:
            return Context(name=name)
        for context in self.saved:
            if context.name == name:
                return context
        known = ", ".join([*BUILT_IN, *(context.name for context in self.saved)])
        message = f"{f'{said_by}: ' if said_by else ''}no context is called {name!r}; there are {known}"
        raise ConfigurationError(message, hint="`runner context ls` lists them, `runner context add` saves one")


def load() -> Contexts:
    """Return the contexts of this user. Raises ConfigurationError if the file is damaged."""
    path = state_directory() / "contexts.json"
    try:
        body = parsed(path.read_bytes())
        if body["version"] != _VERSION:
            raise ValueError(f"version {body['version']!r} is not supported")
        saved = tuple(Context(name=name, **fields) for name, fields in body["contexts"].items())
        return Contexts(str(body["current"]), saved)
    except (FileNotFoundError, NotADirectoryError):
        return Contexts()
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ConfigurationError(f"{path} cannot be read: {error}", hint=f"delete {path} to start over") from error


def add(context: Context) -> None:
    """Save a context under a new name. Raises ConfigurationError, DiskError."""
    problems = []
    if not _NAME.fullmatch(context.name):
        problems.append(f"{context.name!r} is not a context name: use lower-case letters, digits, '.', '_' and '-'")
    if context.name in BUILT_IN:
        problems.append(f"{context.name!r} is built in and cannot be replaced")
    if not context.environment and not context.project:
        problems.append("a context needs --environment FILE, or --project ID with --location NAME")
    before = load()
    if any(known.name == context.name for known in before.saved):
        problems.append(f"a context called {context.name!r} exists")
        require_sound(problems, hint=f"`runner context rm {context.name}` removes it")
    sound = context.name if _NAME.fullmatch(context.name) and context.name not in BUILT_IN else "NAME"
    require_sound(problems, hint=f"`runner context add {sound} --environment FILE`")
    _save(Contexts(before.current, (*before.saved, context)))


def remove(name: str) -> None:
    """Remove a context; if it is in use, none is in use afterwards. Raises ConfigurationError, DiskError."""
    before = load()
    before.find(name)
    if name in BUILT_IN:
        raise ConfigurationError(f"{name!r} is built in and cannot be removed")
    current = "" if before.current == name else before.current
    _save(Contexts(current, tuple(context for context in before.saved if context.name != name)))


def use(name: str) -> None:
    """Use a context from now on. Raises ConfigurationError, DiskError."""
    before = load()
    before.find(name)
    _save(Contexts(name, before.saved))


def _save(contexts: Contexts) -> None:
    saved: dict[str, Any] = {}
    for context in contexts.saved:
        body = context.to_json()
        saved[body.pop("name")] = body
    directory = state_directory()
    try:
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as error:
        raise local_files.unwritable(directory, error) from error
    whole = {"version": _VERSION, "current": contexts.current, "contexts": saved}
    local_files.replace(directory / "contexts.json", json.dumps(whole, indent=1) + "\n", private=True)


def chosen(flag: str | None) -> tuple[Context, str] | None:
    """Return the context in use and its source: the flag, the variable, or `runner use`; None if none was chosen.

    Raises:
        ConfigurationError: the context does not exist.
    """
    contexts = load()
    for name, said_by in ((flag, FLAG), (os.environ.get(VARIABLE), VARIABLE), (contexts.current, "runner use")):
        if name:
            return contexts.find(name, said_by=said_by), said_by
    return None


def emulator_place(*, chosen: bool) -> str | None:
    """Return the environment document of the emulator; None if there is no emulator and it was not chosen.

    A stopped emulator is an error, not a reason to switch to Google Cloud.

    Raises:
        UnreachableError: it is not running.
        ConfigurationError: it has no project.
    """
    runs, document = emulator_runs(), emulator_document()
    if runs and document.is_file():
        return str(document)
    if runs:
        message = "the emulator has no project yet"
        hint = f"run `runner emulator provision`, or `runner use {GOOGLE}` to switch to Google Cloud"
        raise ConfigurationError(message, hint=hint)
    if chosen or document.is_file():
        raise UnreachableError(
            "commands act in the emulator, which is not running",
            hint=f"run `runner emulator start`, or `runner use {GOOGLE}` to switch to Google Cloud",
        )
    return None
