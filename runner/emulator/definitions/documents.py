"""The contents of `data/`: methods by ID, paths of all methods of Google, messages. Read when first used."""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

DATA = Path(__file__).parent / "data"

_VERSION = re.compile(r"v\d+(?:(?:alpha|beta)\d*)?\Z")
_ALIASES = {"ui": "v1beta1"}
"""SDKs poll operations below `/ui/`, which is another name for v1beta1."""


@dataclass(frozen=True, slots=True)
class MethodDefinition:
    """One method of one version of an API."""

    document: Document
    http: str
    query: Mapping[str, str]
    """Types of the query's parameters."""
    request: str
    """Message of the body; "" if there is none."""
    root: str
    """Field of the request with the body, for error messages: `tuning_job`; "" for the request itself."""
    response: str
    """Message of the response."""

    @property
    def opaque(self) -> bool:
        """Return whether bodies are forwarded unchanged (google.api.HttpBody)."""
        return self.response == "GoogleApiHttpBody"


class Document:
    """One version of one API."""

    def __init__(self, name: str, content: Mapping[str, Any]) -> None:
        self.name = name
        self.revision: str = content["revision"]
        self.package: str = content.get("package", "")
        self.paths: Mapping[str, Any] = content["paths"]
        self.messages: Mapping[str, Any] = content.get("messages", {})
        self.enums: list[Any] = content.get("enums", [])
        self.methods = {key: MethodDefinition(self, *value) for key, value in content.get("methods", {}).items()}

    @property
    def leaves_defaults_out(self) -> bool:
        """Return whether stored resources and responses omit fields with default values, as in proto JSON.

        Vertex AI's do. The messages of the other APIs have wrappers (`enabled: false`), which a discovery document does
        not distinguish from plain fields.
        """
        return self.name.startswith("aiplatform.")


def fields(name: str, message: str) -> frozenset[str]:
    """Return the camelCase names of the fields of a message."""
    document = load(name)
    return frozenset(document.messages[message]["fields"]) if document else frozenset()


def names() -> list[str]:
    """Return the names of all documents, `aiplatform.v1beta1` and so on."""
    return sorted(path.name.removesuffix(".json") for path in DATA.glob("*.json"))


@functools.cache
def load(name: str) -> Document | None:
    """Return a document; None if the version of the API does not exist."""
    path = DATA / f"{name}.json"
    return Document(name, json.loads(path.read_bytes())) if path.exists() else None


def method(method_id: str, path: str) -> MethodDefinition | None:
    """Return the definition of a method by its ID, in the version of a path; None if it does not exist."""
    api, _, short = method_id.partition(".")
    document = load(f"{api}.{version_of(path)}")
    return document.methods.get(short) if document else None


def version_of(path: str) -> str:
    """Return the version in a path, which can follow a prefix; "" for a path of no API."""
    for segment in path.split("/")[1:3]:
        if _VERSION.match(segment):
            return segment
        if segment in _ALIASES:
            return _ALIASES[segment]
    return ""


def find(http: str, path: str) -> str | None:
    """Return the name of the document with a method at a path; None if Google has none there."""
    version = version_of(path)
    segments = path.split("/")[1:]
    if segments and segments[0] in _ALIASES:
        segments[0] = _ALIASES[segments[0]]
    for name in names():
        if name.endswith(f".{version}"):
            document = load(name)
            # A service can be below its own prefix, such as /monitoring.
            if document and (_has(document.paths, http, segments) or _has(document.paths, http, segments[1:])):
                return name
    return None


def _has(node: Mapping[str, Any], http: str, segments: list[str]) -> bool:
    if not segments:
        return http in str(node.get("", "")).split()
    first, rest = segments[0], segments[1:]
    if not first:
        return False
    if "**" in node and _has(node["**"], http, []):
        return True
    _, colon, verb = first.rpartition(":")
    # `a:b` can be a name with a colon except at the end of a path, where `b` is a verb.
    for key in (first, f"*:{verb}" if colon else "", "*" if rest or not colon else ""):
        if key and key in node and _has(node[key], http, rest):
            return True
    return False


def revisions() -> dict[str, str]:
    """Return the revision of each document: the date of Google's definition."""
    found = {name: load(name) for name in names()}
    return {name: document.revision for name, document in found.items() if document}
