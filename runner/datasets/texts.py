"""What a text must not hold, found from rare anchors, so that a clean text costs one pass of a multi-pattern search.

The anchors are complete: a text with a finding has at least one of them. The expensive exact patterns run only at the
anchors, and in windows of bounded length, so that no text makes them slow.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import cache

from ahocorasick_rs import BytesAhoCorasick, Implementation

from runner.datasets import scanning

SPECIAL_TOKENS = (
    "<|im_start|>",
    "<|im_end|>",
    "<|endoftext|>",
    "<|eot_id|>",
    "<|eot|>",
    "<|eom_id|>",
    "<|begin_of_text|>",
    "<|end_of_text|>",
    "<|start_header_id|>",
    "<|end_header_id|>",
    "<|header_start|>",
    "<|header_end|>",
    "<|image|>",
    "<|patch|>",
    "<start_of_turn>",
    "<end_of_turn>",
    "<bos>",
    "<eos>",
)
"""Control tokens of the chat templates of the models that can be tuned."""

_SPECIAL = re.compile("|".join(map(re.escape, SPECIAL_TOKENS)))

_KEY = re.compile(r"\b(?:AIza[0-9A-Za-z_\-]{35}|sk-[A-Za-z0-9_\-]{32,}|hf_[A-Za-z0-9]{30,})\b")
_TOKEN = re.compile(r"\b(?:gh[pousr]_[A-Za-z0-9]{36,}|xox[abprs]-[A-Za-z0-9-]{10,})\b")
_SECRETS: tuple[tuple[str, str, re.Pattern[str]], ...] = (
    ("-----BEGIN ", "a private key", re.compile(r"-----BEGIN (?:[A-Z]{1,20} ){0,3}PRIVATE KEY-----")),
    ("AKIA", "an access key", re.compile(r"\bAKIA[0-9A-Z]{16}\b")),
    ("ASIA", "an access key", re.compile(r"\bASIA[0-9A-Z]{16}\b")),
    ("AIza", "an API key", _KEY),
    ("sk-", "an API key", _KEY),
    ("hf_", "an API key", _KEY),
    *((f"gh{kind}_", "an access token", _TOKEN) for kind in "pousr"),
    *((f"xox{kind}-", "an access token", _TOKEN) for kind in "abprs"),
)
ANCHORS = tuple(anchor for anchor, _, _ in _SECRETS)
"""A text with a secret holds one of them."""

_LOCAL_PART = re.compile(r"[A-Za-z0-9._%+-]{1,64}\Z")
_DOMAIN = re.compile(r"[A-Za-z0-9-]{1,63}(?:\.[A-Za-z0-9-]{1,63}){0,8}\.[A-Za-z]{2,10}\b")

_CONTROL = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ufffd\u202a-\u202e\u2066-\u2069\u200b\u2060\ufeff]")

_BEYOND_ASCII = [
    *range(0x80, 0xA0), 0x200B, *range(0x202A, 0x202F), 0x2060, *range(0x2066, 0x206A), 0xFEFF, 0xFFFD,
]  # fmt: skip
"""The characters beyond ASCII among them."""


@cache
def _search(above: int, below: int) -> Callable[[bytes], list[tuple[int, int, int]]]:
    """Return a search for those of a range.

    Patterns that are in no text see to it that there are more than three first bytes: the library would look for few
    ones by one, which is slow where they are frequent.
    """
    patterns = [chr(code).encode() for code in _BEYOND_ASCII if above <= code < below]
    patterns += [bytes([code]) * len(patterns[0]) for code in range(1, 5)]
    return BytesAhoCorasick(patterns, implementation=Implementation.DFA).find_matches_as_indexes


def may_hold_invisible(data: bytes) -> bool:
    """Tell whether there may be a character beyond ASCII that does not belong into a text, in UTF-8."""
    if data.isascii():
        return False
    size = len(data)
    if scanning.count(data, b"\xc2", 0, size) and _search(0x80, 0x100)(data):
        return True
    leads = scanning.count(data, b"\xe2", 0, size) or scanning.count(data, b"\xef", 0, size)
    return bool(leads and _search(0x100, 0x10000)(data))


def control_characters(text: str) -> str | None:
    """Name the first character of a text that does not belong into one.

    That is a control, a bidi override, an invisible character that joins nothing, or U+FFFD.
    """
    data = text.encode("utf-8", "surrogatepass")
    if not scanning.controls(data) and not may_hold_invisible(data):
        return None
    match = _CONTROL.search(text)
    return f"U+{ord(match[0]):04X}" if match else None


def special_token(text: str) -> str | None:
    """Return the first control token of a chat template in a text."""
    if "<" not in text:
        return None
    match = _SPECIAL.search(text)
    return match[0] if match else None


def secrets(text: str) -> list[str]:
    """Name the kinds of secrets in a text, each once; never their values."""
    found: dict[str, None] = {}
    for anchor, what, pattern in _SECRETS:
        position = text.find(anchor)
        while position >= 0:
            if pattern.match(text, position):
                found[what] = None
                break
            position = text.find(anchor, position + 1)
    return list(found)


def has_email(text: str) -> bool:
    """Tell whether a text holds an e-mail address."""
    position = text.find("@")
    while position >= 0:
        if _LOCAL_PART.search(text, max(0, position - 64), position) and _DOMAIN.match(text, position + 1):
            return True
        position = text.find("@", position + 1)
    return False


def is_clean(text: str) -> bool:
    """Tell whether none of the above is in a text, controls apart."""
    return special_token(text) is None and not has_email(text) and not secrets(text)
