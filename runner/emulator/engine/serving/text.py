"""Converts the tokens of one sequence to text step by step: only complete characters, and cut at stop strings."""

from __future__ import annotations

from collections.abc import Callable, Sequence

_REPLACEMENT = "\N{REPLACEMENT CHARACTER}"

Decode = Callable[[Sequence[int]], str]
"""Token ids to text."""


class TextAssembler:
    """Emits text that will not change any more.

    It holds back bytes that are not a complete character yet, and text that may be the beginning of a stop string. The
    concatenation of the emitted texts is the sequence's text, whether it is streamed or not.

    Args:
        decode: converts token IDs to text.
        stop: strings that end the sequence.
        include_stop: whether the text includes the stop string.
    """

    def __init__(self, decode: Decode, stop: Sequence[str] = (), include_stop: bool = False) -> None:
        self._decode = decode
        self._stop = tuple(stop)
        self._include_stop = include_stop
        self._window: list[int] = []
        """Tokens of the last emitted text, as context for spaces between texts, and those that are not emitted yet."""
        self._context = 0
        """Number of context tokens in the window."""
        self._context_text = ""
        self._held = ""
        self.stopped = False
        """Whether a stop string was found; no more tokens may follow."""

    def add(self, token: int) -> str:
        """Add one token and return the text that is now certain; often empty."""
        self._window.append(token)
        text = self._decode(self._window)
        # A replacement character at the end is probably a character whose other bytes follow.
        if text.endswith(_REPLACEMENT):
            return ""
        return self._emit(self._advance(text))

    def finish(self) -> str:
        """Return the held-back text at the end of the sequence. An incomplete character becomes U+FFFD."""
        if self.stopped:
            return ""
        piece = self._advance(self._decode(self._window)) if self._window else ""
        text = self._emit(piece)
        if self.stopped:
            return text
        held, self._held = self._held, ""
        return text + held

    def _advance(self, text: str) -> str:
        piece = text[len(self._context_text) :]
        if piece:
            self._window = self._window[self._context :]
            self._context = len(self._window)
            self._context_text = self._decode(self._window)
        return piece

    def _emit(self, piece: str) -> str:
        if not self._stop:
            return piece
        text = self._held + piece
        found = [(place, one) for one in self._stop if (place := text.find(one)) >= 0]
        if found:
            place, string = min(found, key=lambda pair: pair[0])
            self.stopped = True
            self._held = ""
            return text[: place + len(string)] if self._include_stop else text[:place]
        keep = _possible_beginning(text, self._stop)
        self._held = text[len(text) - keep :]
        return text[: len(text) - keep]


def _possible_beginning(text: str, stop: Sequence[str]) -> int:
    """Return the length of the longest suffix of `text` that is a prefix of one of `stop`."""
    longest = min(len(text), max(len(one) for one in stop) - 1)
    for length in range(longest, 0, -1):
        end = text[len(text) - length :]
        if any(one.startswith(end) for one in stop):
            return length
    return 0
