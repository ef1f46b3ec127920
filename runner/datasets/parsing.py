"""One parser for all documented formats, used by the checks, the estimate and the training process.

A line either becomes an `Example` or has at least one error that says why not; warnings may come with either. The
formats are prompt/completion, chat `messages` and GenerateContent `contents`, in camelCase or snake_case, with text and
images.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from runner.datasets.examples import Example, Format, ImagePart, Message, ParsedLine, Role, TextPart
from runner.datasets.images import MANY_IMAGES
from runner.datasets.json_lines import Findings, RawLine, decode_object, decode_text, raw_lines
from runner.datasets.values import PLACEHOLDERS, ValueChecks, closest, kind_of

__all__ = ["PLACEHOLDERS", "detect_format", "parse_line", "parse_raw", "read_file"]


_ROLES: dict[Format, dict[str, Role]] = {
    "chat": {"system": "system", "user": "user", "assistant": "assistant"},
    # The documented role is `assistant`; the service itself has been seen to ask for `model`. Both are taken.
    "generate_content": {"user": "user", "assistant": "assistant", "model": "assistant"},
}


def parse_line(text: str, number: int, *, file: str = "", images: bool = True) -> ParsedLine:
    """Parse one line of a dataset.

    Args:
        text: the line, without its line end.
        number: 1-based line number, for the findings.
        file: name of the file, for the findings.
        images: whether the base model takes images; where it does not, an image is an error.
    """
    findings = Findings(file, number)
    body = decode_text(text, findings) if text.strip() else None
    return _finish(body, number, findings, images=images)


def parse_raw(raw: RawLine, *, file: str = "", images: bool = True) -> ParsedLine | None:
    """Parse the bytes of one line; None when it is blank."""
    findings = Findings(file, raw.number)
    body = decode_object(raw, findings)
    if body is None and not findings.items:
        return None
    return _finish(body, raw.number, findings, images=images)


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


def _finish(body: dict[str, Any] | None, number: int, findings: Findings, *, images: bool) -> ParsedLine:
    example = None
    if body is not None:
        kind = detect_format(body)
        if kind is None:
            _unknown_format(body, findings)
        else:
            reader = _Reader(findings, kind, images=images)
            messages = reader.read(body)
            if not findings.failed:
                example = Example(line=number, format=kind, messages=messages)
    return ParsedLine(line=number, example=example, findings=tuple(findings.items))


def _unknown_format(body: dict[str, Any], findings: Findings) -> None:
    known = ("messages", "contents", "prompt", "completion", "systemInstruction")
    near = {key: closest(key.lower(), known, 0.75) for key in list(body)[:20]}
    guesses = [f"{key!r}: did you mean {match!r}?" for key, match in near.items() if match]
    findings.error(
        "unknown-format",
        "",
        "; ".join(guesses) or "none of the keys messages, contents or prompt and completion is there",
        "use one of the documented formats (docs/dataset-format.md)",
    )


class _Reader(ValueChecks):
    """Reads the object of one line. Every method adds findings and goes on, so that one pass reports all of them."""

    def __init__(self, findings: Findings, kind: Format, *, images: bool) -> None:
        super().__init__(findings, images=images)
        self.kind = kind

    def read(self, body: dict[str, Any]) -> tuple[Message, ...]:
        if self.kind == "prompt_completion":
            messages = self._prompt_completion(body)
        elif self.kind == "chat":
            messages = self._chat(body)
        else:
            messages = self._generate_content(body)
        images = sum(isinstance(part, ImagePart) for message in messages for part in message.parts)
        if images > MANY_IMAGES:
            self.findings.warning(
                "many-images",
                "",
                f"{images} images in one example; the models that take images were tested with up to {MANY_IMAGES}",
                "use fewer, or several examples",
            )
        return tuple(messages)

    def _prompt_completion(self, body: dict[str, Any]) -> list[Message]:
        self.keys(body, "", required=("prompt", "completion"))
        messages = []
        for key, role in (("prompt", "user"), ("completion", "assistant")):
            if key in body:
                text = self.text_of(body[key], key)
                messages.append(Message("user" if role == "user" else "assistant", (TextPart(text),)))
        return messages

    def _chat(self, body: dict[str, Any]) -> list[Message]:
        self.keys(body, "", required=("messages",))
        turns = self.items_of(body["messages"], "messages")
        messages = []
        for index, turn in enumerate(turns):
            path = f"messages[{index}]"
            if not self.is_object(turn, path):
                continue
            self.keys(turn, path, required=("role", "content"), optional=("name",))
            role = self._role(turn.get("role"), f"{path}.role") if "role" in turn else None
            parts = self._chat_content(turn["content"], f"{path}.content") if "content" in turn else ()
            if role is not None:
                messages.append(Message(role, parts))
            self._image_place(role, parts, path)
        self._order([message.role for message in messages], "messages", complete=len(messages) == len(turns))
        return messages

    def _generate_content(self, body: dict[str, Any]) -> list[Message]:
        body = self.either(body, "", {"system_instruction": "systemInstruction"})
        self.keys(body, "", required=("contents",), optional=("systemInstruction",))
        messages = []
        if (instruction := body.get("systemInstruction")) is not None and self.is_object(
            instruction, "systemInstruction"
        ):
            self.keys(instruction, "systemInstruction", required=("parts",), optional=("role",))
            parts = self._parts(instruction.get("parts"), "systemInstruction.parts")
            messages.append(Message("system", parts))
        turns = self.items_of(body["contents"], "contents")
        roles: list[Role] = []
        for index, turn in enumerate(turns):
            path = f"contents[{index}]"
            if not self.is_object(turn, path):
                continue
            self.keys(turn, path, required=("role", "parts"))
            role = self._role(turn.get("role"), f"{path}.role") if "role" in turn else None
            parts = self._parts(turn["parts"], f"{path}.parts") if "parts" in turn else ()
            if role is not None:
                roles.append(role)
                messages.append(Message(role, parts))
            self._image_place(role, parts, path)
        self._order(roles, "contents", complete=len(roles) == len(turns))
        return messages

    def _order(self, roles: list[Role], path: str, *, complete: bool) -> None:
        """Check the turns: an optional system turn, then user and assistant by turns, ending with the assistant."""
        if not complete or not roles:
            return  # a turn is already reported as broken; what follows from it would only be noise
        start = 1 if roles[0] == "system" else 0
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

    def _image_place(self, role: Role | None, parts: tuple[TextPart | ImagePart, ...], path: str) -> None:
        if role in {"assistant", "system"} and any(isinstance(part, ImagePart) for part in parts):
            self.findings.error(
                "image-place", path, f"an image in a turn of the {role}", "images belong into user turns"
            )

    def _role(self, value: Any, path: str) -> Role | None:
        allowed = _ROLES[self.kind]
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

    def _chat_content(self, value: Any, path: str) -> tuple[TextPart | ImagePart, ...]:
        if not isinstance(value, list):
            return (TextPart(self.text_of(value, path)),)
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
        return tuple(parts)

    def _parts(self, value: Any, path: str) -> tuple[TextPart | ImagePart, ...]:
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
        return tuple(parts)
