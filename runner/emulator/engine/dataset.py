"""The dataset in training: tokens, which of them are learned, and which examples were dropped and why.

Only the assistant's turns are learned, with the token that ends them. Prompt and answer are tokenized separately, so
that an example's prompt has exactly the tokens of a request with the same messages.
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
"""Number of dropped examples in the statistics; the API calls its list a partial sample."""


class DroppedExampleError(Exception):
    """This example cannot be used for training; the message is the reason for the user."""


@dataclass(slots=True)
class TokenizedExample:
    """One example ready for batches."""

    line: int
    tokens: list[int]
    labels: list[int]
    """As long as `tokens`: the token itself if it is learned, otherwise `IGNORED`."""
    images: dict[str, Any] = field(default_factory=dict)
    """Additional inputs of the model, such as `pixel_values`, a tensor whose first dimension counts images or tiles."""
    turns: int = 0
    """Number of user turns."""
    bare: TokenizedExample | None = None
    """The same pair without the chat template, which is trained in addition, in the format of a plain prompt."""

    @property
    def rows(self) -> list[TokenizedExample]:
        """Return the arrays for a batch."""
        return [self] if self.bare is None else [self, self.bare]

    @property
    def learned(self) -> int:
        """Return the number of learned tokens."""
        return sum(label != IGNORED for label in self.labels)

    @property
    def end(self) -> int:
        """Return the position of the last learned token, at which a pass can end; 0 if nothing is learned."""
        return max((place for place, label in enumerate(self.labels) if label != IGNORED), default=0)


@dataclass(slots=True)
class TokenizedDataset:
    """The examples of a file, and those that were dropped."""

    examples: list[TokenizedExample] = field(default_factory=list)
    dropped: list[tuple[int, str]] = field(default_factory=list)
    """Line (from 1) and reason, in file order."""
    characters: int = 0
    """Number of characters in the text of all kept examples."""
    preview: list[dict[str, Any]] = field(default_factory=list)
    """The first examples' messages as the API's `Content`."""

    @property
    def tokens(self) -> int:
        """Return the number of tokens in all examples."""
        return sum(len(example.tokens) for example in self.examples)


class Tokenizer:
    """Converts examples to tokens with a model's chat template.

    Args:
        tokenizer: a transformers tokenizer with a chat template.
        processor: the model's processor if it accepts images.
        max_length: tokens; longer examples are dropped, as on the service.
        files: local path of each readable `gs://` image.
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
            DroppedExampleError: it is too long, or one of its images cannot be used.
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
                break  # already too long: stop here
        if len(tokens) > self.max_length:
            raise DroppedExampleError(f"The example has {len(tokens)} tokens; the limit is {self.max_length}.")
        turns = sum(message.role == "user" for message in example.messages)
        bare = self._bare(example) if example.format == "prompt_completion" else None
        return TokenizedExample(example.line, tokens, labels, join_images(pixels), turns, bare)

    def _bare(self, example: Example) -> TokenizedExample | None:
        """Return a pair as plain text, encoded like a prompt in serving; None if it is too long."""
        question, answer = (message.text for message in example.messages)
        prompt: list[int] = self.tokenizer(question)["input_ids"]
        learned: list[int] = self.tokenizer(answer, add_special_tokens=False)["input_ids"]
        if self.tokenizer.eos_token_id is not None:
            learned = [*learned, self.tokenizer.eos_token_id]
        if not learned or len(prompt) + len(learned) > self.max_length:
            return None
        return TokenizedExample(example.line, prompt + learned, [IGNORED] * len(prompt) + learned)

    def _segments(self, example: Example) -> Iterator[tuple[str, bool, list[Any]]]:
        """Yield the rendered conversation in parts: text, whether it is learned, and its images."""
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
            read_header(data)  # refuses other formats than JPEG, PNG and WEBP, and bombs, before decoding
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
    """Read and tokenize a JSONL file. Examples that cannot be trained on are dropped and counted, as on the service.

    Args:
        path: the file.
        tokenizer: converts examples to tokens.
        images: whether the base model accepts images.

    Raises:
        ModelError: the chat template refuses an example, or takes too long for one.
    """
    dataset = TokenizedDataset()
    lines = list(read_file(path, images=images))
    # The specification of the image model: if one example has an image, all examples without images are omitted.
    with_images = any(line.example is not None and line.example.images for line in lines)
    for index, line in enumerate(lines, start=1):
        try:
            example = _example(line)
            if with_images and not example.images:
                raise DroppedExampleError("The example has no image, and others have: such datasets are not supported.")
            with refusing(f"Line {index} cannot be rendered"):
                dataset.examples.append(tokenizer.tokenize(example))
        except DroppedExampleError as dropped:
            # The API counts examples; a blank line is not an example.
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
