"""Turns of a conversation, in the notation of any tool."""

from __future__ import annotations

import difflib
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from runner.datasets.examples import ImagePart, Message, Role, TextPart
from runner.datasets.records.fields import Account, Fields, UnfitError
from runner.datasets.rules.formats import PLACEHOLDERS
from runner.datasets.rules.value_checks import kind_of
from runner.wording import counted

Parts = list[TextPart | ImagePart]
ReadImage = Callable[[Any], ImagePart]
"""Returns the image for a value of a record. Raises UnfitError without a path."""

ROLES: dict[str, Role] = {
    "user": "user",
    "human": "user",
    "customer": "user",
    "prompter": "user",
    "assistant": "assistant",
    "model": "assistant",
    "gpt": "assistant",
    "chatgpt": "assistant",
    "bot": "assistant",
    "chatbot": "assistant",
    "ai": "assistant",
    "agent": "assistant",
    "system": "system",
    "developer": "system",
}
"""Maps names of speakers in other tools to the names here."""
_CALLS = ("tool_calls", "function_call")
_IMAGE_MARK = "<image>"
_NEAR = 0.75
# Tuples, because values in a file may not be hashable.
_TEXT_KINDS = ("text", "input_text", "output_text")
_KINDS = (None, *_TEXT_KINDS, "image", "image_url", "input_image")


@dataclass(slots=True)
class _Turn:
    message: Message
    path: str
    learned: bool


