"""What a text must not contain, as data: the only definition, for the exact parser and for the compiled scanner.

Patterns are found from rare anchors, so that a clean text requires one search for several strings. A text with a
finding has at least one anchor; the exact patterns run only around it, over text of limited length.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import cache
from itertools import islice
from string import ascii_letters
from typing import NamedTuple

from ahocorasick_rs import BytesAhoCorasick, Implementation, MatchKind

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


class Pattern(NamedTuple):
    """Something that a text should not contain."""

    code: str
    what: str
    pattern: str
    """A regular expression whose classes and word boundaries are those of ASCII, so that a key is found next to letters
    of any script. Python's `re`, for bytes, and the compiled scanner interpret it identically."""
    anchors: Mapping[str, int]
    """Maps strings to their offset in a match: every match contains one. Only these strings are searched for."""


PATTERNS = (
    Pattern("secret", "a private key", r"-----BEGIN (?:[A-Z]{1,20} ){0,3}PRIVATE KEY-----", {"BEGIN ": 5}),
    Pattern("secret", "an access key", r"\b(?:AKIA|ASIA)[0-9A-Z]{16}\b", {"AKIA": 0, "ASIA": 0}),
    Pattern(
        "secret",
        "an API key",
        r"\b(?:AIza[0-9A-Za-z_\-]{35}|sk-[A-Za-z0-9_\-]{32,}|hf_[A-Za-z0-9]{30,})\b",
        {"AIza": 0, "sk-": 0, "hf_": 0},
    ),
    Pattern(
        "secret",
        "an access token",
        r"\b(?:gh[pousr]_[A-Za-z0-9]{36,}|xox[abprs]-[A-Za-z0-9\-]{10,})\b",
        dict.fromkeys([*(f"gh{kind}_" for kind in "pousr"), *(f"xox{kind}-" for kind in "abprs")], 0),
    ),
    Pattern(
        "personal-data",
        "an e-mail address",
        r"[A-Za-z0-9._%+\-]@[A-Za-z0-9\-]{1,63}(?:\.[A-Za-z0-9\-]{1,63}){0,8}\.[A-Za-z]{2,10}\b",
        {"@": 1},
    ),
)
"""In the order of a turn's findings, after the one for its first control token."""

_ESCAPED_LINE_END = re.compile(r"(?:\\r)?\\n(?P<word>[a-z]*)")
_CODE = re.compile(r"""\\(?:[^nrt"]|\Z)|\\r(?!\\n)|\b[A-Za-z]:\\|\w\(|[{}]|>>>""")
"""Other characters that occur in code, regular expressions, LaTeX and Windows paths."""
_LATEX = re.compile(
    r"n(?:abla|atural|cong|e|earrow|eg|eq|ew\w*|exists|ge|geq|gtr|i|le|leq|less|mid|ode|obreak|ocite|oindent|olimits"
    r"|onumber|ormalsize|ot|otin|parallel|prec|sim|subset|subseteq|succ|u|umber|warrow)\Z"
)
_LOOKED_AT = 10_000
"""Maximum number of escaped line ends that are checked: more do not change the answer, and would take long."""
_CODE_BESIDE = frozenset("\"'`[](){}<>|=+/&%$^~@#")


def remark(number: int) -> tuple[str, str, str]:
    """Return code, content and fix of a remark on a text: control tokens come first, then the patterns."""
    if number < len(SPECIAL_TOKENS):
        what = f"the control token {SPECIAL_TOKENS[number]!r} as text"
        return "special-token", what, "the chat template adds its own; remove it"
    pattern = PATTERNS[number - len(SPECIAL_TOKENS)]
    return pattern.code, pattern.what, "a tuned model can repeat it; remove it"


CONTROLS = (
    (0x00, 0x08), (0x0B, 0x0C), (0x0E, 0x1F), (0x7F, 0x9F), (0x200B, 0x200B), (0x202A, 0x202E), (0x2060, 0x2060),
    (0x2066, 0x2069), (0xFEFF, 0xFEFF), (0xFFFD, 0xFFFD),
)  # fmt: skip
"""First and last code points of characters that a text must not contain."""

