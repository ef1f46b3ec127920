"""Extracts Google's own words from what a provider or the engine reports about a failure."""

from __future__ import annotations

import re

LONGEST = 1000
"""Maximum length of one cause, in characters."""
_NOISE = re.compile(r"^(update failed|preview failed|resource .* failed|\d+ errors? occurred:?)$")
_BULLET = re.compile(r"^\s*\* (?P<cause>.+?)\s*$", re.MULTILINE)
_GOOGLE = re.compile(r"(?:googleapi: )?Error (?P<http>[45]\d\d): ?(?P<said>[^\n]*)")


def sentence(message: str) -> str:
    """Return the cause from a diagnostic: Google's own words if it contains them, without the wrapping text."""
    text = re.sub(r"\x1b\[[0-9;]*m|<\{%\w+%\}>", "", message).strip()
    bullets = [match["cause"] for match in _BULLET.finditer(text)]
    for candidate in (*bullets, text):
        if match := _GOOGLE.search(candidate):
            return f"{match['said'].strip() or 'refused'} ({match['http']})"[:LONGEST]
    if bullets:
        return bullets[0][:LONGEST]
    lines = [line.strip().removeprefix("error: ") for line in text.splitlines()]
    kept = [line for line in lines if line and not _NOISE.match(line.rstrip("."))]
    return " ".join(kept)[:LONGEST]
