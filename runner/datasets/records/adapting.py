"""Converts a record of any known shape to the messages of an example."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from runner.datasets.examples import Format, Message, TextPart
from runner.datasets.reading.layouts import ANSWERS, CONVERSATIONS, PROMPTS, SYSTEMS
from runner.datasets.records.fields import Account, Fields, UnfitError
from runner.datasets.records.salvage import python_literal, strict_decoder
from runner.datasets.records.turns import ReadImage, Turns
from runner.datasets.rules.value_checks import kind_of


@dataclass(frozen=True, slots=True, kw_only=True)
class Columns:
    """Names of the keys of a record or the columns of a table; None means that the usual names are looked for."""

    prompt: str | None = None
    answer: str | None = None
    system: str | None = None

    @property
    def named(self) -> tuple[str, ...]:
        """Return the given names."""
        return tuple(name for name in (self.prompt, self.answer, self.system) if name)


def adapt(
    record: Any, account: Account, read_image: ReadImage, columns: Columns | None = None
) -> tuple[tuple[Message, ...], Format]:
    """Return the messages of a record, and the most similar documented format.

    Known shapes are the documented formats, conversations (ShareGPT and similar), a prompt with an answer under many
    names (Alpaca with its `input` and `history`, text-bison, questions and answers), prompts and completions that are
    conversations, a `system` text beside any of them, and images beside the turns.

    Args:
        record: decoded from JSON, or a row of a table.
        account: receives what is not in the messages, and what was interpreted differently.
        read_image: see `turns.ReadImage`.
        columns: keys or columns of the prompt, the answer and the system text.

    Raises:
        UnfitError: the record cannot become an example; the message says where and why.
    """
    if not isinstance(record, dict):
        raise UnfitError(f"{kind_of(record)}, not a record")
    columns = columns or Columns()
    fields = Fields(record, "", account)
    system_key, system = fields.pop(*((columns.system,) if columns.system else SYSTEMS))
    images_key, images = fields.pop("images", "image")
    images = images if isinstance(images, list) else [] if images in (None, "") else [images]
    turns = Turns(read_image, images, images_key, account)
    if system is not None:
        turns.say("system", system, system_key)
    conversation = None if columns.prompt or columns.answer else _conversation(fields, account)
    if conversation is not None:
        key, value = conversation
        turns.read(value, key)
        if system is not None and key == "messages":
            account.notes.append(f"{system_key} put first into messages")
    else:
        _pair(fields, columns, turns, account)
    fields.leave()
    messages = turns.finish()
    if conversation is not None:
        return messages, "generate_content" if key == "contents" else "chat"
    return messages, "prompt_completion" if _is_pair(messages) else "chat"


def _is_pair(messages: tuple[Message, ...]) -> bool:
    roles = [message.role for message in messages]
    return roles == ["user", "assistant"] and all(
        len(message.parts) == 1 and isinstance(message.parts[0], TextPart) for message in messages
    )


def _conversation(fields: Fields, account: Account) -> tuple[str, Any] | None:
    """Return the correct name of the list of turns, and the list; None if there is none."""
    for key in CONVERSATIONS:
        near = key in {"messages", "contents"} and isinstance(fields.get(fields.find(key, near=True)), list)
        path, value = fields.pop(key, near=near)
        if value is not None:
            return key, _written_list(value, path, account) if isinstance(value, str) else value
    return None


def _written_list(text: str, path: str, account: Account) -> list[Any]:
    """Return a list that is written as text, in JSON or, if a program printed it, in Python's notation."""
    try:
        value = strict_decoder(account).decode(text)
    except (ValueError, RecursionError):
        try:
            value = python_literal(text)
        except ValueError:
            value = None
    if not isinstance(value, list):
        raise UnfitError(f"{path}: a string that does not hold a list of turns")
    return value


def _pair(fields: Fields, columns: Columns, turns: Turns, account: Account) -> None:
    prompt_key, prompt = fields.pop(*((columns.prompt,) if columns.prompt else PROMPTS), near=not columns.prompt)
    answer_key, answer = fields.pop(*((columns.answer,) if columns.answer else ANSWERS), near=not columns.answer)
    if prompt is None or answer is None:
        missing = [name for name, value in (("prompt", prompt), ("answer", answer)) if value is None]
        raise UnfitError(f"no {' and no '.join(missing)} in it")
    if prompt_key == "instruction" and isinstance(prompt, str):
        # Alpaca: the instruction precedes its input (Dolly: its context), and follows the earlier turns.
        for key in ("input", "context"):
            more = fields.take(key)
            if isinstance(more, (str, int, float)) and str(more).strip():
                prompt = f"{prompt}\n\n{more}"
            elif more is not None and not isinstance(more, str):
                raise UnfitError(f"{key}: {kind_of(more)}, not a text")
        history = fields.take("history")
        if isinstance(history, str):
            history = _written_list(history, "history", account) if history.strip() else None
        _history(history, turns)
    for role, key, value in (("user", prompt_key, prompt), ("assistant", answer_key, answer)):
        if isinstance(value, list) and value and all(isinstance(turn, dict) for turn in value):
            turns.read(value, key)
        elif isinstance(value, list) and len(value) > 1 and all(isinstance(text, str) for text in value):
            raise UnfitError(f"{key}: a list of {len(value)} texts, not one text")
        else:
            turns.say("user" if role == "user" else "assistant", value, key)


def _history(history: Any, turns: Turns) -> None:
    if history is None:
        return
    if not isinstance(history, list):
        raise UnfitError(f"history: {kind_of(history)} where a list of turns belongs")
    for index, pair in enumerate(history):
        if not isinstance(pair, list) or len(pair) != 2:
            raise UnfitError(f"history[{index}]: {kind_of(pair)} where a question and its answer belong")
        turns.say("user", pair[0], f"history[{index}][0]")
        turns.say("assistant", pair[1], f"history[{index}][1]")


_SHAPES: tuple[tuple[str, Callable[[dict[str, Any]], bool]], ...] = (
    ("ShareGPT conversations", lambda record: any(key in record for key in CONVERSATIONS[2:])),
    ("Alpaca records", lambda record: "instruction" in record),
    ("text-bison records", lambda record: "input_text" in record),
    ("conversational prompts and completions", lambda record: isinstance(record.get("prompt"), list)),
    ("prompts with chosen and rejected answers", lambda record: "chosen" in record and "rejected" in record),
)


def is_foreign_shape(record: dict[str, Any]) -> bool:
    """Return whether a record has the shape of another tool, well-formed or not."""
    return any(matches(record) for _, matches in _SHAPES)


def shape_of(record: dict[str, Any]) -> str:
    """Return the name of a record's shape, in words."""
    for name, matches in _SHAPES:
        if matches(record):
            return name
    fields = Fields(record, "", Account())
    if any(key in record for key in CONVERSATIONS[:2]):
        return "conversations"
    prompt, answer = fields.find(*PROMPTS, near=True), fields.find(*ANSWERS, near=True)
    if prompt and answer and prompt != answer:
        return f"records of {prompt!r} and {answer!r}"
    return f"records of {', '.join(repr(key[:40]) for key in list(record)[:10])}" if record else "empty records"
