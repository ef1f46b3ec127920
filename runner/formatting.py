"""Values for people, on terminals and pages: safe text, durations, sizes."""

from __future__ import annotations

import re

_UNSAFE = re.compile(
    "[\x00-\x1f\x7f-\x9f"  # C0, DEL and C1: escape sequences start with one of them
    "\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069"  # bidirectional controls, which change the displayed order of text
    "\u2028\u2029\ufeff"  # invisible line breaks and marks
    # These are invisible, so that two names could look equal; joiners, which scripts and emoji need, are kept.
    "\u00ad\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b\u2060-\u2065\u206a-\u206f\u3164\uffa0\ufff0-\ufffb"
    "\U000e0000-\U000e0fff"
    "\ud800-\udfff]"  # lone surrogates, which UTF-8 cannot represent
)
DURATION = "a duration of at most 100 years, such as 45s, 90m, 2h30m or 1d"
"""Describes the texts that `seconds_of` accepts."""
_LONGEST = 100 * 365.25 * 86400
_UNSAFE_BUT_LINES = re.compile(_UNSAFE.pattern.replace("\x00-\x1f", "\x00-\x08\x0b-\x1f"))


def visible(text: str, *, lines: bool = False) -> str:
    r"""Return text with every control character escaped (`\x1b`), so that remote text cannot control a terminal.

    Args:
        text: any text, from any source.
        lines: keep line feeds and tabs, for text with several lines.
    """
    return (_UNSAFE_BUT_LINES if lines else _UNSAFE).sub(_spelled, text)


def _spelled(match: re.Match[str]) -> str:
    code = ord(match[0])
    short = {9: "\\t", 10: "\\n", 13: "\\r"}.get(code)
    return short or (f"\\x{code:02x}" if code < 256 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}")


def json_safe(document: str) -> str:
    r"""Return a JSON text with unsafe characters in strings as `\uXXXX`, which parsers read as the same text."""
    return _UNSAFE_BUT_LINES.sub(_as_json, document)


def _as_json(match: re.Match[str]) -> str:
    code = ord(match[0])
    if code < 0x10000:
        return f"\\u{code:04x}"
    high, low = divmod(code - 0x10000, 0x400)
    return f"\\u{0xD800 + high:04x}\\u{0xDC00 + low:04x}"


def size(octets: int) -> str:
    """Return a number of bytes in binary units: `3.2 MiB`."""
    value = float(octets)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if value < 1024:
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1024
    return f"{value:.1f} TiB"


def seconds_of(text: str) -> float:
    """Return the seconds of a duration such as `90`, `45s`, `90m`, `2h30m` or `1d`.

    Raises:
        ValueError: the text is not a duration.
    """
    found = _seconds_of(text)
    if found > _LONGEST:
        raise ValueError(f"{text[:40]!r} is not {DURATION}")
    return found


def _seconds_of(text: str) -> float:
    if re.fullmatch(r"[0-9]{1,15}(\.[0-9]+)?", text):
        return float(text)
    match = re.fullmatch(
        r"(?:([0-9]{1,15})d)?(?:([0-9]{1,15})h)?(?:([0-9]{1,15})m)?(?:([0-9]{1,15})s)?", text.strip().lower()
    )
    if not text or match is None or not any(match.groups()):
        raise ValueError(f"{text[:40]!r} is not {DURATION}")
    days, hours, minutes, seconds = (int(part or 0) for part in match.groups())
    return float(((days * 24 + hours) * 60 + minutes) * 60 + seconds)


def duration(seconds: float) -> str:
    """Return seconds in the two largest units: `2 h 05 min`, `3 min 20 s`, `12 s`."""
    whole = int(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    if whole < 86400:
        return f"{whole // 3600} h {whole % 3600 // 60:02d} min"
    return f"{whole // 86400} d {whole % 86400 // 3600} h"
