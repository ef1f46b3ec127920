"""Text comes out in whole characters and never runs past a stop string."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.emulator.engine.serving.text import TextAssembler


def decode_bytes(tokens: Sequence[int]) -> str:
    """Decode a vocabulary of bytes, the hardest case for characters and the easiest to check."""
    return bytes(tokens).decode(errors="replace")


def decode_words(tokens: Sequence[int]) -> str:
    """Decode words as SentencePiece does: the space before the first one is dropped."""
    return " ".join(f"w{token}" for token in tokens)


def assemble(tokens: Sequence[int], stop: Sequence[str] = (), include_stop: bool = False) -> tuple[list[str], bool]:
    text = TextAssembler(decode_bytes, stop, include_stop)
    pieces = []
    for token in tokens:
        pieces.append(text.add(token))
        if text.stopped:
            return pieces, True
    pieces.append(text.finish())
    return pieces, text.stopped


@given(st.text())
def test_pieces_are_whole_characters_and_add_up(text: str) -> None:
    pieces, stopped = assemble(text.encode())
    assert "".join(pieces) == text
    assert not stopped
    if "\N{REPLACEMENT CHARACTER}" not in text:
        assert "\N{REPLACEMENT CHARACTER}" not in "".join(pieces)


@given(st.text("abc", min_size=1), st.lists(st.text("abc", min_size=1, max_size=4), min_size=1, max_size=3))
def test_text_ends_before_the_first_stop_string(text: str, stop: list[str]) -> None:
    places = [text.index(one) for one in stop if one in text]
    pieces, stopped = assemble(text.encode(), stop)
    assert stopped == bool(places)
    # Of two that end at different tokens, the one that is complete first counts.
    ends = sorted((text.index(one) + len(one), text.index(one)) for one in stop if one in text)
    first_end = ends[0][0] if ends else 0
    assert "".join(pieces) == (text[: min(start for end, start in ends if end == first_end)] if ends else text)


def test_a_possible_beginning_of_a_stop_string_is_held_back() -> None:
    text = TextAssembler(decode_bytes, ["</end>"])
    assert [text.add(token) for token in b"a</en"] == ["a", "", "", "", ""]
    assert text.add(ord("x")) == "</enx"
    assert text.finish() == ""


def test_the_held_back_beginning_comes_at_the_end() -> None:
    text = TextAssembler(decode_bytes, ["</end>"])
    assert [text.add(token) for token in b"a</"] == ["a", "", ""]
    assert text.finish() == "</"
    assert not text.stopped


def test_the_stop_string_can_be_included() -> None:
    pieces, stopped = assemble(b"one. two.", ["."], include_stop=True)
    assert ("".join(pieces), stopped) == ("one.", True)


def test_half_a_character_at_the_end_is_a_replacement_character() -> None:
    pieces, _ = assemble("né".encode()[:-1])
    assert pieces == ["n", "", "\N{REPLACEMENT CHARACTER}"]


@pytest.mark.parametrize("count", [1, 2, 5])
def test_spaces_between_pieces_survive(count: int) -> None:
    text = TextAssembler(decode_words)
    tokens = list(range(count))
    assert "".join([*(text.add(token) for token in tokens), text.finish()]) == decode_words(tokens)
