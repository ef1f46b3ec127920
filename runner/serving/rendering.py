"""Render messages to prompts as in training, with the checkpoint's own tokenizer and chat template."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from runner.datasets.tokens.counters import TokenizerCounter
from runner.errors import ConfigurationError, EngineMissingError, NotFoundError, RunnerError
from runner.gcp import downloads
from runner.gcp.session import Session

_FILES = ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja")


class TrainingTemplate:
    """Renders messages as in training.

    Args:
        directory: a Hugging Face folder with `tokenizer.json` and a chat template.

    Raises:
        ConfigurationError: a file is missing or damaged; EngineMissingError: the extra `data` is not installed.
    """

    def __init__(self, directory: Path) -> None:
        self._tokenizer = TokenizerCounter(directory)

    def tokens(self, messages: Sequence[Mapping[str, Any]]) -> list[int] | None:
        """Return the token IDs of a prompt before an answer.

        None for images, and for messages that the template refuses.
        """
        texts = [{"role": message.get("role"), "content": message.get("content")} for message in messages]
        if not texts or not all(isinstance(message["content"], str) for message in texts):
            return None
        try:
            prompt = self._tokenizer.template.prompt(texts)
        except ConfigurationError:
            return None
        return [token for token, _ in self._tokenizer.encode(prompt)]


def training_template(session: Session, source: str) -> tuple[TrainingTemplate | None, str]:
    """Return the template of the weights in a `gs://` folder, or the reason why it is not available.

    Raises:
        GoogleApiError, UnreachableError: the storage does not answer.
    """
    if not source:
        return None, "the location of the weights is unknown"
    with tempfile.TemporaryDirectory(prefix="runner-template-") as name:
        directory = Path(name)
        for file in _FILES:
            with contextlib.suppress(NotFoundError):
                (directory / file).write_bytes(downloads.read_bytes(session, f"{source.rstrip('/')}/{file}"))
        try:
            return TrainingTemplate(directory), ""
        except EngineMissingError as error:
            return None, f"{error.message}: {error.hint}"
        except RunnerError as error:
            return None, error.message.replace(f"{directory}", source.rstrip("/"))
