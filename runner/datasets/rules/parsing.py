"""One parser for all documented formats, used by the checks, the estimate and the training process.

A line either becomes an `Example` or has at least one error that says why not; both can have warnings. The
formats are prompt/completion, chat `messages` and GenerateContent `contents`, in camelCase or snake_case, with text and
images.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, BinaryIO

from runner.datasets.examples import Example, Format, ImagePart, Message, ParsedLine, Role, TextPart
from runner.datasets.reading.lines import RawLine, raw_lines
from runner.datasets.rules import formats
from runner.datasets.rules.formats import MANY_IMAGES, Keys
from runner.datasets.rules.json_objects import Findings, decode_object, decode_text
from runner.datasets.rules.value_checks import ValueChecks, closest, kind_of

Content = str | Sequence[str | ImagePart]
"""Content of a turn: one text, or texts and images."""
Turn = tuple[Role, Content]

_PART_OF = {keys.required: kind for kind, keys in formats.PARTS.items()}
"""Maps the keys of a part without other keys to its kind."""


def parse_line(text: str, number: int, *, file: str = "", images: bool = True) -> ParsedLine:
    """Parse one line of a dataset.

    Args:
        text: the line, without its line end.
        number: 1-based line number, for the findings.
        file: name of the file, for the findings.
        images: whether the base model accepts images; if not, an image is an error.
    """
    findings = Findings(file, number)
    body = decode_text(text, findings) if text.strip() else None
    return _parsed(read_turns(body, findings, images), findings)


def parse_raw(raw: RawLine, *, file: str = "", images: bool = True) -> ParsedLine | None:
    """Parse the bytes of one line; returns None if it is blank."""
    findings = Findings(file, raw.number)
    turns = read_turns(decode_object(raw, findings), findings, images)
    return _parsed(turns, findings) if turns or findings.items else None


def read_file(path: Path, *, images: bool = True) -> Iterator[ParsedLine]:
    """Parse a JSONL file line by line, without blank lines. Memory is limited to one line."""
    with path.open("rb") as stream:
        yield from parse_all(stream, path.name, images=images)


def parse_all(stream: BinaryIO, file: str, *, images: bool = True) -> Iterator[ParsedLine]:
    """Parse the lines of a stream, without blank lines."""
    for raw in raw_lines(stream):
        parsed = parse_raw(raw, file=file, images=images)
        if parsed is not None:
            yield parsed


def detect_format(body: dict[str, Any]) -> Format | None:
    """Return the format of an object, by its characteristic key."""
    if "messages" in body:
        return "chat"
    if "contents" in body:
        return "generate_content"
    if "prompt" in body or "completion" in body:
        return "prompt_completion"
    return None


def read_turns(
    body: dict[str, Any] | None, findings: Findings, images: bool, suspect: bool = True
) -> tuple[Format, list[Turn]] | None:
    """Return the format and the turns of the object of a line; None after adding an error, or without an object.

    `suspect` says whether a text can have a control character.
    """
    if body is None:
        return None
    kind = detect_format(body)
    if kind is None:
        _unknown_format(body, findings)
        return None
    turns = _Reader(findings, images, suspect).read(kind, body)
    return None if findings.failed else (kind, turns)


def _parsed(found: tuple[Format, list[Turn]] | None, findings: Findings) -> ParsedLine:
    line, example = findings.line, None
    if found is not None:
        kind, turns = found
        example = Example(line=line, format=kind, messages=tuple([_message(turn) for turn in turns]))
    return ParsedLine(line=line, example=example, findings=tuple(findings.items))


def _message(turn: Turn) -> Message:
    role, content = turn
    parts = (content,) if isinstance(content, str) else content
    return Message(role, tuple([TextPart(part) if isinstance(part, str) else part for part in parts]))


def _unknown_format(body: dict[str, Any], findings: Findings) -> None:
    names = tuple(itertools.islice(body, 20))
    findings.error(
        "unknown-format",
        "",
        (_guesses if sum(map(len, names)) < 1000 else _guesses.__wrapped__)(names),
        "use one of the documented formats (`runner explain dataset-format`)",
    )


@lru_cache(256)
def _guesses(names: tuple[str, ...]) -> str:
    """Return the probable meaning of an object's keys; all lines of a file tend to have the same keys."""
    known = ("messages", "contents", "prompt", "completion", "systemInstruction")
    near = {name: closest(name.lower(), known, 0.75) for name in names}
    guesses = [f"{name!r}: did you mean {match!r}?" for name, match in near.items() if match]
    return "; ".join(guesses) or "none of the keys messages, contents or prompt and completion is there"


