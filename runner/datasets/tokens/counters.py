"""Determines how many tokens an example has: with the model's tokenizer if it is available, otherwise by an estimate.

The estimate is the number of characters times the service's published ratio (catalog), which includes the chat
template. Google's own cost script uses this method. The possible error for one example is not published, so lengths
near a limit are reported as estimates.
"""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import repeat
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runner.datasets.examples import Example
from runner.datasets.rules.contents import turns_of
from runner.datasets.tokens.template_tokens import Frame, Frames
from runner.errors import ConfigurationError
from runner.installation import require

if TYPE_CHECKING:
    from runner.catalog import Model
    from runner.catalog.models import TuningMode

DEFAULT_TOKENS_PER_CHARACTER = 0.25
"""Four characters per token: Google's rule of thumb, used if the catalog has no measured ratio."""

TOKENS_PER_IMAGE = 170
"""Only an estimate: Llama 4's smallest image (one tile of 336 x 336 pixels, 14-pixel patches, 2 x 2 shuffle: 144) and
its markers."""

PROBES = (
    "What is a car?",
    "  It's 12,345.67 m - \u00abvoil\u00e0\u00bb\n\n\tdef f(x):\n        return x**2  # \u4f60\u597d \U0001f600\r\n",
    "<|im_start|>\u0000\ufffd\u200b\u0301 \u0416\u0438\u0432\u0451\u043c  \u3042\u3044\u3046 HTTPServer_v2 don't WE'LL",
)
"""Texts on which the fast tokenizer must agree with the reference before its use, in addition to the first examples."""
_COMPARED_BYTES = 64 << 10
"""Bytes of the first texts that are compared: about a fiftieth of a second of the reference's time."""
_EXAMPLES_COMPARED = 16
"""Number of examples of each conversation shape that are counted both with and without the learned template."""


Sizes = Counter[tuple[int, int]]
"""Maps an example's size to the number of such examples: characters and images if tokens are estimated, tokens
and 0 if they were counted. `token_lengths` derives any model's lengths in tokens from it."""


def estimated_tokens(characters: int, images: int, ratio: float) -> int:
    """Return the tokens of an example with this many characters and images, at a ratio of tokens to characters."""
    return round(characters * ratio) + TOKENS_PER_IMAGE * images


def token_lengths(sizes: Sizes, ratio: float | None, limit: int | None) -> Counter[int]:
    """Return what the tuning service trains on, as a map from lengths in tokens to the number of examples.

    Args:
        sizes: sizes of all examples.
        ratio: tokens per character; None means that the tokens were counted.
        limit: maximum number of tokens of one example; longer ones are dropped.
    """
    lengths: Counter[int] = Counter()
    for (written, images), count in sizes.items():
        tokens = written if ratio is None else estimated_tokens(written, images, ratio)
        if limit is None or tokens <= limit:
            lengths[tokens] += count
    return lengths


@dataclass(frozen=True, slots=True)
class RatioCounter:
    """Estimates from the number of characters."""

    ratio: float
    exact: bool = False

    def measure_all(
        self,
        conversations: Iterable[Sequence[str]],
        characters: list[int],
        images: list[int] | None = None,
    ) -> tuple[list[int], list[int] | None]:
        """Return the tokens of each example (see `TokenizerCounter.measure_all`), and None for the trained tokens.

        The estimate is characters times ratio, plus a fixed number for each image.
        """
        ratio, some = self.ratio, images or repeat(0)
        return [estimated_tokens(count, each, ratio) for count, each in zip(characters, some, strict=False)], None

    def describe(self) -> str:
        """Describe the ratio."""
        return f"estimated at {self.ratio:g} tokens per character"


