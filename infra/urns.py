"""Pulumi's names of resources: `urn:pulumi:STACK::PROJECT::PARENT$TYPE::NAME`. A name can contain `::`."""

from __future__ import annotations

_PARTS = 4


def name_of(urn: str) -> str:
    """Return the resource's name in the program."""
    return urn.split("::", _PARTS - 1)[-1]


def type_of(urn: str) -> str:
    """Return the resource's type token, without the types of its parents."""
    parts = urn.split("::", _PARTS - 1)
    return parts[2].rsplit("$", 1)[-1] if len(parts) == _PARTS else ""


def key_of(urn: str) -> str:
    """Return `Type name`, the form for people."""
    return f"{type_of(urn).rsplit(':', 1)[-1]} {name_of(urn)}"
