"""Examples of a dataset as questions to a model, with their answers."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from runner import json_text
from runner.datasets.examples import Message, TextPart
from runner.datasets.records.recognising import plain_examples
from runner.datasets.rules.parsing import read_file
from runner.errors import ConfigurationError, DatasetError
from runner.serving.evaluation import Question
from runner.wording import counted


def read_questions(path: Path, *, slice_by: str | None = None, limit: int | None = None) -> list[Question]:
    """Return the examples that end with a text to compare with. Raises DatasetError, ConfigurationError."""
    with plain_examples(path) as plain:
        return _questions(path, plain, slice_by, limit)


def _questions(path: Path, plain: Path, slice_by: str | None, limit: int | None) -> list[Question]:
    labels = _labels(plain, slice_by) if slice_by else {}
    questions: list[Question] = []
    findings = []
    for parsed in read_file(plain):
        findings += [item.to_json() for item in parsed.findings if item.severity == "error"]
        if parsed.example is None or (limit is not None and len(questions) >= limit):
            continue
        *before, last = parsed.example.messages
        if last.role == "assistant" and before:
            messages = tuple(_message(message) for message in before)
            label = labels.get(parsed.line, "")
            questions.append(Question(line=parsed.line, messages=messages, reference=last.text, label=label))
    if findings:
        raise DatasetError(
            f"{path} has {counted(len(findings), 'error')}", findings=findings, hint=f"`runner data check {path}`"
        )
    if not questions:
        raise ConfigurationError(f"{path} has no example that ends in an answer")
    return questions


def _labels(path: Path, key: str) -> dict[int, str]:
    """Return the value of a key by line. Raises ConfigurationError if no line has it."""
    labels: dict[int, str] = {}
    with path.open("rb") as stream:
        for number, raw in enumerate(stream, 1):
            try:
                body = json_text.parsed(raw)
            except ValueError:
                continue
            if isinstance(body, dict) and key in body:
                labels[number] = str(body[key])
    if not labels:
        raise ConfigurationError(f"no example of {path} has the key {key!r}", hint='{"topic": "law", "messages": […]}')
    return labels


def _message(message: Message) -> Mapping[str, Any]:
    """Return a message in the form of chat completions."""
    if all(isinstance(part, TextPart) for part in message.parts):
        return {"role": message.role, "content": message.text}
    parts = [
        {"type": "text", "text": part.text}
        if isinstance(part, TextPart)
        else {"type": "image_url", "image_url": {"url": part.uri}}
        for part in message.parts
    ]
    return {"role": message.role, "content": parts}
