"""Write a copy of a dataset with what can be mended mended, and say of every line what was done to it."""

from __future__ import annotations

import difflib
import json
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from runner.datasets import digests
from runner.datasets.examples import Example, ParsedLine
from runner.datasets.json_lines import RawLine, raw_lines
from runner.datasets.parsing import PLACEHOLDERS, parse_raw
from runner.datasets.sources import Source, is_there, open_source
from runner.datasets.targets import open_target, refuse_existing
from runner.errors import ConfigurationError

CHANGES_KEPT = 1000
_ROLES = {
    "human": "user",
    "customer": "user",
    "gpt": "assistant",
    "bot": "assistant",
    "chatbot": "assistant",
    "ai": "assistant",
    "agent": "assistant",
}
_KEYS = ("messages", "contents", "prompt", "completion", "role", "content", "parts", "text", "systemInstruction")
_CONTROLS = dict.fromkeys((*range(0x20), 0x7F, *range(0x80, 0xA0), 0xFFFD, *range(0x202A, 0x202F)))
_CONTROLS |= dict.fromkeys((*range(0x2066, 0x206A), 0x200B, 0x2060, 0xFEFF))
for _kept in "\n\r\t":
    del _CONTROLS[ord(_kept)]


@dataclass(frozen=True, slots=True)
class Change:
    """What was done to one line."""

    line: int
    action: str
    """changed, dropped or split."""
    what: str

    def to_json(self) -> dict[str, Any]:
        """Return the stable JSON form."""
        return {"line": self.line, "action": self.action, "what": self.what}


@dataclass(slots=True, kw_only=True)
class Repair:
    """The outcome of `fix_file`."""

    output: Path
    rows: int = 0
    """Written."""
    unchanged: int = 0
    counts: Counter[str] = field(default_factory=Counter)
    """Action to number of lines."""
    changes: list[Change] = field(default_factory=list)
    """The first thousand."""

    def note(self, line: int, action: str, what: str) -> None:
        """Count a change and keep it if there is room."""
        self.counts[action] += 1
        if len(self.changes) < CHANGES_KEPT:
            self.changes.append(Change(line, action, what))

    def to_json(self) -> dict[str, Any]:
        """Return the stable JSON form."""
        return {
            "output": str(self.output),
            "rows": self.rows,
            "unchanged": self.unchanged,
            "counts": dict(sorted(self.counts.items())),
            "changes": [change.to_json() for change in self.changes],
        }


def fix_file(path: Source, output: Path, *, duplicates: bool = True, images: bool = True) -> Repair:
    """Write the mended copy of a dataset.

    Mended: byte order marks, blank lines, several objects on one line, misspelt keys and roles, keys that the service
    does not know, control characters, turns behind the last answer. What is still broken then is dropped, and so are
    repeats.

    Args:
        path: JSONL file, perhaps compressed or in a bucket.
        output: written; must not exist, so that nothing is ever overwritten. Compressed if its name says so.
        duplicates: drop examples that are there already.
        images: whether the base model takes images.

    Raises:
        ConfigurationError: the output is there already, or the input is not.
    """
    if not is_there(path):
        raise ConfigurationError(f"{path}: no such file")
    refuse_existing(output)
    repair = Repair(output=output)
    seen: dict[int, int] = {}
    with open_source(path) as source, open_target(output) as target:
        for raw in raw_lines(source):
            for line, example in _mended(raw, repair, images=images):
                if duplicates:
                    whole = digests.of_example(example)[1]
                    if (first := seen.setdefault(whole, raw.number)) != raw.number:
                        repair.note(raw.number, "dropped", f"the same example as line {first}")
                        continue
                target.write(line + b"\n")
                repair.rows += 1
    return repair


def _mended(raw: RawLine, repair: Repair, *, images: bool) -> list[tuple[bytes, Example]]:
    parsed = parse_raw(raw, images=images)
    if parsed is None:
        repair.note(raw.number, "dropped", "a blank line")
        return []
    if not parsed.findings and parsed.example is not None:
        repair.unchanged += 1
        return [(raw.data, parsed.example)]
    bodies = _objects(raw)
    if not bodies:
        repair.note(raw.number, "dropped", _reason(parsed))
        return []
    if len(bodies) > 1:
        repair.note(raw.number, "split", f"{len(bodies)} objects on one line")
    kept: list[tuple[bytes, Example]] = []
    for body in bodies:
        notes: list[str] = []
        if raw.data.startswith(b"\xef\xbb\xbf"):
            notes.append("byte order mark removed")
        line = msgspec.json.encode(_mend(body, notes))
        again = parse_raw(RawLine(raw.number + 1, line), images=images)
        if again is None or again.example is None:
            repair.note(raw.number, "dropped", _reason(again or parsed))
            continue
        if not notes and parsed.example is None and len(bodies) == 1:
            notes.append(f"written anew, the last value kept: {_reason(parsed)}")
        if notes:
            repair.note(raw.number, "changed", "; ".join(dict.fromkeys(notes)))
        elif len(bodies) == 1:
            repair.unchanged += 1
        kept.append((line if notes or len(bodies) > 1 else raw.data, again.example))
    return kept


