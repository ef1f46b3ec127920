"""How many tokens an example has: counted with the model's tokenizer where it is here, else estimated.

The estimate is characters times the service's published ratio (catalogue), which includes the chat template. Google's
own cost script works this way; how far off one example can be is not published, so lengths near a limit are reported as
estimates.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from importlib import util
from pathlib import Path
from typing import Any, Protocol

from runner.catalog import Model
from runner.catalog.models import TuningMode
from runner.datasets.digests import IMAGE, PART
from runner.errors import ConfigurationError, EngineMissingError

DEFAULT_TOKENS_PER_CHARACTER = 0.25
"""Four characters a token: Google's rule of thumb, where the catalogue has no measured ratio."""

TOKENS_PER_IMAGE = 170
"""Estimate only: Llama 4's smallest image (one tile of 336 x 336 pixels, 14-pixel patches, 2 x 2 shuffle: 144) and
its markers."""


class TokenCounter(Protocol):
    """Counts the tokens of an example, template included."""

    @property
    def exact(self) -> bool:
        """Tell counting from estimating."""
        ...

    def measure(self, turns: list[str], system: bool, characters: int, images: int) -> tuple[int, int]:
        """Return the tokens of an example, and how many of them are trained (0 where that is not known).

        Args:
            turns: content of each turn, as `digests.content` writes it.
            system: whether the first turn is the system's.
            characters: of all texts.
            images: number of images.
        """
        ...

    def describe(self) -> str:
        """Say how tokens are counted."""
        ...


@dataclass(frozen=True, slots=True)
class RatioCounter:
    """Estimates from the number of characters."""

    ratio: float
    exact: bool = False

    def measure(self, turns: list[str], system: bool, characters: int, images: int) -> tuple[int, int]:
        """Return characters times ratio, plus a fixed number for each image."""
        return round(characters * self.ratio) + TOKENS_PER_IMAGE * images, 0

    def describe(self) -> str:
        """Name the ratio."""
        return f"estimated at {self.ratio:g} tokens per character"


class TokenizerCounter:
    """Counts with a Hugging Face tokenizer folder: `tokenizer.json` and the chat template beside it."""

    exact = True

    def __init__(self, directory: Path) -> None:
        missing = [name for name in ("tokenizers", "jinja2") if util.find_spec(name) is None]
        if missing:
            raise EngineMissingError(
                f"counting with a tokenizer needs {' and '.join(missing)}",
                hint="pip install 'open-model-tuning[local]'",
            )
        from jinja2.sandbox import ImmutableSandboxedEnvironment
        from tokenizers import Tokenizer

        self.directory = directory
        source, special = _template(directory)
        environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True)
        environment.globals["raise_exception"] = _raise
        environment.globals["strftime_now"] = _strftime
        environment.filters["tojson"] = lambda value, **_: json.dumps(value, ensure_ascii=False)
        self._template = environment.from_string(source)
        self._special = special
        self._tokenizer = Tokenizer.from_file(str(directory / "tokenizer.json"))

    def measure(self, turns: list[str], system: bool, characters: int, images: int) -> tuple[int, int]:
        """Return the tokens of the rendered example. Raises ConfigurationError when the template refuses it."""
        return len(self._tokenizer.encode(self.render(turns, system), add_special_tokens=False).ids), 0

    def render(self, turns: list[str], system: bool) -> str:
        """Return the text the model sees."""
        messages = _messages(turns, system)
        return str(self._template.render(messages=messages, add_generation_prompt=False, **self._special))

    def describe(self) -> str:
        """Name the folder."""
        return f"counted with the tokenizer in {self.directory}"


def ratio_of(model: Model | None, mode: TuningMode | None) -> float:
    """Return the catalogue's tokens per character for a model's mode."""
    ratio = None
    if model is not None:
        limits = model.modes.get(mode) if mode else next(iter(model.modes.values()))
        ratio = limits.tokens_per_character if limits else None
    return ratio or DEFAULT_TOKENS_PER_CHARACTER


def open_counter(ratio: float, tokenizer: Path | None = None) -> TokenCounter:
    """Return a counter: exact with a tokenizer folder, else by a ratio."""
    return RatioCounter(ratio) if tokenizer is None else TokenizerCounter(tokenizer)


def _template(directory: Path) -> tuple[str, dict[str, str]]:
    tokenizer = directory / "tokenizer.json"
    if not tokenizer.is_file():
        raise ConfigurationError(f"{tokenizer} is not there", hint="--tokenizer takes a Hugging Face model folder")
    path = directory / "tokenizer_config.json"
    settings: dict[str, Any] = json.loads(path.read_text("utf-8")) if path.is_file() else {}
    special = {}
    for name in ("bos_token", "eos_token", "pad_token", "unk_token"):
        value = settings.get(name)
        special[name] = str(value.get("content", "") if isinstance(value, dict) else value or "")
    beside = directory / "chat_template.jinja"
    template = beside.read_text("utf-8") if beside.is_file() else settings.get("chat_template")
    if not isinstance(template, str):
        raise ConfigurationError(f"{directory} has no chat template", hint="it belongs into chat_template.jinja")
    return template, special


def _messages(turns: list[str], system: bool) -> list[dict[str, Any]]:
    rendered: list[dict[str, Any]] = []
    for index, turn in enumerate(turns):
        role = "system" if system and not index else "assistant" if (index - system) % 2 else "user"
        pieces = turn.split(PART)
        if not any(piece.startswith(IMAGE) for piece in pieces):
            rendered.append({"role": role, "content": "".join(pieces)})
            continue
        parts = [{"type": "image"} if piece.startswith(IMAGE) else {"type": "text", "text": piece} for piece in pieces]
        rendered.append({"role": role, "content": parts})
    return rendered


def _raise(message: str) -> None:
    raise ConfigurationError(f"the chat template refuses the example: {message}")


def _strftime(form: str) -> str:
    from datetime import UTC, datetime

    return datetime.now(UTC).strftime(form)
