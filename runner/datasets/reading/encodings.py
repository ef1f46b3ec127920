"""Encodings of text: recognized if they are certain, and decoded strictly, block by block."""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterator
from functools import lru_cache
from typing import Any

from runner.datasets.reading.sources import Source, command_for, name_of, refusal
from runner.errors import ConfigurationError

_BLOCK_BYTES = 256 * 1024
_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
NAMES = {
    "utf-16-le": "UTF-16 LE",
    "utf-16-be": "UTF-16 BE",
    "utf-32-le": "UTF-32 LE",
    "utf-32-be": "UTF-32 BE",
    "cp1252": "Windows-1252 (cp1252)",
}
_FIRST_UNITS = 3
"""Code units that must be ASCII for text in UTF-16 or UTF-32 without a byte order mark: `{"m`, `pro`."""

_LATIN = """cp1250 cp1254 cp1257 cp1258 iso8859-1 iso8859-2 iso8859-3 iso8859-4 iso8859-9 iso8859-10 iso8859-13
iso8859-14 iso8859-15 iso8859-16"""
_OTHERS = """cp1251 cp1253 cp1255 cp1256 cp437 cp850 cp852 cp858 cp866 cp874 koi8_r koi8_u mac_roman mac_latin2
mac_cyrillic iso8859-5 iso8859-6 iso8859-7 iso8859-8 cp932 euc_jp gb18030 big5 euc_kr cp949 johab"""
_WORDS = """don't it's i'm you're can't doesn't that's isn't didn't won't we're they're i've you'll what's there's let's
café résumé naïve josé andré
für über können könnte müssen möglich möchte würde während größe schön später natürlich heißt wäre hätte früher zurück
nächste nächsten öffnen löschen ändern prüfen schließen außerdem gemäß verfügbar benötigt gerät lösung störung straße
grüße überweisung bestätigung kündigung rückgabe öffnungszeiten gebühr
très même être après déjà voilà première père mère année français où système problème s'il c'est qu'il n'est
año años niño niños señor señora española español mañana pequeño también está según después información cómo qué
não são então também você através português informação até
perché più così città può già qualità società
för från också även både får gør større"""
"""Frequent words with a letter outside ASCII. In a wrong encoding, none of them is a word of any language."""
_UTF8_CHARACTER = re.compile(rb"[\xc2-\xde][\x80-\xbf]|[\xe0-\xef][\x80-\xbf]{2}|[\xf0-\xf4][\x80-\xbf]{3}")
"""UTF-8 in text of another encoding, except the script N'Ko (0xDF): in cp1252 that is an ß before a quotation mark."""
_ASCII = bytes(range(0x80))
_SHOWN = 40
"""Maximum number of characters of a line that are shown."""


def detect(head: bytes, *, complete: bool) -> tuple[str, bytes]:
    """Return a file's encoding from its beginning, or "" if in doubt; and the bytes that it may contain, b"" for all.

    Args:
        head: the first bytes of the file.
        complete: whether they are the whole file.
    """
    for mark, encoding in _MARKS:
        if head.startswith(mark):
            return encoding, b""
    for encoding in ["utf-32-le", "utf-32-be", "utf-16-le", "utf-16-be"]:
        if b"\0" in head[:16] and (text := _decoded(head, encoding, complete)):
            start = text[:_FIRST_UNITS]
            if start.isascii() and "\0" not in text and "".join(start.split()).isprintable():
                return encoding, b""
    if _decoded(head, "utf-8", complete) is not None:
        return "utf-8", b""
    allowed = _bytes_of_cp1252(head)
    return ("cp1252", allowed) if allowed else ("", b"")


def _decoded(head: bytes, encoding: str, complete: bool) -> str | None:
    try:
        return codecs.getincrementaldecoder(encoding)().decode(head, complete)
    except UnicodeDecodeError:
        return None


def _bytes_of_cp1252(head: bytes) -> bytes:
    """Return the bytes with the same meaning in all possible encodings of a text; b"" unless it is certainly cp1252.

    The text's frequent words exclude encodings: if the words are not words in an encoding, the text is not in it.
    """
    try:
        tokens = re.findall("[¿¡]?[^\\W\\d_]+(?:\u2019[^\\W\\d_]+)?", head.decode("cp1252"))
    except UnicodeDecodeError:
        return b""
    parts = {part for token in set(tokens) for part in (token, *token.split("\u2019")) if not part.isascii()}
    wanted = set(_WORDS.replace("'", "\u2019").split())
    words = tuple(sorted(part for part in parts if part.lower().lstrip("¿¡") in wanted))
    if not words or _UTF8_CHARACTER.search(head):
        return b""
    allowed = _shared_bytes(words)
    return b"" if head.translate(None, allowed) else allowed