def _reason(parsed: ParsedLine) -> str:
    error = next((finding for finding in parsed.findings if finding.severity == "error"), None)
    if error is None:
        return "it is no example"
    return f"{error.path}: {error.message}" if error.path else error.message


def _objects(raw: RawLine) -> list[dict[str, Any]]:
    """Return the JSON objects of a line, one after the other; none if anything else is on it."""
    if raw.too_long:
        return []
    try:
        text = raw.data.decode("utf-8").lstrip("\ufeff").replace("\x00", "").strip()
    except UnicodeDecodeError:
        return []
    decoder = json.JSONDecoder(parse_constant=_refuse)
    found: list[dict[str, Any]] = []
    position = 0
    while position < len(text):
        try:
            value, position = decoder.raw_decode(text, position)
        except (ValueError, RecursionError):
            return []
        if not isinstance(value, dict) or _too_deep(value):
            return []
        found.append(value)
        while position < len(text) and text[position] in " \t,":
            position += 1
    return found


def _too_deep(value: Any, levels: int = 32) -> bool:
    if not levels:
        return True
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return any(_too_deep(child, levels - 1) for child in inner)


def _refuse(name: str) -> Any:
    raise ValueError(name)


def _mend(body: dict[str, Any], notes: list[str]) -> dict[str, Any]:
    mended: dict[str, Any] = _each(body, notes, _rename_keys)
    mended = _each(mended, notes, _clean_texts)
    known: dict[str, tuple[str, ...]] = {
        "messages": ("messages",),
        "contents": ("contents", "systemInstruction", "system_instruction"),
        "prompt": ("prompt", "completion"),
    }
    for key, keys in known.items():
        if key in mended:
            _drop_keys(mended, keys, notes)
            break
    for key in ("messages", "contents"):
        turns = mended.get(key)
        if isinstance(turns, list):
            mended[key] = _mend_turns(turns, notes, chat=key == "messages")
    return mended


def _each(value: Any, notes: list[str], change: Callable[[Any, list[str]], Any]) -> Any:
    if isinstance(value, dict):
        value = {key: _each(child, notes, change) for key, child in value.items()}
    elif isinstance(value, list):
        value = [_each(child, notes, change) for child in value]
    return change(value, notes)


def _rename_keys(value: Any, notes: list[str]) -> Any:
    if not isinstance(value, dict):
        return value
    renamed: dict[str, Any] = {}
    for written, child in value.items():
        key = written.encode("utf-8", "ignore").decode("utf-8")
        if key != written:
            notes.append("control characters removed")
        near = difflib.get_close_matches(key, _KEYS, n=1, cutoff=0.8) if key not in _ALL_KEYS else []
        if near and near[0] not in value:
            notes.append(f"key {key[:40]!r} renamed {near[0]!r}")
            key = near[0]
        renamed[key] = child
    return renamed


_ALL_KEYS = frozenset(
    [
        *(*_KEYS, "system_instruction", "type", "image_url", "url", "detail", "name", "file_data", "fileData", "data"),
        *("inline_data", "inlineData", "mime_type", "mimeType", "file_uri", "fileUri"),
    ]
)


def _clean_texts(value: Any, notes: list[str]) -> Any:
    if isinstance(value, str):
        # Half a surrogate pair cannot be written as UTF-8.
        clean = value.encode("utf-8", "ignore").decode("utf-8").translate(_CONTROLS)
        if clean != value:
            notes.append("control characters removed")
        return clean
    return value


def _drop_keys(body: dict[str, Any], known: tuple[str, ...], notes: list[str]) -> None:
    for key in [key for key in body if key not in known]:
        del body[key]
        notes.append(f"unknown key {key[:40]!r} removed")


def _mend_turns(turns: list[Any], notes: list[str], *, chat: bool) -> list[Any]:
    for turn in turns:
        if not isinstance(turn, dict):
            continue
        role = turn.get("role")
        if isinstance(role, str):
            name = _ROLES.get(role.strip().lower(), role.strip().lower())
            if name != role and name in {"user", "assistant", "system", "model"}:
                turn["role"] = name
                notes.append(f"role {role[:40]!r} became {name!r}")
        _drop_keys(turn, ("role", "content", "name") if chat else ("role", "parts"), notes)
    while turns and isinstance(turns[-1], dict) and (turns[-1].get("role") == "user" or _is_empty(turns[-1])):
        turns.pop()
        notes.append("turns behind the last answer removed")
    return turns


def _is_empty(turn: dict[str, Any]) -> bool:
    content = turn.get("content", turn.get("parts"))
    return isinstance(content, str) and (not content.strip() or content.strip().lower() in PLACEHOLDERS)
