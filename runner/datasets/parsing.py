"""One parser for all documented formats, used by the checks, the estimate and the training process.

A line either becomes an `Example` or has at least one error that says why not; warnings may come with either. The
formats are prompt/completion, chat `messages` and GenerateContent `contents`, in camelCase or snake_case, with text and
images.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from runner.datasets.decoding import NotJson, PlainObject, decode_plainly
from runner.datasets.examples import Example, Format, ImagePart, Message, ParsedLine, Role, TextPart
from runner.datasets.images import MANY_IMAGES
from runner.datasets.json_lines import Findings, RawLine, add_not_json, decode_object, decode_text, raw_lines
from runner.datasets.values import PLACEHOLDERS, ValueChecks, closest, kind_of

__all__ = ["PLACEHOLDERS", "detect_format", "parse_line", "parse_raw", "read_file"]


_ROLES: dict[Format, dict[str, Role]] = {
    "prompt_completion": {},
    "chat": {"system": "system", "user": "user", "assistant": "assistant"},
    # The documented role is `assistant`; the service itself has been seen to ask for `model`. Both are taken.
    "generate_content": {"user": "user", "assistant": "assistant", "model": "assistant"},
}

Turn = tuple[Role, str | Sequence[TextPart | ImagePart]]
"""A turn of one text, or of parts."""


def parse_line(text: str, number: int, *, file: str = "", images: bool = True) -> ParsedLine:
    """Parse one line of a dataset.

    Args:
        text: the line, without its line end.
        number: 1-based line number, for the findings.
        file: name of the file, for the findings.
        images: whether the base model takes images; where it does not, an image is an error.
    """
    findings = Findings(file, number)
    if (plain := decode_plainly(text.encode("utf-8", "surrogatepass"))) is not None:
        return of_plain(plain, number, findings, images)
    body = decode_text(text, findings) if text.strip() else None
    return _finish(body, number, findings, images)


def parse_raw(raw: RawLine, *, file: str = "", images: bool = True) -> ParsedLine | None:
    """Parse the bytes of one line; None when it is blank."""
    findings = Findings(file, raw.number)
    if not raw.too_long and (plain := decode_plainly(raw.data)) is not None:
        return of_plain(plain, raw.number, findings, images)
    body = decode_object(raw, findings)
    if body is None and not findings.items:
        return None
    return _finish(body, raw.number, findings, images)


def read_file(path: Path, *, images: bool = True) -> Iterator[ParsedLine]:
    """Parse a JSONL file line by line; blank lines are passed over. Memory is bounded by one line."""
    with path.open("rb") as stream:
        for raw in raw_lines(stream):
            parsed = parse_raw(raw, file=path.name, images=images)
            if parsed is not None:
                yield parsed


def detect_format(body: dict[str, Any]) -> Format | None:
    """Return the format an object is written in, by its characteristic key."""
    if "messages" in body:
        return "chat"
    if "contents" in body:
        return "generate_content"
    if "prompt" in body or "completion" in body:
        return "prompt_completion"
    return None


def of_plain(plain: PlainObject | NotJson, number: int, findings: Findings, images: bool) -> ParsedLine:
    """Go on with a line that has been decoded."""
    if isinstance(plain, NotJson):
        add_not_json(plain, findings)
        return ParsedLine(line=number, example=None, findings=tuple(findings.items))
    body, clean = plain
    return _finish(body, number, findings, images, clean)


def _finish(
    body: dict[str, Any] | None, number: int, findings: Findings, images: bool, clean: bool = False
) -> ParsedLine:
    example = None
    if body is not None:
        kind = detect_format(body)
        if kind is None:
            _unknown_format(body, findings)
        else:
            turns = Reader(findings, images, clean).read(kind, body)
            if not findings.failed:
                example = Example(line=number, format=kind, messages=tuple([_message(turn) for turn in turns]))
    return ParsedLine(line=number, example=example, findings=tuple(findings.items))


def _message(turn: Turn) -> Message:
    role, content = turn
    return Message(role, (TextPart(content),) if isinstance(content, str) else tuple(content))


def _unknown_format(body: dict[str, Any], findings: Findings) -> None:
    names = tuple(itertools.islice(body, 20))
    findings.error(
        "unknown-format",
        "",
        (_guesses if sum(map(len, names)) < 1000 else _guesses.__wrapped__)(names),
        "use one of the documented formats (docs/dataset-format.md)",
    )


@lru_cache(256)
def _guesses(names: tuple[str, ...]) -> str:
    """Return what the keys of an object may be meant for; all lines of a file tend to have the same."""
    known = ("messages", "contents", "prompt", "completion", "systemInstruction")
    near = {name: closest(name.lower(), known, 0.75) for name in names}
    guesses = [f"{name!r}: did you mean {match!r}?" for name, match in near.items() if match]
    return "; ".join(guesses) or "none of the keys messages, contents or prompt and completion is there"


class Reader(ValueChecks):
    """Reads the object of one line. Every method adds findings and goes on, so that one pass reports all of them."""

    __slots__ = ("kind", "roles")

    def read(self, kind: Format, body: dict[str, Any]) -> list[Turn]:
        """Return the turns of an object in a format; they make an example if no finding is an error."""
        self.kind = kind
        self.roles = _ROLES[kind]
        if kind == "prompt_completion":
            turns = self._prompt_completion(body)
        elif kind == "chat":
            turns = self._chat(body)
        else:
            turns = self._generate_content(body)
        parted = [content for _, content in turns if type(content) is not str]
        images = sum(isinstance(part, ImagePart) for content in parted for part in content) if parted else 0
        if images > MANY_IMAGES:
            self.findings.warning(
                "many-images",
                "",
                f"{images} images in one example; the models that take images were tested with up to {MANY_IMAGES}",
                "use fewer, or several examples",
            )
        return turns

    def _prompt_completion(self, body: dict[str, Any]) -> list[Turn]:
        self.keys(body, "", required=("prompt", "completion"))
        turns: list[Turn] = []
        for key, role in (("prompt", "user"), ("completion", "assistant")):
            if key in body:
                text = self.text_of(body[key], key)
                turns.append(("user" if role == "user" else "assistant", text))
        return turns

    def _chat(self, body: dict[str, Any]) -> list[Turn]:
        self.keys(body, "", required=("messages",))
        items = self.items_of(body["messages"], "messages")
        turns: list[Turn] = []
        for index, turn in enumerate(items):
            # Most turns are as they should be; where one is not, all of it is looked at, for findings in their order.
            if type(turn) is dict and len(turn) == 2 and type(name := turn.get("role")) is str:
                known = self.roles.get(name)
                text: Any = turn.get("content")
                if known is not None and self.is_sound(text):
                    turns.append((known, text))
                    continue
            path = f"messages[{index}]"
            if not self.is_object(turn, path):
                continue
            self.keys(turn, path, required=("role", "content"), optional=("name",))
            role = self._role(turn.get("role"), f"{path}.role") if "role" in turn else None
            content = self._chat_content(turn["content"], f"{path}.content") if "content" in turn else ()
            if role is not None:
                turns.append((role, content))
            self._image_place(role, content, path)
        if len(turns) == len(items):  # else a turn is reported as broken; what follows from it would only be noise
            self._order([role for role, _ in turns], "messages")
        return turns

    def _generate_content(self, body: dict[str, Any]) -> list[Turn]:
        body = self.either(body, "", {"system_instruction": "systemInstruction"})
        self.keys(body, "", required=("contents",), optional=("systemInstruction",))
        turns: list[Turn] = []
        if (instruction := body.get("systemInstruction")) is not None and self.is_object(
            instruction, "systemInstruction"
        ):
            self.keys(instruction, "systemInstruction", required=("parts",), optional=("role",))
            turns.append(("system", self._parts(instruction.get("parts"), "systemInstruction.parts")))
        items = self.items_of(body["contents"], "contents")
        roles: list[Role] = []
        for index, turn in enumerate(items):
            if type(turn) is dict and len(turn) == 2 and type(name := turn.get("role")) is str:
                known = self.roles.get(name)
                if known is not None and (text := self._sound_part(turn.get("parts"))) is not None:
                    roles.append(known)
                    turns.append((known, text))
                    continue
            path = f"contents[{index}]"
            if not self.is_object(turn, path):
                continue
            self.keys(turn, path, required=("role", "parts"))
            role = self._role(turn.get("role"), f"{path}.role") if "role" in turn else None
            content = self._parts(turn["parts"], f"{path}.parts") if "parts" in turn else ()
            if role is not None:
                roles.append(role)
                turns.append((role, content))
            self._image_place(role, content, path)
        if len(roles) == len(items):
            self._order(roles, "contents")
        return turns

    def _sound_part(self, parts: Any) -> str | None:
        """Return the text of parts that are certainly one text with nothing wrong in it."""
        if type(parts) is not list or len(parts) != 1 or type(parts[0]) is not dict or len(parts[0]) != 1:
            return None
        text = parts[0].get("text")
        return text if self.is_sound(text) else None

    def _order(self, roles: list[Role], path: str) -> None:
        """Check the turns: an optional system turn, then user and assistant by turns, ending with the assistant."""
        if not roles:
            return
        start = 1 if roles[0] == "system" else 0
        pairs, odd = divmod(len(roles) - start, 2)
        if not odd and roles[start:] == ["user", "assistant"] * pairs and pairs:
            return
        for index, role in enumerate(roles):
            if role == "system" and index > 0:
                self.findings.error(
                    "system-not-first",
                    f"{path}[{index}].role",
                    "a system turn stands after another turn",
                    "put it first",
                )
        turns = [(index, role) for index, role in enumerate(roles) if index >= start and role != "system"]
        for (_, before), (index, role) in itertools.pairwise(turns):
            if before == role:
                self.findings.error(
                    "role-order",
                    f"{path}[{index}].role",
                    f"two {role} turns in a row",
                    "join them, or add the turn between",
                )
        if turns and turns[0][1] != "user":
            self.findings.error("role-order", f"{path}[{turns[0][0]}].role", "the first turn is not the user's")
        if "assistant" not in roles:
            self.findings.error(
                "no-answer", path, "no assistant turn: there is nothing to learn from", "add the ideal answer"
            )
        elif roles[-1] != "assistant":
            self.findings.error(
                "last-turn",
                f"{path}[{len(roles) - 1}].role",
                f"the last turn is the {roles[-1]}'s",
                "end with the ideal answer",
            )

    def _image_place(self, role: Role | None, content: str | Sequence[TextPart | ImagePart], path: str) -> None:
        if isinstance(content, str):
            return
        if role in {"assistant", "system"} and any(isinstance(part, ImagePart) for part in content):
            self.findings.error(
                "image-place", path, f"an image in a turn of the {role}", "images belong into user turns"
            )

    def _role(self, value: Any, path: str) -> Role | None:
        allowed = self.roles
        if not isinstance(value, str):
            self.findings.error("wrong-type", path, f"the role is {kind_of(value)}, not a string")
            return None
        if value in allowed:
            return allowed[value]
        fix = f"one of {', '.join(allowed)}"
        if self.kind == "generate_content" and value == "system":
            fix = "put it into systemInstruction"
        elif near := closest(value.lower(), tuple(allowed), 0.6):
            fix = f"did you mean {near!r}?"
        self.findings.error("unknown-role", path, f"unknown role {value[:40]!r}", fix)
        return None

    def _chat_content(self, value: Any, path: str) -> str | Sequence[TextPart | ImagePart]:
        if not isinstance(value, list):
            return self.text_of(value, path)
        parts: list[TextPart | ImagePart] = []
        for index, part in enumerate(self.items_of(value, path)):
            place = f"{path}[{index}]"
            if not self.is_object(part, place):
                continue
            kind = part.get("type")
            if kind == "text":
                self.keys(part, place, required=("type", "text"))
                if "text" in part:
                    parts.append(TextPart(self.text_of(part["text"], f"{place}.text", blank_allowed=len(value) > 1)))
            elif kind == "image_url":
                self.keys(part, place, required=("type", "image_url"))
                parts.extend(self.image_url(part.get("image_url"), f"{place}.image_url"))
            else:
                self.findings.error(
                    "unknown-part", f"{place}.type", f"a part of type {kind!r:.60}", "use text or image_url"
                )
        self.some_content(parts, path)
        return parts

    def _parts(self, value: Any, path: str) -> str | Sequence[TextPart | ImagePart]:
        if (sound := self._sound_part(value)) is not None:
            return sound
        parts: list[TextPart | ImagePart] = []
        items = self.items_of(value, path)
        for index, item in enumerate(items):
            place = f"{path}[{index}]"
            if not self.is_object(item, place):
                continue
            item = self.either(item, place, {"fileData": "file_data", "inlineData": "inline_data"})
            kinds = [key for key in ("text", "file_data", "inline_data") if key in item]
            if len(kinds) != 1:
                what = "both " + " and ".join(kinds) if kinds else "neither text, file_data nor inline_data"
                self.findings.error("unknown-part", place, f"the part holds {what}", "one of them in each part")
                continue
            self.keys(item, place, required=(kinds[0],))
            if kinds[0] == "text":
                parts.append(TextPart(self.text_of(item["text"], f"{place}.text", blank_allowed=len(items) > 1)))
            else:
                parts.extend(self.file_of(item[kinds[0]], f"{place}.{kinds[0]}", inline=kinds[0] == "inline_data"))
        self.some_content(parts, path)
        return parts
