"""Renders a model's chat template once for each conversation shape, instead of once for each example.

A template puts fixed texts around the contents of the turns. They are learned by rendering a conversation of the same
shape with marks in place of the contents; an example then requires only string joins. If a content could influence the
template (it contains a text that the template looks for), the template itself is rendered. The first examples of each
shape are rendered both ways and compared.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from runner.datasets.rules.contents import IMAGE, PART
from runner.datasets.tokens.rendering import Renderer
from runner.datasets.tokens.template_process import environment
from runner.errors import ConfigurationError

_COMPARED = 8
"""Number of examples of each shape that are rendered both ways."""
_MARK = re.compile("\ue000[0-9]+\ue001")
"""Placeholder for a content while a shape is learned."""

Piece = tuple[str, bool]
"""A piece of a rendered conversation that is tokenized separately, as in training, and whether it is trained: an
assistant's turn with the token that ends it."""


@dataclass(slots=True)
class _Shape:
    """The texts of a template around the contents of a conversation of one shape."""

    around: list[tuple[list[str], bool]]
    """The texts around the contents of each segment, one more than it has contents, and whether it is trained."""
    strips: bool | None = None
    """Whether the template strips contents; None means that it strips some of them."""
    compared: int = 0

    def fill(self, turns: Sequence[str]) -> list[Piece]:
        contents = iter(turns)
        return [(texts[0] + "".join([next(contents) + text for text in texts[1:]]), on) for texts, on in self.around]


class ChatTemplate:
    """The chat template of a Hugging Face folder, rendered in a separate process, see `rendering`.

    Raises:
        ConfigurationError: the folder has no template, or an invalid one.
    """

    def __init__(self, directory: Path) -> None:
        from jinja2 import TemplateError, nodes

        path, source, special = _read(directory)
        self._renderer = Renderer(source, special, name=str(path))
        try:
            tree = environment().parse(source)
            # Texts that it may look for in a content. Names of roles and keys among them reduce the speed slightly.
            self._looked_for = sorted(
                {
                    node.value
                    for node in tree.find_all(nodes.Const)
                    if isinstance(node.value, str) and node.value.strip()
                }
                & {text for node in tree.find_all((nodes.Compare, nodes.Call, nodes.Filter)) for text in _texts(node)}
                - {"system", "user", "assistant", "model", "tool", "role", "content", "text", "image", "type"}
            )
        except (TemplateError, RecursionError) as error:
            raise ConfigurationError(f"{path}: the chat template is broken: {error}") from error
        self._shapes: dict[int, _Shape | None] = {}
        self.rendered = 0
        """Number of examples for which the template itself was rendered."""

    def contents(self, turns: Sequence[str], *, plain: bool) -> Sequence[str] | None:
        """Return the template's output for the contents of an example; None if the template must be rendered.

        Args:
            turns: content of each turn, from `contents.turns_of`.
            plain: whether certainly no turn has the markers of parts or images.
        """
        shape = self._shapes.get(len(turns))
        if shape is None or ((self._looked_for or not plain) and any(map(self._steers, turns))):
            return None
        if shape.strips is False:
            return turns
        bare = list(map(str.strip, turns))
        return bare if shape.strips or bare == list(turns) else None

    def surroundings(self, count: int) -> list[tuple[list[str], bool]] | None:
        """Return the texts around the contents of each segment of a shape; None until they are known for certain."""
        shape = self._shapes.get(count)
        if shape is None or shape.compared < _COMPARED:
            return None
        return shape.around

    def pieces(self, turns: Sequence[str], *, plain: bool = False) -> list[Piece]:
        """Return the pieces of an example, up to the end of its last assistant turn.

        Args:
            turns: content of each turn, from `contents.turns_of`.
            plain: whether certainly no turn has the markers of parts or images.

        Raises:
            ConfigurationError: the template refuses the example, or changes earlier turns when later ones follow.
        """
        key = len(turns)
        if key not in self._shapes:
            self._shapes[key] = self._learn(key)
        shape = self._shapes[key]
        bare = self.contents(turns, plain=plain)
        if shape is None or bare is None:
            return self._render_all(turns)
        pieces = shape.fill(bare)
        if shape.compared < _COMPARED:
            shape.compared += 1
            rendered = self._render_all(turns)
            if rendered != pieces:
                self._shapes[key] = None
                return rendered
        return pieces

    def prompt(self, messages: list[dict[str, Any]]) -> str:
        """Return messages rendered up to the beginning of the assistant's answer. Raises ConfigurationError."""
        return self._renderer.render(messages, prompt=True)

    def _steers(self, turn: str) -> bool:
        """Return whether a content can change the template's output around it."""
        if PART in turn or IMAGE in turn:
            return True
        return bool(self._looked_for) and any(word in turn for word in self._looked_for)

    def _learn(self, count: int) -> _Shape | None:
        marks = [f"\ue000{index}\ue001" for index in range(count)]
        rendered = self._render_all(marks)
        if [mark for text, _ in rendered for mark in _MARK.findall(text)] != marks:
            return None  # some contents are missing, repeated or not in order
        shape = _Shape([(_MARK.split(text), trained) for text, trained in rendered])
        spaced = [f" \n{mark}\n " for mark in marks]
        rendered = self._render_all(spaced)
        if rendered == shape.fill(marks):
            shape.strips = True
        elif rendered == shape.fill(spaced):
            shape.strips = False
        return shape

    def _render_all(self, turns: Sequence[str]) -> list[Piece]:
        self.rendered += 1
        return [(text, learned) for _, text, learned in self._renderer.pieces(to_messages(turns))]


def to_messages(turns: Sequence[str]) -> list[dict[str, Any]]:
    """Return turns in the form that chat templates expect."""
    messages: list[dict[str, Any]] = []
    system = len(turns) % 2
    for index, turn in enumerate(turns):
        role = "system" if system and not index else "assistant" if (index - system) % 2 else "user"
        pieces = turn.split(PART)
        if not any(piece.startswith(IMAGE) for piece in pieces):
            messages.append({"role": role, "content": "".join(pieces)})
            continue
        parts = [{"type": "image"} if piece.startswith(IMAGE) else {"type": "text", "text": piece} for piece in pieces]
        messages.append({"role": role, "content": parts})
    return messages


def _texts(node: Any) -> Iterator[str]:
    from jinja2 import nodes

    for child in node.find_all(nodes.Const):
        if isinstance(child.value, str):
            yield child.value


def _read(directory: Path) -> tuple[Path, str, dict[str, str]]:
    """Return the path of a folder's template, the template, and the control tokens that it can name."""
    path = directory / "tokenizer_config.json"
    settings: dict[str, Any] = json.loads(path.read_text("utf-8")) if path.is_file() else {}
    special = {}
    for name in ("bos_token", "eos_token", "pad_token", "unk_token"):
        value = settings.get(name)
        special[name] = str(value.get("content", "") if isinstance(value, dict) else value or "")
    beside = directory / "chat_template.jinja"
    path = beside if beside.is_file() else path
    template = beside.read_text("utf-8") if beside.is_file() else settings.get("chat_template")
    if not isinstance(template, str):
        raise ConfigurationError(f"{directory} has no chat template", hint="put it into chat_template.jinja")
    return path, template, special