_LINE_ENDS = "\x0b\x0c\x1c\x1d\x1e\x85"
"""Control characters between lines or records; without them, words would be joined."""

_CONTROL = re.compile(f"[{''.join(f'{re.escape(chr(first))}-{re.escape(chr(last))}' for first, last in CONTROLS)}]")

_ASCII_CONTROLS = bytes(code for first, last in CONTROLS for code in range(first, min(last, 0x7F) + 1))


def _written(code: int) -> Iterator[str]:
    """Yield the beginnings of all notations of a control character in JSON, except 0x7F itself."""
    if code > 0x7F:
        yield chr(code)
    digits = f"{code:04x}"
    if digits[0].isalpha():
        yield from (f"\\u{digits[0]}", f"\\u{digits[0].upper()}")
    else:
        yield f"\\u{digits[:3].rstrip(ascii_letters)}"


WRITTEN_CONTROLS = sorted(
    {"\\b", "\\f", *(text for ends in CONTROLS for code in range(ends[0], ends[1] + 1) for text in _written(code))}
)
"""Texts of which a line of JSON contains one if a text in it contains one of `CONTROLS`, except 0x7F."""


Search = Callable[[bytes], list[tuple[int, int, int]]]
"""Returns number, start and end of each string that is found."""


def searcher(words: Iterable[bytes]) -> Search:
    """Return a search for several strings; of overlapping occurrences, it finds the first."""
    return BytesAhoCorasick(
        list(words), matchkind=MatchKind.LeftmostFirst, implementation=Implementation.DFA
    ).find_matches_as_indexes


@cache
def _find_beyond_ascii() -> Search:
    """Return a search for those of `CONTROLS` that are outside ASCII, in UTF-8."""
    patterns = [chr(code).encode() for first, last in CONTROLS for code in range(max(first, 0x80), last + 1)]
    # The patterns that never occur make sure that there are more than three first bytes: the library would search for
    # few first bytes one by one, which is slow if they are frequent. With `LeftmostFirst`, it compares whole vectors.
    patterns += [bytes((code, code)) for code in range(1, 5)]
    return searcher(patterns)


def control_characters(text: str) -> str | None:
    """Name the first character that a text must not contain.

    This is a control character, a bidi override, an invisible character that joins nothing, or U+FFFD.

    Raises:
        UnicodeEncodeError: the text has half a surrogate pair.
    """
    # `_CONTROL` alone would take three times as long.
    data = text.encode()
    if data.translate(None, _ASCII_CONTROLS) == data and (text.isascii() or not _find_beyond_ascii()(data)):
        return None
    match = _CONTROL.search(text)
    return f"U+{ord(match[0]):04X}" if match else None


def without_controls(text: str) -> str:
    """Return a text without the characters that it must not contain; a line end replaces those that end lines."""
    text = text.encode("utf-8", "ignore").decode()  # without half surrogate pairs
    return _CONTROL.sub(lambda match: "\n" if match[0] in _LINE_ENDS else "", text)


def has_escaped_line_ends(text: str) -> bool:
    """Return whether a text without line ends has them as backslash and n, as after escaping twice.

    One is enough between two sentences; otherwise there must be two. If there is a sign of code, a regular
    expression, LaTeX or a path, the answer is no.
    """
    if "\n" in text or "\\n" not in text or _CODE.search(text):
        return False
    count, certain = 0, False
    for match in islice(_ESCAPED_LINE_END.finditer(text), _LOOKED_AT):
        place = match.start("word")
        before, following = text[match.start() - 1 : match.start()], text[place : place + 1]
        if before in _CODE_BESIDE or (following and following in _CODE_BESIDE - {"*", "#", "-"}):
            return False
        if match["word"] and _LATEX.match("n" + match["word"]):
            return False
        if (not before or before.isspace()) and (not following or not following.isalnum()):
            continue  # the text mentions it
        count += 1
        ends = bool(before) and (before.isalnum() or before in ".!?:;,")
        begins = following.isupper() or following.isdigit() or following in {"*", "-", "\\"}
        certain |= ends and bool(following) and (begins or "\\r" in match[0])
    return count > 1 or certain
