"""What a text must not hold, found from rare anchors, so that a clean text costs one pass of a multi-pattern search.

The anchors are complete: a text with a finding has at least one of them. The expensive exact patterns run only at the
anchors, and in windows of bounded length, so that no text makes them slow.
"""

from __future__ import annotations

import re

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

_LEADS = (b"\xc2", b"\xe2\x80", b"\xe2\x81", b"\xef\xbb", b"\xef\xbf")
"""What the characters beyond ASCII among them begin with in UTF-8."""


def control_characters(text: str) -> str | None:
    """Name the first character of a text that does not belong into one.

    That is a control, a bidi override, an invisible character that joins nothing, or U+FFFD.
    """
    data = text.encode("utf-8", "surrogatepass")
    if not scanning.controls(data) and (data.isascii() or not any(map(data.__contains__, _LEADS))):
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