class TokenizerCounter:
    """Counts with a Hugging Face tokenizer folder: `tokenizer.json` and the chat template beside it.

    Prompt and answer are tokenized separately, as in training. `fastokens` counts if it is installed, accepts the
    tokenizer and gives the same IDs as Hugging Face's own on `PROBES` and on the first texts; otherwise the latter
    counts.
    """

    exact = True

    def __init__(self, directory: Path) -> None:
        require("counting with a tokenizer", "data", tokenizers="tokenizers", jinja2="jinja2")
        from tokenizers import Tokenizer

        path = directory / "tokenizer.json"
        if not path.is_file():
            raise ConfigurationError(f"{path} is not there", hint="--tokenizer takes a Hugging Face model folder")
        self.directory = directory
        from runner.datasets.tokens.templates import ChatTemplate

        self.template = ChatTemplate(directory)
        try:
            self._reference = Tokenizer.from_file(str(path))
        except Exception as error:  # the library raises plain Exception
            raise ConfigurationError(f"{path} is not a tokenizer: {error}") from error
        self._fast = _fast_tokenizer(path)
        self._compared = 0
        self._frames = Frames(path, self._count)
        self._known: dict[int, tuple[Frame | None, list[int]]] = {}
        """Frame of each conversation shape, and the number of examples that it was compared with."""
        for text in PROBES:
            self._count(text)

    @property
    def library(self) -> str:
        """Name the library that counts."""
        return "fastokens" if self._fast is not None else "tokenizers"

    def measure_all(
        self,
        conversations: Iterable[Sequence[str]],
        characters: list[int],
        images: list[int] | None = None,
    ) -> tuple[list[int], list[int] | None]:
        """Return the number of tokens of each example, including the template, and how many of them are trained.

        Args:
            conversations: turns of each example, from `contents.turns_of`.
            characters: number of characters of all texts of each example.
            images: number of images of each example; None means no images.

        Raises:
            ConfigurationError: the template fails.
        """
        plain = images is None
        tokens: list[int] = []
        trained: list[int] = []
        for turns in conversations:
            total, answers = self._framed(turns, plain) or self._pieced(turns, plain)
            tokens.append(total)
            trained.append(answers)
        if images is not None:
            tokens = [count + TOKENS_PER_IMAGE * some for count, some in zip(tokens, images, strict=True)]
        return tokens, trained

    def _pieced(self, turns: Sequence[str], plain: bool = False) -> tuple[int, int]:
        total = answers = 0
        for text, learned in self.template.pieces(turns, plain=plain):
            count = self._count(text)
            total += count
            if learned:
                answers += count
        return total, answers

    def _framed(self, turns: Sequence[str], plain: bool) -> tuple[int, int] | None:
        """Return the same by tokenizing only the contents; None if the result is not certainly the same."""
        if self._fast is None or self._compared < _COMPARED_BYTES:
            return None
        key = len(turns)
        if key not in self._known:
            around = self.template.surroundings(key)
            if around is None:
                return None
            self._known[key] = self._frames.frame(around), [0]
        frame, compared = self._known[key]
        bare = self.template.contents(turns, plain=plain) if frame is not None else None
        if frame is None or bare is None:
            return None
        encode = self._fast.encode_batch_flat
        total, answers = frame.total, frame.trained
        for (before, after, learned), turn in zip(frame.turns, bare, strict=True):
            count = len(encode([before + turn + after if before or after else turn])[0]) // 4
            total += count
            if learned:
                answers += count
        if compared[0] < _EXAMPLES_COMPARED:
            compared[0] += 1
            if (total, answers) != self._pieced(turns, plain):
                self._known[key] = None, compared
                return None
        return total, answers

    def encode(self, text: str) -> list[tuple[int, int]]:
        """Return the ID of each token and the index of its first character, from the reference."""
        encoding = self._reference.encode(text, add_special_tokens=False)
        return [(token, start) for token, (start, _) in zip(encoding.ids, encoding.offsets, strict=True)]

    def describe(self) -> str:
        """Name the folder."""
        return f"counted with the tokenizer in {self.directory}"

    def _count(self, text: str) -> int:
        if self._fast is not None:
            # The flat form creates no Python object for each token. One text at a time: a batch would be distributed to
            # threads, which costs more than it saves.
            ids: bytes = self._fast.encode_batch_flat([text])[0]
            if self._compared >= _COMPARED_BYTES:
                return len(ids) // 4
            self._compared += len(text) + 16
            expected = self._reference.encode(text, add_special_tokens=False).ids
            if array("I", ids).tolist() == expected:
                return len(expected)
            self._fast = None
        return len(self._reference.encode_batch_fast([text], add_special_tokens=False)[0])


def _fast_tokenizer(path: Path) -> Any | None:
    from importlib import util

    if util.find_spec("fastokens") is None:
        return None
    from fastokens import Tokenizer  # type: ignore[import-untyped]

    try:
        return Tokenizer.from_file(str(path))
    except Exception:
        return None  # it supports only byte-pair encoding; otherwise the reference counts


TokenCounter = RatioCounter | TokenizerCounter
"""Counts the tokens of examples; `exact` distinguishes counts from estimates."""


def measure(counter: TokenCounter, example: Example) -> tuple[int, int]:
    """Return the tokens of one example, and how many of them are trained (0 if that is unknown)."""
    characters = sum(len(message.text) for message in example.messages)
    tokens, trained = counter.measure_all([turns_of(example)], [characters], [len(example.images)])
    return tokens[0], trained[0] if trained is not None else 0


def ratio_of(model: Model | None, mode: TuningMode | None) -> float:
    """Return the catalog's tokens per character for a model's mode."""
    ratio = None
    if model is not None:
        limits = model.modes.get(mode) if mode else next(iter(model.modes.values()))
        ratio = limits.tokens_per_character if limits else None
    return ratio or DEFAULT_TOKENS_PER_CHARACTER


def open_counter(ratio: float, tokenizer: Path | None = None) -> TokenCounter:
    """Return a counter: exact with a tokenizer folder, otherwise by a ratio."""
    return RatioCounter(ratio) if tokenizer is None else TokenizerCounter(tokenizer)
