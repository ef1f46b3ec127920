"""Datasets as training sees them: tokens, which of them are learned, what was dropped and why.

Only the assistant's turns are learned, with the token that ends them. Prompt and answer are tokenised apart, so that an
example's prompt has exactly the tokens that a request with the same messages will have.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from runner.datasets.examples import Example, ImagePart, Message, ParsedLine, TextPart
from runner.datasets.rules.images import ImageError, decode_data_url, read_header
from runner.datasets.rules.parsing import read_file
from runner.emulator.engine.chat_templates import renderer_of
from runner.emulator.engine.checkpoints import refusing

IGNORED = -100
"""Label of a token that is not learned."""

MAX_REPORTED = 100
"""Dropped examples named in the statistics; the API calls its list a partial sample."""


class DroppedExampleError(Exception):
    """This example cannot be trained on; the message is the user-facing reason."""


@dataclass(slots=True)
class TokenizedExample:
    """One example ready for batches."""

    line: int
    tokens: list[int]
    labels: list[int]
    """As long as `tokens`: the token itself where it is learned, else `IGNORED`."""
    images: dict[str, Any] = field(default_factory=dict)
    """Further inputs of the model, such as `pixel_values`, a tensor whose first dimension counts images or tiles."""
    turns: int = 0
    """User turns."""
    bare: TokenizedExample | None = None
    """The same pair without the chat template, which is learned beside it: as a prompt that is completed is written."""

    @property
    def rows(self) -> list[TokenizedExample]:
        """Return what goes into a batch."""
        return [self] if self.bare is None else [self, self.bare]

    @property
    def learned(self) -> int:
        """Return how many tokens are learned."""
        return sum(label != IGNORED for label in self.labels)

    @property
    def end(self) -> int:
        """Return the place of the last learned token, at which a pass may end; 0 if nothing is learned."""
        return max((place for place, label in enumerate(self.labels) if label != IGNORED), default=0)


@dataclass(slots=True)
class TokenizedDataset:
    """What is left of a file, and what was dropped."""

    examples: list[TokenizedExample] = field(default_factory=list)
    dropped: list[tuple[int, str]] = field(default_factory=list)
    """Line (from 1) and reason, in file order."""
    characters: int = 0
    """Characters of the text of all examples kept."""
    preview: list[dict[str, Any]] = field(default_factory=list)
    """The first examples' messages as the API's `Content`."""

    @property
    def tokens(self) -> int:
        """Return the number of tokens of all examples."""
        return sum(len(example.tokens) for example in self.examples)


class Tokenizer:
    """Turns examples into tokens with a model's chat template.

    Args:
        tokenizer: a transformers tokenizer with a chat template.
        processor: the model's processor if it takes images.
        max_length: tokens; longer examples are dropped, as the service does.
        files: local path of each `gs://` image that could be read.
    """

    def __init__(self, tokenizer: Any, processor: Any | None, *, max_length: int, files: dict[str, str]) -> None:
        self.tokenizer = tokenizer
        self.renderer = renderer_of(tokenizer)
        self.processor = processor
        self.max_length = max_length
        self.files = files

    def tokenize(self, example: Example) -> TokenizedExample:
        """Return the example's tokens and labels.

        Raises:
            DroppedExampleError: it is too long, or an image of it cannot be used.
        """
        tokens: list[int] = []
        labels: list[int] = []
        pixels: list[dict[str, Any]] = []
        for text, learned, images in self._segments(example):
            part, extra = self._encode(text, images)
            tokens += part
            labels += part if learned else [IGNORED] * len(part)
            if extra:
                pixels.append(extra)
            if len(tokens) > 64 * self.max_length:
                break  # far too long already: do not spend more on it
        if len(tokens) > self.max_length:
            raise DroppedExampleError(f"The example has {len(tokens)} tokens; the limit is {self.max_length}.")
        turns = sum(message.role == "user" for message in example.messages)
        bare = self._bare(example) if example.format == "prompt_completion" else None
        return TokenizedExample(example.line, tokens, labels, join_images(pixels), turns, bare)

    def _bare(self, example: Example) -> TokenizedExample | None:
        """Return a pair as plain text, encoded as serving encodes a prompt; None if that is too long."""
        question, answer = (message.text for message in example.messages)
        prompt: list[int] = self.tokenizer(question)["input_ids"]
        learned: list[int] = self.tokenizer(answer, add_special_tokens=False)["input_ids"]
        if self.tokenizer.eos_token_id is not None:
            learned = [*learned, self.tokenizer.eos_token_id]
        if not learned or len(prompt) + len(learned) > self.max_length:
            return None
        return TokenizedExample(example.line, prompt + learned, [IGNORED] * len(prompt) + learned)

    def _segments(self, example: Example) -> Iterator[tuple[str, bool, list[Any]]]:
        """Yield the rendered conversation in pieces: text, whether it is learned, and the images in it."""
        messages = [_to_chat(message, with_images=self.processor is not None) for message in example.messages]
        begun = 0
        for index, text, learned in self.renderer.pieces(messages):
            asked = [] if learned else example.messages[begun:index]
            images = [self._open(part) for message in asked for part in message.parts if isinstance(part, ImagePart)]
            begun = index + 1 if learned else begun
            yield text, learned, images

    def _encode(self, text: str, images: list[Any]) -> tuple[list[int], dict[str, Any]]:
        if not images or self.processor is None:
            ids: list[int] = self.tokenizer(text, add_special_tokens=False)["input_ids"]
            return ids, {}
        inputs = self.processor(text=[text], images=images, add_special_tokens=False, return_tensors="pt")
        extra = {
            name: value
            for name, value in inputs.items()
            if name not in ("input_ids", "attention_mask", "token_type_ids")
        }
        return inputs["input_ids"][0].tolist(), extra

    def _open(self, part: ImagePart) -> Any:
        from PIL import Image

        name = "inline image" if part.uri.startswith("data:") else part.uri
        try:
            if part.uri.startswith("data:"):
                _, data = decode_data_url(part.uri)
            elif part.uri in self.files:
                data = Path(self.files[part.uri]).read_bytes()
            else:
                raise DroppedExampleError(f"The image {name} could not be read.")
            read_header(data)  # refuses what is not a JPEG, PNG or WEBP, and bombs, before anything is decoded
            return Image.open(io.BytesIO(data)).convert("RGB")
        except (ImageError, OSError, ValueError) as error:
            raise DroppedExampleError(f"The image {name} is invalid: {error}") from error


def _to_chat(message: Message, *, with_images: bool) -> dict[str, Any]:
    if not with_images or all(isinstance(part, TextPart) for part in message.parts):
        return {"role": message.role, "content": message.text}
    content = [
        {"type": "text", "text": part.text} if isinstance(part, TextPart) else {"type": "image"}
        for part in message.parts
    ]
    return {"role": message.role, "content": content}


def join_images(parts: list[dict[str, Any]]) -> dict[str, Any]:
    """Concatenate image inputs along their first dimension."""
    if not parts:
        return {}
    import torch

    return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}


def read_dataset(path: Path, tokenizer: Tokenizer, *, images: bool) -> TokenizedDataset:
    """Read and tokenise a JSONL file. What cannot be trained on is dropped and counted, as the service does.

    Args:
        path: the file.
        tokenizer: turns examples into tokens.
        images: whether the base model takes images.

    Raises:
        ModelError: the chat template refuses an example, or takes too long for one.
    """
    dataset = TokenizedDataset()
    lines = list(read_file(path, images=images))
    # The specification of the image model: one example with an image, and all without one are left out.
    with_images = any(line.example is not None and line.example.images for line in lines)
    for index, line in enumerate(lines, start=1):
        try:
            example = _example(line)
            if with_images and not example.images:
                raise DroppedExampleError("The example has no image, and others have: such datasets are not supported.")
            with refusing(f"Line {index} cannot be rendered"):
                dataset.examples.append(tokenizer.tokenize(example))
        except DroppedExampleError as dropped:
            # The API counts examples: a blank line is none.
            dataset.dropped.append((index, str(dropped)))
            continue
        dataset.characters += sum(len(message.text) for message in example.messages)
        if len(dataset.preview) < 3:
            dataset.preview += [_to_content(message) for message in example.messages]
    return dataset


def _example(line: ParsedLine) -> Example:
    if line.example is not None:
        return line.example
    first = next((finding for finding in line.findings if finding.severity == "error"), None)
    if first is None:
        raise DroppedExampleError("The line is not an example.")
    raise DroppedExampleError(f"{first.path + ': ' if first.path else ''}{first.message} ({first.code})")


def _to_content(message: Message) -> dict[str, Any]:
    parts = [
        {"text": part.text}
        if isinstance(part, TextPart)
        else {"fileData": {"fileUri": part.uri[:200], **({"mimeType": part.mime_type} if part.mime_type else {})}}
        for part in message.parts
    ]
    return {"role": "model" if message.role == "assistant" else message.role, "parts": parts}
