"""Text for terminals."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.cli.text import amount, duration, json_safe, padded, seconds_of, size, visible, width


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b[31mred\x1b[0m", "\\x1b[31mred\\x1b[0m"),
        ("a\x9b2Jb", "a\\x9b2Jb"),
        ("a\nb\tc\r", "a\\nb\\tc\\r"),
        ("abc\u202efdp.exe", "abc\\u202efdp.exe"),
        ("\ud800", "\\ud800"),
        ("pass\u200bword", "pass\\u200bword"),
        ("a\u00ad\u2060\ufeff\U000e0041", "a\\xad\\u2060\\ufeff\\U000e0041"),
        ("👩\u200d💻", "👩\u200d💻"),
        ("Grüße, 日本 🙂", "Grüße, 日本 🙂"),
    ],
)
def test_control_characters_are_spelled_out(text: str, shown: str) -> None:
    assert visible(text) == shown


def test_lines_and_tabs_stay_in_text_of_several_lines() -> None:
    assert visible("a\n\tb\x07", lines=True) == "a\n\tb\\x07"


@given(st.text(st.sampled_from("a\x1b\u200b\u202e\U000e0041\n\ud800é🙂")))
def test_json_means_the_same_afterwards(text: str) -> None:
    document = json.dumps(text, ensure_ascii=False)
    assert json.loads(json_safe(document)) == text


@given(st.text())
def test_nothing_that_steers_a_terminal_is_left(text: str) -> None:
    assert not any(character < " " or "\x7f" <= character <= "\x9f" for character in visible(text))
    visible(text).encode()


@given(st.text())
def test_json_means_the_same_when_it_is_made_safe(text: str) -> None:
    safe = json_safe(json.dumps({"text": text}, ensure_ascii=False))

    assert json.loads(safe)["text"] == text
    assert "\x9b" not in safe
    safe.encode()


@pytest.mark.parametrize(("text", "columns"), [("abc", 3), ("日本", 4), ("é", 1), ("e\u0301", 1), ("🙂", 2)])
def test_width_counts_columns(text: str, columns: int) -> None:
    assert width(text) == columns
    assert width(padded(text, 6)) == 6


@pytest.mark.parametrize(
    ("text", "seconds"), [("90", 90), ("0.5", 0.5), ("45s", 45), ("90m", 5400), ("2h30m", 9000), ("1d", 86400)]
)
def test_durations(text: str, seconds: float) -> None:
    assert seconds_of(text) == seconds


@pytest.mark.parametrize("text", ["", "m", "1x", "-5", "1m2h", "soon"])
def test_what_is_no_duration(text: str) -> None:
    with pytest.raises(ValueError, match="is not a duration"):
        seconds_of(text)


@pytest.mark.parametrize("text", ["9" * 400, "9" * 400 + "d", "1" + "0" * 14 + "d", "36526d"])
def test_a_duration_that_no_clock_reaches_is_none(text: str) -> None:
    with pytest.raises(ValueError, match=r"is not a duration|longer than 100 years"):
        seconds_of(text)


def test_numbers_for_people() -> None:
    assert [amount(value) for value in (0, 1234.5, 0.67, 0.0123, 0.00004)] == [
        "$0.00",
        "$1,234.50",
        "$0.67",
        "$0.012",
        "$0.000040",
    ]
    assert [size(value) for value in (0, 1023, 1536, 5 * 2**30)] == ["0 B", "1023 B", "1.5 KiB", "5.0 GiB"]
    assert [duration(value) for value in (5, 200, 7500, 90000)] == ["5 s", "3 min 20 s", "2 h 05 min", "1 d 1 h"]