class _Reader(ValueChecks):
    """Reads the object of one line. Every method adds findings and continues, so that one pass reports all of them."""

    __slots__ = ("kind", "roles")

    def read(self, kind: Format, body: dict[str, Any]) -> list[Turn]:
        """Return the turns of an object in a format; they make an example if no finding is an error."""
        self.kind = kind
        self.roles = formats.ROLES[kind]
        body = self.object_of(body, "", formats.LINES[kind]) or body
        turns: list[Turn] = []
        if kind == "prompt_completion":
            if "prompt" in body:
                turns.append(("user", self.text_of(body["prompt"], "", "prompt")))
            if "completion" in body:
                turns.append(("assistant", self.text_of(body["completion"], "", "completion")))
        elif kind == "chat":
            turns = self._turns(body["messages"], "messages", formats.CHAT_TURN, self._chat_content)
        else:
            if (value := body.get("systemInstruction")) is not None:
                instruction = self.object_of(value, "systemInstruction", formats.INSTRUCTION)
                if instruction is not None:
                    turns.append(("system", self._parts(instruction.get("parts"), "systemInstruction")))
            turns += self._turns(body["contents"], "contents", formats.CONTENTS_TURN, self._parts)
        images = 0
        for _, content in turns:
            if not isinstance(content, str):
                images += sum([isinstance(part, ImagePart) for part in content])
        if images > MANY_IMAGES:
            self.findings.warning(
                "many-images",
                "",
                f"{images} images in one example; the models that take images were tested with up to {MANY_IMAGES}",
                "use fewer, or several examples",
            )
        return turns

    def _turns(self, value: Any, name: str, keys: Keys, read: Callable[[Any, str], Content]) -> list[Turn]:
        """Return the turns of a named list; `read` reads the content of one turn, which has its second key."""
        content_key, roles = keys.required[1], self.roles
        items = self.items_of(value, name)
        turns: list[Turn] = []
        for index, item in enumerate(items):
            path = f"{name}[{index}]"
            turn = self.object_of(item, path, keys)
            if turn is None:
                continue
            spelled = turn.get("role")
            role = roles.get(spelled) if type(spelled) is str else None
            if role is None and "role" in turn:
                self._wrong_role(spelled, f"{path}.role")
            content = read(turn[content_key], path) if content_key in turn else ()
            if role == "assistant" and turn.get("weight") == 0:
                self.findings.error(
                    "weight-zero",
                    f"{path}.weight",
                    "0 keeps an answer from being learned elsewhere; the service learns every answer",
                    "end the conversation before it (`runner data fix` does, where no other answer follows)",
                )
            if role is not None:
                turns.append((role, content))
            if type(content) is not str and role in {"assistant", "system"}:
                self._no_images(content, role, path)
        if len(turns) == len(items):  # otherwise a turn is reported as broken, and its consequences would only be noise
            self._order([role for role, _ in turns], name)
        return turns

    def _order(self, roles: list[Role], path: str) -> None:
        """Check the turns: an optional system turn, then alternately user and assistant, ending with the assistant."""
        if not roles or formats.in_order(roles):
            return
        start = 1 if roles[0] == "system" else 0
        for index, role in enumerate(roles):
            if role == "system" and index > 0:
                self.findings.error(
                    "system-not-first",
                    f"{path}[{index}].role",
                    "a system turn follows another turn",
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

    def _no_images(self, content: Sequence[str | ImagePart], role: Role | None, path: str) -> None:
        if any(isinstance(part, ImagePart) for part in content):
            self.findings.error(
                "image-place", path, f"an image in a turn of the {role}", "images belong into user turns"
            )

    def _wrong_role(self, value: Any, path: str) -> None:
        if not isinstance(value, str):
            self.findings.error("wrong-type", path, f"the role is {kind_of(value)}, not a string")
            return
        fix = f"one of {', '.join(self.roles)}"
        if self.kind == "generate_content" and value == "system":
            fix = "put it into systemInstruction"
        elif near := closest(value.lower(), tuple(self.roles), 0.6):
            fix = f"did you mean {near!r}?"
        self.findings.error("unknown-role", path, f"unknown role {value[:40]!r}", fix)

    def _chat_content(self, value: Any, path: str) -> Content:
        if not isinstance(value, list):
            return self.text_of(value, path, "content")
        path = f"{path}.content"
        parts: list[str | ImagePart] = []
        for index, part in enumerate(self.items_of(value, path)):
            place = f"{path}[{index}]"
            if not self.is_object(part, place):
                continue
            kind = part.get("type")
            if kind == "text":
                self.object_of(part, place, formats.CHAT_TEXT)
                if "text" in part:
                    parts.append(self.text_of(part["text"], place, "text", blank_allowed=len(value) > 1))
            elif kind == "image_url":
                self.object_of(part, place, formats.CHAT_IMAGE)
                parts.extend(self.image_url(part.get("image_url"), f"{place}.image_url"))
            else:
                self.findings.error(
                    "unknown-part", f"{place}.type", f"a part of type {kind!r:.60}", "use text or image_url"
                )
        self.some_content(parts, path)
        return parts

    def _parts(self, value: Any, path: str) -> Content:
        parts: list[str | ImagePart] = []
        items = value if type(value) is list and value else self.items_of(value, f"{path}.parts")
        several = len(items) > 1
        for index, item in enumerate(items):
            place = f"{path}.parts[{index}]"
            kind = _PART_OF.get(tuple(item)) if type(item) is dict else None
            if kind is None:
                item, kind = self._part_of(item, place)
            if kind == "text":
                text = self.text_of(item["text"], place, "text", several)
                if not several:
                    return text
                parts.append(text)
            elif kind is not None:
                parts.extend(self.file_of(item[kind], f"{place}.{kind}", inline=kind == "inline_data"))
        if len(parts) == 1:
            return parts[0] if type(parts[0]) is str else parts
        self.some_content(parts, f"{path}.parts")
        return parts

    def _part_of(self, item: Any, path: str) -> tuple[Any, str | None]:
        """Return a part in one spelling and its kind, or None if it is not a part, after checking its keys."""
        if not self.is_object(item, path):
            return item, None
        item = self.either(item, path, formats.PART_SPELLINGS)
        kinds = [kind for kind in formats.PARTS if kind in item]
        if len(kinds) != 1:
            what = f"both {' and '.join(kinds)}" if kinds else "neither text, file_data nor inline_data"
            self.findings.error("unknown-part", path, f"the part holds {what}", "one of them in each part")
            return item, None
        self.object_of(item, path, formats.PARTS[kinds[0]])
        return item, kinds[0]