class Turns:
    """Reads the turns of one record.

    Args:
        read_image: see `ReadImage`.
        images: images that are beside the turns; `<image>` in a text, or an image part without an address,
            represents the next one.
        images_path: JSON path of these images.
        account: see `Fields`; also receives changes of a turn.
    """

    def __init__(self, read_image: ReadImage, images: list[Any], images_path: str, account: Account) -> None:
        self._read_image = read_image
        self._images = images
        self._images_path = images_path
        self._used = 0
        self._account = account
        self._turns: list[_Turn] = []

    def read(self, value: Any, path: str) -> None:
        """Add the turns of a list, or of an object with one list for each key of a turn. Raises UnfitError."""
        columns = list(value.values()) if isinstance(value, dict) else []
        if columns and all(isinstance(column, list) and len(column) == len(columns[0]) for column in columns):
            # Hugging Face's datasets store a sequence of objects in this form.
            value = [dict(zip(value, cells, strict=True)) for cells in zip(*columns, strict=True)]
        if not isinstance(value, list):
            raise UnfitError(f"{path}: {kind_of(value)} where a list of turns belongs")
        for index, turn in enumerate(value):
            self._turn(turn, f"{path}[{index}]")

    def say(self, role: Role, value: Any, path: str, name: str | None = None, *, learned: bool = True) -> None:
        """Add one turn with its content: a text, a number, or a list of parts. Raises UnfitError."""
        parts = self._parts(value, path)
        if role == "system" and all(isinstance(part, TextPart) and not part.text.strip() for part in parts):
            return  # an empty system text has no meaning
        first = role == "system" and self._turns and self._turns[0].message.role != "system"
        self._turns.insert(0 if first else len(self._turns), _Turn(Message(role, tuple(parts), name), path, learned))

    def finish(self) -> tuple[Message, ...]:
        """Return all turns. Raises UnfitError: images do not match their marks, or a turn must not be trained on."""
        self._place_images()
        self._cut_untrained()
        answers = [place for place, turn in enumerate(self._turns) if _is_answer(turn.message)]
        while answers and len(self._turns) > answers[-1] + 1:
            self._drop_last("turns after the last answer removed")
        if not self._turns:
            raise UnfitError("no turns in it")
        return tuple(turn.message for turn in self._turns)

    def _turn(self, turn: Any, path: str) -> None:
        if not isinstance(turn, dict):
            raise UnfitError(f"{path}: {kind_of(turn)} where a turn belongs")
        fields = Fields(turn, path, self._account)
        for key in _CALLS:
            if fields.take(key):
                raise UnfitError(f"{fields.place(key)}: the service's formats hold no tool calls")
        role_path, spoken = fields.pop("role", "from", "author", "speaker", near=True)
        role = self._role(role_path, spoken, foreign=not role_path.endswith("role"))
        weight = fields.take("weight")
        name = fields.take("name")
        if name is not None and not isinstance(name, str):
            self._account.lose(fields.place("name"), name)
            name = None
        place, content = fields.pop("content", "value", "parts", "text", near=True)
        fields.leave()
        told = weight is not None and (weight != 1 or isinstance(weight, bool))
        learned = not (told and weight == 0 and role == "assistant")
        if told and learned:
            self._account.lose(fields.place("weight"), weight)
        self.say(role, content, place, name, learned=learned)

    def _role(self, path: str, value: Any, *, foreign: bool) -> Role:
        """Return a role by its name; `foreign` for the names that other tools use."""
        if not isinstance(value, str):
            raise UnfitError(f"{path}: {kind_of(value)} where the name of a role belongs")
        written = value.strip().lower()
        role = ROLES.get(written)
        if role is None:
            near = difflib.get_close_matches(written[:40], ROLES, n=1, cutoff=_NEAR)
            if not near:
                raise UnfitError(f"{path}: unknown role {value[:40]!r}")
            role, foreign = ROLES[near[0]], False
        if value not in {role, "model"} and not foreign:
            self._account.notes.append(f"role {value[:40]!r} became {role!r}")
        return role

    def _parts(self, value: Any, path: str) -> Parts:
        if isinstance(value, (int, float, Decimal)) and not isinstance(value, bool):
            return [TextPart(str(value))]
        if isinstance(value, str):
            return [TextPart(value)]
        if isinstance(value, dict) and set(value) <= {"parts", "role"}:  # a systemInstruction
            self._account.lose(f"{path}.role", _other_role(value.get("role")))
            return self._parts(value.get("parts"), f"{path}.parts")
        if not isinstance(value, list):
            raise UnfitError(f"{path}: {kind_of(value)}, not a text")
        return [self._part(part, f"{path}[{index}]") for index, part in enumerate(value)]

    def _part(self, part: Any, path: str) -> TextPart | ImagePart:
        if isinstance(part, str):
            return TextPart(part)
        if not isinstance(part, dict):
            raise UnfitError(f"{path}: {kind_of(part)} where a part belongs")
        fields = Fields(part, path, self._account)
        kind = fields.take("type")
        if kind not in _KINDS:
            raise UnfitError(f"{path}.type: a part of type {kind!r:.40}: only texts and images can be tuned on")
        found: TextPart | ImagePart
        if kind != "image" and isinstance(text := fields.take("text", near=kind == "text"), str):
            found = TextPart(text)
        elif kind in _TEXT_KINDS:
            raise UnfitError(f"{path}.text: {kind_of(text)} where a text belongs")
        else:
            found = self._image_part(fields, kind)
        fields.leave()
        return found

    def _image_part(self, fields: Fields, kind: Any) -> ImagePart:
        details, types = [fields.pop("detail")], list[tuple[str, Any]]()
        for key in ("image_url", "file_data", "inline_data", "image", "source", "url", "path"):
            value = fields.take(key)
            if value is None:
                continue
            if isinstance(value, dict) and key in {"image_url", "file_data", "inline_data", "source"}:
                inner = Fields(value, fields.place(key), self._account)
                details.append(inner.pop("detail"))
                types.append(inner.pop("mime_type", "media_type"))
                if inner.take("type") not in (None, "base64", "url"):
                    raise UnfitError(f"{inner.path}.type: neither base64 nor url")
                value = inner.take("url", "file_uri", "data")
                inner.leave()
            image = self._image(value, fields.place(key))
            break
        else:
            if kind != "image" or self._used == len(self._images):
                raise UnfitError(f"{fields.path}: neither a text nor an image")
            self._used += 1
            image = self._image(self._images[self._used - 1], f"{self._images_path}[{self._used - 1}]")
        return ImagePart(image.uri, mime_type=self._last(types) or image.mime_type, detail=self._last(details))

    def _last(self, found: list[tuple[str, Any]]) -> str | None:
        """Return the last text of several values with their paths; the others are not carried over."""
        chosen = max((place for place, (_, value) in enumerate(found) if isinstance(value, str)), default=None)
        for place, (path, value) in enumerate(found):
            if place != chosen:
                self._account.lose(path, value)
        return found[chosen][1] if chosen is not None else None

    def _image(self, value: Any, path: str) -> ImagePart:
        if isinstance(value, dict):
            fields = Fields(value, path, self._account)
            value = next((found for key in ("bytes", "url", "path") if (found := fields.take(key))), None)
            fields.leave()
        try:
            return self._read_image(value)
        except UnfitError as error:
            raise UnfitError(f"{path}: {error.message}") from None

    def _place_images(self) -> None:
        """Insert the images beside the turns at the marks in the texts, or without marks, before the first text."""
        waiting = len(self._images) - self._used
        if not waiting:
            return
        parts = [part for turn in self._turns for part in turn.message.parts]
        marks = sum(part.text.count(_IMAGE_MARK) for part in parts if isinstance(part, TextPart))
        if marks not in {0, waiting}:
            found = counted(marks, f"{_IMAGE_MARK} mark")
            raise UnfitError(f"{self._images_path}: {counted(waiting, 'image')} for {found} in the texts")
        images = iter(
            [self._image(value, f"{self._images_path}[{place}]") for place, value in enumerate(self._images)][
                self._used :
            ]
        )
        for turn in self._turns:
            message = turn.message
            placed: Parts = [*images] if not marks and message.role == "user" else []
            for part in message.parts:
                placed += _with_images(part.text, images) if isinstance(part, TextPart) else [part]
            turn.message = Message(message.role, tuple(placed), message.name)
        if next(images, None) is not None:
            raise UnfitError(f"{self._images_path}: no user turn to put the images into")

    def _cut_untrained(self) -> None:
        """End the conversation after the last answer that is to be trained on."""
        if all(turn.learned for turn in self._turns):
            return
        answers = [place for place, turn in enumerate(self._turns) if turn.message.role == "assistant" and turn.learned]
        last = answers[-1] if answers else len(self._turns)
        for turn in self._turns[:last]:
            if not turn.learned:
                raise UnfitError(
                    f"{turn.path.rpartition('.')[0]}.weight: 0 keeps the turn from being learned,"
                    " and the service learns every answer"
                )
        while len(self._turns) > last + 1:
            self._drop_last("turns that must not be learned removed")

    def _drop_last(self, why: str) -> None:
        turn = self._turns.pop()
        for part in turn.message.parts:
            self._account.lose(turn.path, part.text if isinstance(part, TextPart) else part.uri)
        self._account.notes.append(why)


def _with_images(text: str, images: Any) -> Parts:
    """Return a text with the next images in place of its marks."""
    first, *rest = text.split(_IMAGE_MARK)
    parts: Parts = [TextPart(first)] if first.strip() else []
    for piece in rest:
        parts.append(next(images))
        if piece.strip():
            parts.append(TextPart(piece))
    return parts or [TextPart(text)]


def _is_answer(message: Message) -> bool:
    text = message.text.strip()
    return message.role == "assistant" and bool(text) and text.lower() not in PLACEHOLDERS


def _other_role(role: Any) -> Any:
    """Return the role of a system instruction if it is more than a marker of the system role."""
    return None if role in ("system", "user", "model") else role
