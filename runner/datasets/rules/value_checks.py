"""Checks single JSON values: texts, lists, objects and their keys, images; `parsing` checks their combination."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from functools import cache, lru_cache
from typing import Any

from runner.datasets.examples import ImagePart, Severity
from runner.datasets.rules.formats import (
    DETAILS,
    FILE_DATA,
    GS_URI,
    IMAGE_URL,
    INLINE_DATA,
    MIME_TYPES,
    PLACEHOLDERS,
    Keys,
)
from runner.datasets.rules.images import ImageError, as_data_url, decode_data_url, read_header
from runner.datasets.rules.json_objects import Findings, has_surrogate
from runner.datasets.rules.texts import control_characters, has_escaped_line_ends

_LONGEST_PLACEHOLDER = max(map(len, PLACEHOLDERS))
"""A longer text cannot match: lower case never shortens a text."""
_LONGEST_WORD = 80
_MANY_KEYS = 32


@lru_cache(1024)
def closest(word: str, known: tuple[str, ...], cutoff: float) -> str | None:
    """Return the most similar known word, or None if none is similar."""
    import difflib

    near = difflib.get_close_matches(
        word[:_LONGEST_WORD], [name for name in known if len(name) <= _LONGEST_WORD], n=1, cutoff=cutoff
    )
    return near[0] if near else None


class ValueChecks:
    """Adds problems of single values to the findings of a line.

    Args:
        findings: findings of the line.
        images: whether the base model accepts images.
        suspect: whether a text can have a control character or half a surrogate pair.
    """

    __slots__ = ("findings", "images", "suspect")

    def __init__(self, findings: Findings, images: bool, suspect: bool = True) -> None:
        self.findings = findings
        self.images = images
        self.suspect = suspect

    def image_url(self, value: Any, path: str) -> list[ImagePart]:
        """Check the `image_url` of a part of a chat."""
        if value is None or (value := self.object_of(value, path, IMAGE_URL)) is None:
            return []
        detail = value.get("detail")
        if detail is not None and detail not in DETAILS:
            self.findings.error("image-detail", f"{path}.detail", f"detail is {detail!r:.40}", "low, high or auto")
        url = value.get("url")
        if not isinstance(url, str):
            if "url" in value:
                self.findings.error("wrong-type", f"{path}.url", f"the url is {kind_of(url)}, not a string")
            return []
        self.address(url, f"{path}.url", declared=None)
        return [ImagePart(url, detail=detail if isinstance(detail, str) else None)]

    def file_of(self, value: Any, path: str, *, inline: bool) -> list[ImagePart]:
        """Check `file_data` or, inline, `inline_data` of a part of GenerateContent."""
        keys = INLINE_DATA if inline else FILE_DATA
        if (value := self.object_of(value, path, keys)) is None:
            return []
        content = keys.required[-1]
        declared, uri = value.get("mime_type"), value.get(content)
        for key, field in (("mime_type", declared), (content, uri)):
            if key in value and not isinstance(field, str):
                self.findings.error("wrong-type", f"{path}.{key}", f"{key} is {kind_of(field)}, not a string")
        if not isinstance(uri, str) or not isinstance(declared, str):
            return []
        if declared.lower() not in MIME_TYPES:
            self.findings.error(
                "image-type",
                f"{path}.mime_type",
                f"{declared[:40]!r} is not taken",
                "image/jpeg, image/png or image/webp",
            )
        uri = f"data:{declared};base64,{uri}" if inline else uri
        self.address(uri, f"{path}.{content}", declared=declared.lower())
        return [ImagePart(uri, mime_type=declared)]

    def address(self, uri: str, path: str, *, declared: str | None) -> None:
        """Check the address of an image."""
        if not self.images:
            self.findings.error(
                "image-unsupported", path, "the base model is text-only", "`runner models ls` shows which take images"
            )
        if uri.startswith("data:"):
            self.data_url(uri, path)
        elif (url := as_data_url(uri)) is not None:
            head = url[: url.index(",") + 1]
            self.findings.error("image-uri", path, f"base64 without `{head}` in front", "put it there")
        elif not uri.startswith("gs://"):
            scheme = uri.split(":", 1)[0][:20] if ":" in uri[:20] else ""
            what = f"{scheme}: addresses are not read" if scheme else "a local path, which the service cannot read"
            fix = (
                "name an object, gs://bucket/object" if scheme else "`runner data upload --images` uploads and renames"
            )
            self.findings.error("image-uri", path, what, fix)
        elif not GS_URI.match(uri) or has_surrogate(uri):
            self.findings.error("image-uri", path, f"{uri[:80]!r} is not of the form gs://bucket/object")

    def data_url(self, uri: str, path: str) -> None:
        """Check an inline image."""
        try:
            declared, data = decode_data_url(uri)
            header = read_header(data)
        except ImageError as error:
            self.findings.error(error.finding, path, error.message)
            return
        if declared not in MIME_TYPES:
            self.findings.error("image-type", path, f"declared as {declared[:40]!r}", f"it is {header.mime_type}")
        elif declared != header.mime_type:
            self.findings.warning("image-mismatch", path, f"declared as {declared}, the bytes are {header.mime_type}")
        for code, message, fix in header.notes:
            self.findings.warning(code, path, message, fix)

    def some_content(self, parts: list[str | ImagePart], path: str) -> None:
        """Check that not all parts are blank."""
        # A single blank part has been reported already.
        if len(parts) > 1 and all(isinstance(part, str) and not part.strip() for part in parts):
            self.findings.error("empty-text", path, "all parts are empty", "remove the example or fill it")

    def text_of(self, value: Any, path: str, key: str, blank_allowed: bool = False) -> str:
        """Return a text, the value of a key of the object at a path, after checking it."""
        if not isinstance(value, str):
            fix = "`runner data convert --to chat` reads a list of turns" if isinstance(value, list) else ""
            self.findings.error("wrong-type", join(path, key), f"{kind_of(value)} where a string belongs", fix)
            return ""
        stripped = value.strip()
        if len(stripped) <= _LONGEST_PLACEHOLDER:
            if stripped.lower() in PLACEHOLDERS:
                why = "a missing value of the source was written out"
                self.findings.error("placeholder-text", join(path, key), f"the text is {stripped!r}", why)
            elif not stripped and not blank_allowed:
                what = "only white space" if value else "empty"
                self.findings.error(
                    "empty-text", join(path, key), f"the text is {what}", "remove the example or fill it"
                )
        try:
            character = control_characters(value) if self.suspect else None
        except UnicodeEncodeError:
            message = "the text holds half a surrogate pair (\\ud800…\\udfff)"
            self.findings.error("lone-surrogate", join(path, key), message)
            return value
        if "\\" in value and has_escaped_line_ends(value):
            what = "the text holds line ends as backslash and n"
            why = "it was escaped twice: the model would learn to write so"
            self.findings.warning("escaped-newline", join(path, key), what, why)
        if character is not None:
            self.findings.warning("control-character", join(path, key), f"the text holds {character}", "remove it")
        return value

    def items_of(self, value: Any, path: str) -> list[Any]:
        """Return a list, or an empty one if the value is not a list."""
        if not isinstance(value, list):
            fix = "`runner data fix` reads a list that is written as a text" if isinstance(value, str) else ""
            self.findings.error("wrong-type", path, f"{kind_of(value)} where a list belongs", fix)
            return []
        if not value:
            self.findings.error("empty-list", path, "the list is empty")
        return value

    def is_object(self, value: Any, path: str) -> bool:
        """Return whether a value is an object."""
        if isinstance(value, dict):
            return True
        self.findings.error("wrong-type", path, f"{kind_of(value)} where an object belongs")
        return False

    def either(self, body: dict[str, Any], path: str, spellings: Mapping[str, str]) -> dict[str, Any]:
        """Convert camelCase and snake_case to one spelling; both at once are an error."""
        if body.keys().isdisjoint(spellings):
            return body
        renamed = dict(body)
        for other, name in spellings.items():
            if other in renamed:
                if name in renamed:
                    self.findings.error("duplicate-key", path, f"both {other!r} and {name!r} are given", "keep one")
                renamed[name] = renamed.pop(other)
        return renamed

    def object_of(self, value: Any, path: str, keys: Keys) -> dict[str, Any] | None:
        """Return an object with its keys in one spelling, after checking its keys; None if the value is no object."""
        if not isinstance(value, dict):
            self.is_object(value, path)
            return None
        names = tuple(value)
        if names == keys.required or names in _complete(keys.required, keys.optional):
            return value
        found = self.either(value, path, keys.spellings) if keys.spellings else value
        misplaced = [name for name in found if name in keys.meant and found[name]] if keys.meant else []
        for name in misplaced:
            self.findings.error("misplaced-key", join(path, name), *keys.meant[name])
        known = keys.required + keys.optional
        # A key without a value has no meaning: exports of tables have every key in every row.
        names = tuple([name for name in found if name in known or (found[name] is not None and name not in misplaced)])
        short = len(names) < _MANY_KEYS and sum(map(len, names)) < _LONGEST_WORD * _MANY_KEYS
        for problem in (_wrong_keys if short else _wrong_keys.__wrapped__)(names, keys.required, keys.optional):
            code, severity, key, message, fix = problem
            self.findings.add(code, severity, path if key is None else join(path, key), message, fix)
        return found


def join(path: str, key: str) -> str:
    """Return the path of a key of the object at a path."""
    return f"{path}.{key}" if path else key


@cache
def _complete(required: tuple[str, ...], optional: tuple[str, ...]) -> frozenset[tuple[str, ...]]:
    """Return all permutations of keys without problems."""
    some = itertools.chain.from_iterable(itertools.combinations(optional, count) for count in range(len(optional) + 1))
    return frozenset(order for more in some for order in itertools.permutations((*required, *more)))


_Problem = tuple[str, Severity, str | None, str, str]
"""Code, severity, the key whose place the finding has, message, fix."""


@lru_cache(1024)
def _wrong_keys(names: tuple[str, ...], required: tuple[str, ...], optional: tuple[str, ...]) -> list[_Problem]:
    """Return the problems of an object's keys; all lines of a file tend to have the same keys."""
    unknown = [name for name in names if name not in required and name not in optional]
    lowered = tuple([name.lower() for name in unknown])
    found: list[_Problem] = []
    for name in required:
        if name not in names:
            near = closest(name, lowered, 0.7)
            fix = f"{near!r} is there: did you mean {name!r}?" if near else ""
            found.append(("missing-key", "error", None, f"the key {name!r} is missing", fix))
    for name in unknown:
        shown = name[:60]
        found.append(("unknown-key", "warning", shown, "the service does not know this key and ignores it", ""))
        if has_surrogate(name):
            found.append(("lone-surrogate", "error", shown, "the key holds half a surrogate pair", ""))
    return found


def kind_of(value: Any) -> str:
    """Name the JSON type of a value, with its article."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "a boolean"
    names: dict[type, str] = {dict: "an object", list: "a list", str: "a string", int: "a number", float: "a number"}
    return next((name for kind, name in names.items() if isinstance(value, kind)), type(value).__name__)
