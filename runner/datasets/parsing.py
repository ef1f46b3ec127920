"""One parser for all documented formats, used by the checks, the estimate and the training process.

A line either becomes an `Example` or has at least one error that says why not; warnings may come with either. The
formats are prompt/completion, chat `messages` and GenerateContent `contents`, in camelCase or snake_case, with text and
images.
"""

from __future__ import annotations

import difflib
import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from runner.datasets.examples import Example, Format, ImagePart, Message, ParsedLine, Role, TextPart
from runner.datasets.images import GS_URI, MANY_IMAGES, MIME_TYPES, ImageError, decode_data_url, read_header
from runner.datasets.json_lines import (
    Findings,
    RawLine,
    decode_object,
    decode_text,
    has_surrogate,
    raw_lines,
)
from runner.datasets.texts import control_characters

_ROLES: dict[Format, dict[str, Role]] = {
    "chat": {"system": "system", "user": "user", "assistant": "assistant"},
    # The documented role is `assistant`; the service itself has been seen to ask for `model`. Both are taken.
    "generate_content": {"user": "user", "assistant": "assistant", "model": "assistant"},
}
_DETAILS = {"low", "high", "auto"}
PLACEHOLDERS = frozenset({"nan", "none", "null", "undefined"})
"""What programs write for a missing value."""


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
    known = ["messages", "contents", "prompt", "completion", "systemInstruction"]
    near = {key: difflib.get_close_matches(key.lower(), known, n=1, cutoff=0.75) for key in list(body)[:20]}
    guesses = [f"{key!r}: did you mean {match[0]!r}?" for key, match in near.items() if match]
    findings.error(
        "unknown-format",
        "",
        "; ".join(guesses) or "none of the keys messages, contents or prompt and completion is there",
        "use one of the documented formats (docs/dataset-format.md)",
    )


