"""What stands in for a base model, for messages: the emulator tunes and serves small models under large names.

`stand-in.json` lies beside the weights of a stand-in and beside everything that was tuned from one.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from runner.catalog import UnknownModelError, find_model
from runner.errors import RunnerError
from runner.gcp import endpoints
from runner.gcp.endpoints import Endpoint
from runner.gcp.session import Session
from runner.json_text import parsed

CARD = "stand-in.json"
_ARCHITECTURES = {"llama3": ("llama",), "llama4": ("llama4",), "gemma3": ("gemma3",), "qwen3": ("qwen3",)}
"""How `model_type` of each family's config.json begins."""
_SIZE = re.compile(r"(?<![\d.])(\d+(?:\.\d+)?)b(?![a-z])", re.IGNORECASE)
_TOLERANCE = 1.6
"""A model that is called 8B has 8.03 billion parameters, one that is called 1B 1.24."""
_SMALLEST = 1e9
"""Parameters of the smallest model that the service tunes, Llama 3.2 1B: what a name without a size promises."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StandIn:
    """A small model that stands in for another one."""

    name: str
    parameters: int = 0

    def __str__(self) -> str:
        return self.name


def read_card(content: bytes) -> StandIn | None:
    """Return what a card says, None if it is none."""
    try:
        body = parsed(content)
        return StandIn(name=str(body["name"]), parameters=int(body.get("parameters") or 0))
    except (ValueError, KeyError, TypeError, AttributeError):
        return None


def of_folder(directory: Path) -> StandIn | None:
    """Return what the weights in a folder of this machine were tuned from; None for real weights."""
    try:
        return read_card((directory / CARD).read_bytes())
    except OSError:
        return None


def of_endpoint(session: Session, endpoint: Endpoint) -> StandIn | None:
    """Return what serves behind an endpoint; None for real weights, or where it cannot be found out.

    Only what the emulator serves is looked at: Google Cloud has no stand-ins.
    """
    if not session.environment.target.free:
        return None
    from runner.gcp.downloads import read_bytes

    for item in endpoint.deployed_models:
        try:
            folder = str(endpoints.get_model(session, item.model).get("artifactUri", "")) if item.model else ""
            card = read_card(read_bytes(session, f"{folder.rstrip('/')}/{CARD}")) if folder else None
        except RunnerError:
            continue
        if card is not None:
            return card
    return None


def mismatch(base_model: str, stand_in: StandIn | None, *, model_type: str, parameters: int) -> str:
    """Say in what weights are not what they are said to be, "" if nothing speaks against it.

    Args:
        base_model: what they are said to be tuned from.
        stand_in: what stood in for it.
        model_type: of their config.json.
        parameters: what their files hold.
    """
    if stand_in is not None:
        name, least = stand_in.name, float(stand_in.parameters)
        most: float | None = least or None
    else:
        name = base_model
        least, most = _parameters(base_model)
        try:
            families: Any = _ARCHITECTURES.get(find_model(base_model).family, ())
        except UnknownModelError:
            families = ()
        if families and not model_type.startswith(families):
            return f"config.json says {model_type or 'no model_type'}, which is not the architecture of {name}"
    if parameters < least / _TOLERANCE or (most and parameters > most * _TOLERANCE):
        about = "about" if most else "at least"
        return f"they have {_count(parameters)} parameters; {name} has {about} {_count(least)}"
    return ""


def _parameters(base_model: str) -> tuple[float, float | None]:
    """Return how many parameters a model's name promises at least and, unless it is a mixture of experts, at most."""
    found = [float(number) * 1e9 for number in _SIZE.findall(base_model.rsplit("@", 1)[-1])]
    if not found:
        return _SMALLEST, None
    mixture = re.search(r"\d+e\b|-a\d+b", base_model, re.IGNORECASE)
    return max(found), None if mixture or len(found) > 1 else found[0]


def _count(number: float) -> str:
    return f"{number / 1e9:.1f} billion" if number >= 1e9 else f"{number / 1e6:.1f} million"