@lru_cache(8)
def _shared_bytes(words: tuple[str, ...]) -> bytes:
    written = [(word.encode("cp1252"), word) for word in words]
    possible = [
        encoding
        for encoding in f"{_LATIN} {_OTHERS}".split()
        if all(data.decode(encoding, "replace") == word for data, word in written)
    ]
    shared = bytearray(_ASCII)
    for byte in range(0x80, 0x100):
        data = bytes([byte])
        meant = data.decode("cp1252", "ignore")
        others = {data.decode(encoding, "ignore") for encoding in possible}
        # No text contains the C1 controls, which the ISO encodings have in place of Windows' quotes.
        if meant and all(other == meant or not other or 0x80 <= ord(other) < 0xA0 for other in others):
            shared.append(byte)
    return bytes(shared)


def as_utf8(stream: Any, encoding: str, *, source: Source, allowed: bytes = b"") -> Iterator[bytes]:
    """Yield the text of a stream in any encoding, as UTF-8 without a byte order mark. Decoding is strict.

    Raises:
        DatasetError: a byte cannot be decoded; the error names the line and the byte.
    """
    encoding = "utf-8" if encoding == "utf-8-sig" else encoding
    decoder = codecs.getincrementaldecoder(encoding)()
    before = b""  # the end of the previous block, which may be the beginning of a UTF-8 character
    count = lines = 0

    def refused(start: int, data: bytes, reason: str) -> Exception:
        passed = data[:start].decode(encoding, "ignore").count("\n")
        return not_decodable(source, encoding, lines + passed + 1, count + start, reason)

    block = None
    while block != b"":
        block, first = stream.read(_BLOCK_BYTES), block is None
        if allowed and (foreign := block.translate(None, allowed)):
            raise refused(block.index(foreign[:1]), block, "another one is meant")
        if allowed and (utf8 := _UTF8_CHARACTER.search(before + block)):
            raise refused(max(0, utf8.start() - len(before)), block, "a part is UTF-8")
        before = block[-3:]
        count += len(block)
        try:
            text = decoder.decode(block, not block)
            data = (text.removeprefix("\ufeff") if first else text).encode()
        except UnicodeDecodeError as error:
            # Bytes kept from the previous block precede this one's.
            count -= len(error.object)
            raise refused(error.start, error.object, error.reason) from error
        except UnicodeError as error:
            raise refused(0, block, str(error)) from error
        lines += data.count(b"\n")
        yield data


def not_decodable(
    source: Source, encoding: str, line: int, offset: int, reason: str, *, text: bytes = b""
) -> Exception:
    """Return the error for a byte (from 0) that an encoding does not have; looks up its line in `text`, if given."""
    name, shown = name_of(source), NAMES.get(encoding, encoding.upper())
    message = f"line {line} of {name}: byte {offset} of the file is not {shown} ({reason})"
    meant, reads = _likely(text, line)
    found = f", if line {line} is to read {reads!r}," if meant else ""
    command = command_for(source, encoding=meant or "NAME")
    fix = f"save the file as UTF-8, or{found} name its encoding: `{command}`"
    return refusal("not-utf8", message, file=name, line=line, fix=fix)


def _likely(text: bytes, line: int) -> tuple[str, str]:
    """Return a text's probable encoding, and the beginning of one of its lines in it; "" if none fits."""
    from charset_normalizer import from_bytes  # imported here because it takes a while

    found = from_bytes(text).best() if text else None
    if found is None:
        return "", ""
    whole = str(found)
    meant = "cp1252" if _decoded(text, "cp1252", complete=True) == whole else found.encoding
    lines = whole.splitlines()[line - 1 :] or [whole]
    return meant, lines[0].strip()[:_SHOWN]


def known_encoding(name: str) -> str:
    """Return Python's name of a text encoding. Raises ConfigurationError."""
    try:
        "".encode(name)
        return codecs.lookup(name).name
    except (LookupError, ValueError) as error:
        hint = "utf-8, utf-16, cp1252, cp1250, iso8859-2, shift_jis, gbk and the other names of Python's codecs"
        raise ConfigurationError(f"unknown encoding {name!r}", hint=hint) from error