class _Reader:
    """Reads the object of one line. Every method adds findings and goes on, so that one pass reports all of them."""

    def __init__(self, findings: Findings, kind: Format, *, images: bool) -> None:
        self.findings = findings
        self.kind = kind
        self.images = images

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
        self._keys(body, "", required=("prompt", "completion"))
        messages = []
        for key, role in (("prompt", "user"), ("completion", "assistant")):
            if key in body:
                text = self._text(body[key], key)
                messages.append(Message("user" if role == "user" else "assistant", (TextPart(text),)))
        return messages

    def _chat(self, body: dict[str, Any]) -> list[Message]:
        self._keys(body, "", required=("messages",))
        turns = self._list(body["messages"], "messages")
        messages = []
        for index, turn in enumerate(turns):
            path = f"messages[{index}]"
            if not self._object(turn, path):
                continue
            self._keys(turn, path, required=("role", "content"), optional=("name",))
            role = self._role(turn.get("role"), f"{path}.role") if "role" in turn else None
            parts = self._chat_content(turn["content"], f"{path}.content") if "content" in turn else ()
            if role is not None:
                messages.append(Message(role, parts))
            self._image_place(role, parts, path)
        self._order([message.role for message in messages], "messages", complete=len(messages) == len(turns))
        return messages

    def _generate_content(self, body: dict[str, Any]) -> list[Message]:
        body = self._either(body, "", {"system_instruction": "systemInstruction"})
        self._keys(body, "", required=("contents",), optional=("systemInstruction",))
        messages = []
        if (instruction := body.get("systemInstruction")) is not None and self._object(
            instruction, "systemInstruction"
        ):
            self._keys(instruction, "systemInstruction", required=("parts",), optional=("role",))
            parts = self._parts(instruction.get("parts"), "systemInstruction.parts")
            messages.append(Message("system", parts))
        turns = self._list(body["contents"], "contents")
        roles: list[Role] = []
        for index, turn in enumerate(turns):
            path = f"contents[{index}]"
            if not self._object(turn, path):
                continue
            self._keys(turn, path, required=("role", "parts"))
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
            self.findings.error("wrong-type", path, f"the role is {_kind(value)}, not a string")
            return None
        if value in allowed:
            return allowed[value]
        fix = f"one of {', '.join(allowed)}"
        if self.kind == "generate_content" and value == "system":
            fix = "put it into systemInstruction"
        elif near := difflib.get_close_matches(value.lower(), allowed, n=1, cutoff=0.6):
            fix = f"did you mean {near[0]!r}?"
        self.findings.error("unknown-role", path, f"unknown role {value[:40]!r}", fix)
        return None

    def _chat_content(self, value: Any, path: str) -> tuple[TextPart | ImagePart, ...]:
        if not isinstance(value, list):
            return (TextPart(self._text(value, path)),)
        parts: list[TextPart | ImagePart] = []
        for index, part in enumerate(self._list(value, path)):
            place = f"{path}[{index}]"
            if not self._object(part, place):
                continue
            kind = part.get("type")
            if kind == "text":
                self._keys(part, place, required=("type", "text"))
                if "text" in part:
                    parts.append(TextPart(self._text(part["text"], f"{place}.text", blank_allowed=len(value) > 1)))
            elif kind == "image_url":
                self._keys(part, place, required=("type", "image_url"))
                parts.extend(self._image_url(part.get("image_url"), f"{place}.image_url"))
            else:
                self.findings.error(
                    "unknown-part", f"{place}.type", f"a part of type {kind!r:.60}", "use text or image_url"
                )
        self._some_content(parts, path)
        return tuple(parts)

    def _image_url(self, value: Any, path: str) -> list[ImagePart]:
        if value is None or not self._object(value, path):
            return []
        self._keys(value, path, required=("url",), optional=("detail",))
        detail = value.get("detail")
        if detail is not None and detail not in _DETAILS:
            self.findings.error("image-detail", f"{path}.detail", f"detail is {detail!r:.40}", "low, high or auto")
        url = value.get("url")
        if not isinstance(url, str):
            if "url" in value:
                self.findings.error("wrong-type", f"{path}.url", f"the url is {_kind(url)}, not a string")
            return []
        self._uri(url, f"{path}.url", declared=None)
        return [ImagePart(url, detail=detail if isinstance(detail, str) else None)]

    def _parts(self, value: Any, path: str) -> tuple[TextPart | ImagePart, ...]:
        parts: list[TextPart | ImagePart] = []
        items = self._list(value, path)
        for index, item in enumerate(items):
            place = f"{path}[{index}]"
            if not self._object(item, place):
                continue
            item = self._either(item, place, {"fileData": "file_data", "inlineData": "inline_data"})
            kinds = [key for key in ("text", "file_data", "inline_data") if key in item]
            if len(kinds) != 1:
                what = "both " + " and ".join(kinds) if kinds else "neither text, file_data nor inline_data"
                self.findings.error("unknown-part", place, f"the part holds {what}", "one of them in each part")
                continue
            self._keys(item, place, required=(kinds[0],))
            if kinds[0] == "text":
                parts.append(TextPart(self._text(item["text"], f"{place}.text", blank_allowed=len(items) > 1)))
            else:
                parts.extend(self._file(item[kinds[0]], f"{place}.{kinds[0]}", inline=kinds[0] == "inline_data"))
        self._some_content(parts, path)
        return tuple(parts)

    def _file(self, value: Any, path: str, *, inline: bool) -> list[ImagePart]:
        if not self._object(value, path):
            return []
        value = self._either(value, path, {"mimeType": "mime_type", "fileUri": "file_uri"})
        content = "data" if inline else "file_uri"
        self._keys(value, path, required=("mime_type", content))
        declared, uri = value.get("mime_type"), value.get(content)
        for key, field in (("mime_type", declared), (content, uri)):
            if key in value and not isinstance(field, str):
                self.findings.error("wrong-type", f"{path}.{key}", f"{key} is {_kind(field)}, not a string")
        if not isinstance(uri, str) or not isinstance(declared, str):
            return []
        if declared.lower() not in MIME_TYPES:
            self.findings.error(
                "image-type",
                f"{path}.mime_type",
                f"{declared[:40]!r} is not taken",
                "image/jpeg, image/png or image/webp",
            )
        uri = f"data:{declared};base64,{uri}" if inline else uri
        self._uri(uri, f"{path}.{content}", declared=declared.lower())
        return [ImagePart(uri, mime_type=declared)]

    def _uri(self, uri: str, path: str, *, declared: str | None) -> None:
        if not self.images:
            self.findings.error(
                "image-unsupported", path, "the base model is text-only", "`runner models ls` shows which take images"
            )
        if uri.startswith("data:"):
            self._data_url(uri, path)
        elif not uri.startswith("gs://"):
            scheme = uri.split(":", 1)[0][:20] if ":" in uri[:20] else ""
            what = f"{scheme}: addresses are not read" if scheme else "a local path, which the service cannot read"
            fix = (
                "name an object, gs://bucket/object" if scheme else "`runner data upload --images` uploads and renames"
            )
            self.findings.error("image-uri", path, what, fix)
        elif not GS_URI.match(uri) or has_surrogate(uri):
            self.findings.error("image-uri", path, f"{uri[:80]!r} is not of the form gs://bucket/object")

    def _data_url(self, uri: str, path: str) -> None:
        try:
            declared, data = decode_data_url(uri)
            header = read_header(data)
        except ImageError as error:
            self.findings.error(error.finding, path, error.message)
            return
        if declared not in MIME_TYPES:
            self.findings.error("image-type", path, f"declared as {declared[:40]!r}", f"it is {header.mime_type}")
        elif declared != header.mime_type:
            self.findings.warning("image-mismatch", path, f"declared as {declared}, the bytes are {header.mime_type}")
        if header.trailing > 0:
            self.findings.warning("image-trailing", path, f"{header.trailing} bytes follow the end of the image")
        for code, message, fix in header.notes:
            self.findings.warning(code, path, message, fix)

    def _some_content(self, parts: list[TextPart | ImagePart], path: str) -> None:
        # A single part that is blank has been named already.
        if len(parts) > 1 and all(isinstance(part, TextPart) and not part.text.strip() for part in parts):
            self.findings.error("empty-text", path, "all parts are empty", "remove the example or fill it")

    def _text(self, value: Any, path: str, *, blank_allowed: bool = False) -> str:
        if not isinstance(value, str):
            self.findings.error("wrong-type", path, f"{_kind(value)} where a string belongs")
            return ""
        if not value.strip():
            if not blank_allowed:
                what = "empty" if not value else "only white space"
                self.findings.error("empty-text", path, f"the text is {what}", "remove the example or fill it")
        elif value.strip().lower() in PLACEHOLDERS:
            self.findings.error(
                "placeholder-text",
                path,
                f"the text is {value.strip()!r}",
                "a missing value of the source was written out",
            )
        if has_surrogate(value):
            self.findings.error("lone-surrogate", path, "the text holds half a surrogate pair (\\ud800…\\udfff)")
        elif (character := control_characters(value)) is not None:
            self.findings.warning("control-character", path, f"the text holds {character}", "remove it")
        return value

    def _list(self, value: Any, path: str) -> list[Any]:
        if not isinstance(value, list):
            self.findings.error("wrong-type", path, f"{_kind(value)} where a list belongs")
            return []
        if not value:
            self.findings.error("empty-list", path, "the list is empty")
        return value

    def _object(self, value: Any, path: str) -> bool:
        if isinstance(value, dict):
            return True
        self.findings.error("wrong-type", path, f"{_kind(value)} where an object belongs")
        return False

    def _either(self, body: dict[str, Any], path: str, spellings: dict[str, str]) -> dict[str, Any]:
        """Bring camelCase and snake_case to one spelling; both at once is an error."""
        renamed = dict(body)
        for other, name in spellings.items():
            if other in renamed:
                if name in renamed:
                    self.findings.error("duplicate-key", path, f"both {other!r} and {name!r} are given", "keep one")
                renamed[name] = renamed.pop(other)
        return renamed

    def _keys(
        self, body: dict[str, Any], path: str, *, required: tuple[str, ...], optional: tuple[str, ...] = ()
    ) -> None:
        known = required + optional
        unknown = [key for key in body if key not in known]
        for key in required:
            if key in body:
                continue
            near = difflib.get_close_matches(key, [name.lower() for name in unknown], n=1, cutoff=0.7)
            fix = f"{near[0]!r} is there: did you mean {key!r}?" if near else ""
            self.findings.error("missing-key", path, f"the key {key!r} is missing", fix)
        for key in unknown:
            place = f"{path}.{key[:60]}" if path else key[:60]
            self.findings.warning("unknown-key", place, "the service does not know this key and ignores it")


def _kind(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "a boolean"
    names: dict[type, str] = {dict: "an object", list: "a list", str: "a string", int: "a number", float: "a number"}
    return names.get(type(value), type(value).__name__)
