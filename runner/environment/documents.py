"""The environment document: its address, its contents, and its errors."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from runner import local_files
from runner.environment import contexts
from runner.environment.contexts import Context
from runner.errors import ConfigurationError
from runner.json_text import parsed

DOCUMENT_VERSION = 1
AGENTS = {"aiplatform": "gcp-sa-aiplatform", "tuning": "gcp-sa-vertex-moss-ft"}
"""Service agents by their keys in the document."""
_KNOWN_KEYS = {
    "": {
        "version",
        "project",
        "projectNumber",
        "location",
        "buckets",
        "serviceAgents",
        "runnerServiceAccount",
        "endpoints",
        "apiEndpoints",
        "environment",
        "regions",
        "pipelines",
        "idleGuard",
    },
    "buckets": {"datasets", "images", "outputs", "contract"},
    "serviceAgents": set(AGENTS),
    "endpoints": {"default"},
    "apiEndpoints": {"vertex", "storage"},
}
_OBJECTS = {"version", "regions", "pipelines", "idleGuard", *_KNOWN_KEYS}


@dataclass(frozen=True, slots=True)
class Place:
    """The address of a document."""

    uri: str = ""
    """A file or a `gs://` object; "" if there is none."""
    said_by: str = ""
    """Its source: a flag, a variable, a context, or the running emulator."""
    context: Context | None = None
    """The context in effect."""


def place_of(flags: Mapping[str, str | None], *, addressed: bool) -> Place:
    """Return the address of the document.

    Args:
        flags: those of `resolve`.
        addressed: whether a flag or a variable sets the addresses, so that the emulator does not count.

    Raises:
        ConfigurationError: both a document and a context are given, or the context does not exist.
        UnreachableError: the target is the emulator, which is not running.
    """
    given = flags.get("environment")
    if given and flags.get("context"):
        raise ConfigurationError("give either --environment or --context")
    if given:
        return Place(given, "--environment")
    chosen = contexts.chosen(flags.get("context"))
    variable = os.environ.get("RUNNER_ENVIRONMENT")
    if variable and (chosen is None or chosen[1] != contexts.FLAG):
        return Place(variable, "RUNNER_ENVIRONMENT")
    if chosen is None:
        return Place("" if addressed else contexts.emulator_place(chosen=False) or "", "running emulator")
    context, said_by = chosen
    if context.name == contexts.EMULATOR:
        return Place(contexts.emulator_place(chosen=True) or "", f"{said_by} {contexts.EMULATOR}", context)
    return Place(context.environment, f"context {context.name}", context)


def read(found: Place, read_object: Callable[[str], bytes] | None) -> dict[str, Any]:
    """Return the document at an address. Raises ConfigurationError."""
    place, said_by = found.uri, found.said_by
    try:
        if place.startswith("gs://"):
            if read_object is None:
                raise ConfigurationError(f"{said_by}: {place} cannot be read here; give a file")
            content = read_object(place)
        else:
            content = local_files.expanded(place).read_bytes()
    except OSError as error:
        raise ConfigurationError(f"{said_by}: {place}: {local_files.reason(error)}") from error
    try:
        body = parsed(content)
    except ValueError as error:
        raise ConfigurationError(f"{said_by}: {place} is not JSON: {error}") from error
    if not isinstance(body, dict):
        raise ConfigurationError(f"{said_by}: {place} is not a JSON object")
    return body


def of_region(document: dict[str, Any], flags: Mapping[str, str | None]) -> dict[str, Any]:
    """Return the document with the buckets and endpoints of the requested region, if the stack exists there too."""
    wanted = flags.get("location") or os.environ.get("RUNNER_LOCATION")
    entry = document.get("regions", {}).get(wanted) if wanted and wanted != document.get("location") else None
    if entry is None:
        return document
    buckets = {**document.get("buckets", {}), **entry.get("buckets", {})}
    return {**document, "buckets": buckets, "endpoints": entry.get("endpoints", {})}


def problems_of(document: Mapping[str, Any], origin: str) -> list[str]:
    """Return all errors of a document."""
    version = document.get("version")
    if version != DOCUMENT_VERSION or isinstance(version, bool):
        return [f"{origin}: version {version!r} is not supported; this program reads version {DOCUMENT_VERSION}"]
    problems = []
    for section, known in _KNOWN_KEYS.items():
        node = document.get(section, {}) if section else document
        prefix = f"{section}." if section else ""
        if not isinstance(node, Mapping):
            problems.append(f"{origin}: {section} must be an object, not {type(node).__name__}")
            continue
        for key, value in node.items():
            if key not in known:
                problems.append(f"{origin}: unknown field {prefix}{key}")
            elif not isinstance(value, str) and f"{prefix}{key}" not in _OBJECTS and value is not None:
                problems.append(f"{origin}: {prefix}{key} must be a string, not {type(value).__name__}")
    guard = document.get("idleGuard")
    if guard is not None and not (isinstance(guard, Mapping) and type(guard.get("minutes")) is int):
        problems.append(f"{origin}: idleGuard must be an object with a number of minutes")
    return problems + _region_problems(document.get("regions", {}), origin)


def guard_minutes(document: Mapping[str, Any], project: str, location: str) -> int:
    """Return the minutes between two runs of the idle guard in a location; 0 if the stack's guard does not cover it.

    It covers the regions of its own stack, and no other project.
    """
    looked_after = {document.get("location"), *document.get("regions", {})}
    if project != document.get("project") or location not in looked_after:
        return 0
    return int((document.get("idleGuard") or {}).get("minutes", 0))


def _region_problems(regions: Any, origin: str) -> list[str]:
    if not isinstance(regions, Mapping):
        return [f"{origin}: regions must be an object, not {type(regions).__name__}"]
    problems = []
    for region, entry in regions.items():
        for section in ("buckets", "endpoints"):
            node = entry.get(section, {}) if isinstance(entry, Mapping) else None
            if not isinstance(node, Mapping) or not all(isinstance(value, str) for value in node.values()):
                problems.append(f"{origin}: regions.{region}.{section} must be an object of strings")
    return problems
