"""Stand-ins for base models, for messages: the emulator tunes and serves small models under the names of large ones.

`stand-in.json` is beside the weights of a stand-in, and beside all weights that were tuned from one.
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
"""Prefix of `model_type` in the config.json of each family."""
_SIZE = re.compile(r"(?<![\d.])(\d+(?:\.\d+)?)b(?![a-z])", re.IGNORECASE)
_TOLERANCE = 1.6
"""Tolerance for sizes in names: a model that is called 8B has 8.03 billion parameters, one that is called 1B 1.24."""
_SMALLEST = 1e9
"""Parameters of the smallest model that the service tunes, Llama 3.2 1B; the minimum for a name without a size."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StandIn:
    """A small model that stands in for another one."""

    name: str
    parameters: int = 0

    def __str__(self) -> str:
        return self.name


def read_card(content: bytes) -> StandIn | None:
    """Return the stand-in in a card; None if it has none."""
    try:
        body = parsed(content)
        return StandIn(name=str(body["name"]), parameters=int(body.get("parameters") or 0))
    except (ValueError, KeyError, TypeError, AttributeError):
        return None


def of_folder(directory: Path) -> StandIn | None:
    """Return the stand-in from which the weights in a local folder were tuned; None for real weights."""
    try:
        return read_card((directory / CARD).read_bytes())
    except OSError:
        return None


def of_endpoint(session: Session, endpoint: Endpoint) -> StandIn | None:
    """Return the stand-in behind an endpoint; None for real weights, or if it cannot be determined.

    Only models of the emulator are checked, because Google Cloud has no stand-ins.
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
    """Describe how weights differ from their description; "" if they match.

    Args:
        base_model: their base model according to the description.
        stand_in: its stand-in.
        model_type: `model_type` of their config.json.
        parameters: number of parameters in their files.
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
    """Return the minimum number of parameters for a model's name, and the maximum except for a mixture of experts."""
    found = [float(number) * 1e9 for number in _SIZE.findall(base_model.rsplit("@", 1)[-1])]
    if not found:
        return _SMALLEST, None
    mixture = re.search(r"\d+e\b|-a\d+b", base_model, re.IGNORECASE)
    return max(found), None if mixture or len(found) > 1 else found[0]


def _count(number: float) -> str:
    return f"{number / 1e9:.1f} billion" if number >= 1e9 else f"{number / 1e6:.1f} million"
