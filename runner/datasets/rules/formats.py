"""The rules of the documented formats as data, each in one place.

`parsing` and `value_checks` read these tables; `scanner_rules` hands the same tables to the compiled scanner.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from runner.datasets.examples import Format, Role
from runner.datasets.reading.lines import MAX_LINE_BYTES
from runner.datasets.rules import texts


class Keys(NamedTuple):
    """The keys of one kind of JSON object."""

    required: tuple[str, ...]
    optional: tuple[str, ...] = ()
    spellings: Mapping[str, str] = {}
    """Other spelling to the key's name here; an object has one of the two."""
    meant: Mapping[str, tuple[str, str]] = {}
    """Keys that other tools read and the service ignores, though the example means something else without them: what
    is wrong, and what to do."""


_CALLS = "the service's formats hold no tool calls: this one would be left away, and the rest learned"
_REMOVE = "remove the example, or write the call into the text"

PAIR = Keys(
    ("prompt", "completion"),
    meant={
        "system": ("a system text has no place here, and the service ignores it", "`runner data convert --to chat`"),
        "history": (
            "turns before the prompt have no place here, and the service ignores them",
            "`runner data convert --to chat`",
        ),
    },
)
CHAT = Keys(
    ("messages",),
    meant={
        "system": (
            "a system text beside the messages, where the service ignores it",
            "`runner data fix` puts it first",
        ),
        "images": (
            "images beside the messages, where the service ignores them",
            "`runner data fix` puts them into the messages",
        ),
    },
)
CHAT_TURN = Keys(
    ("role", "content"), ("name",), meant={"tool_calls": (_CALLS, _REMOVE), "function_call": (_CALLS, _REMOVE)}
)
CHAT_TEXT = Keys(("type", "text"))
CHAT_IMAGE = Keys(("type", "image_url"))
IMAGE_URL = Keys(("url",), ("detail",))
CONTENTS = Keys(("contents",), ("systemInstruction",), {"system_instruction": "systemInstruction"})
CONTENTS_TURN = Keys(("role", "parts"))
INSTRUCTION = Keys(("parts",), ("role",))
FILE_DATA = Keys(("mime_type", "file_uri"), spellings={"mimeType": "mime_type", "fileUri": "file_uri"})
INLINE_DATA = Keys(("mime_type", "data"), spellings=FILE_DATA.spellings)

LINES: dict[Format, Keys] = {"prompt_completion": PAIR, "chat": CHAT, "generate_content": CONTENTS}
"""Format to the keys of a line."""

PARTS = {kind: Keys((kind,)) for kind in ("text", "file_data", "inline_data")}
"""The kinds of parts of GenerateContent: a part has exactly one of these keys."""
PART_SPELLINGS = {"fileData": "file_data", "inlineData": "inline_data"}

ROLES: dict[Format, dict[str, Role]] = {
    "prompt_completion": {},
    "chat": {"system": "system", "user": "user", "assistant": "assistant"},
    # The documented role is `assistant`; the service itself has been seen to ask for `model`. Both are taken.
    "generate_content": {"user": "user", "assistant": "assistant", "model": "assistant"},
}
"""Format to the roles a turn may name and what each means."""

FIRST: Role = "system"
"""A turn of this role may stand first, and nowhere else."""
REPEATED: tuple[Role, ...] = ("user", "assistant")
"""What follows, once or more."""

DETAILS = ("low", "high", "auto")
MIME_TYPES = ("image/jpeg", "image/png", "image/webp")
"""The specification's image formats."""
PLACEHOLDERS = frozenset({"nan", "none", "null", "undefined"})
"""What programs write for a missing value, in any case and with white space around."""

MAX_DEPTH = 64
"""Bound of nesting; the documented formats need 7."""
MAX_PIXELS = 50_000_000
"""Bound against decompression bombs; the service publishes none."""
MANY_IMAGES = 5
"""Number of images in one example that Llama 4 was tested with, per its model card. The service publishes no bound."""

BUCKET_ENDS = "a-z0-9"
"""Character class (of a regular expression) of the first and the last character of a bucket's name."""
BUCKET_INNER = "a-z0-9._-"
"""Character class of the characters between."""
BUCKET_LENGTH = (3, 222)
OBJECT_EXCLUDED = "\r\n\x00"
"""What an object's name, which is otherwise opaque, must not hold."""
OBJECT_LENGTH = (1, 1024)

GS_URI = re.compile(
    f"gs://(?P<bucket>[{BUCKET_ENDS}][{BUCKET_INNER}]{{{BUCKET_LENGTH[0] - 2},{BUCKET_LENGTH[1] - 2}}}[{BUCKET_ENDS}])"
    f"/(?P<name>[^{OBJECT_EXCLUDED}]{{{OBJECT_LENGTH[0]},{OBJECT_LENGTH[1]}}})\\Z"
)
"""The address of a Cloud Storage object."""


def in_order(roles: Sequence[Role]) -> bool:
    """Tell whether turns follow `FIRST` and `REPEATED`."""
    start = 1 if roles and roles[0] == FIRST else 0
    times, odd = divmod(len(roles) - start, len(REPEATED))
    return times > 0 and not odd and tuple(roles[start:]) == REPEATED * times


def scanner_rules() -> dict[str, Any]:
    """Return the rules as plain data: dicts, lists, strings and numbers.

    The fields:

    * `formats`: format to its `roles` (name in a file to `system`, `user` or `assistant`).
    * `objects`: kind of JSON object to its `required` and `optional` keys and its `spellings` (other spelling to the
      key's name). `pair`, `chat` and `contents` are whole lines; `chat_turn` and `contents_turn` items of `messages`
      and `contents`; `instruction` the value of `systemInstruction`; `chat_text` and `chat_image` parts of a chat
      turn; `image_url`, `file_data` and `inline_data` the values of these keys.
    * `part_kinds`, `part_spellings`: the keys of which a part of GenerateContent has exactly one.
    * `order`: `first`, the role that may stand first, and `repeated`, the roles that follow once or more.
    * `details`, `mime_types`: the values that `detail` and `mime_type` may have; `mime_type` in any case.
    * `placeholders`: texts, in lower case, that are errors in any case and with white space around.
    * `bucket`, `object`: after `gs://`, the bucket's name and, behind a slash, the object's. `length` is the least and
      the most characters; `ends` and `inner` are character classes of a regular expression; the object's name holds
      nothing of `excluded`.
    * `limits`: `line_bytes`, `depth` (levels of nesting), `pixels` of an image, `images` of an example without a
      warning.
    * `controls`: first and last code point of each range that a text must not hold.
    * `tokens`: control tokens of chat templates.
    * `patterns`: each with its `pattern` and its `anchors`, see `texts.Pattern`.
    """
    objects = {
        "pair": PAIR,
        "chat": CHAT,
        "chat_turn": CHAT_TURN,
        "chat_text": CHAT_TEXT,
        "chat_image": CHAT_IMAGE,
        "image_url": IMAGE_URL,
        "contents": CONTENTS,
        "contents_turn": CONTENTS_TURN,
        "instruction": INSTRUCTION,
        "file_data": FILE_DATA,
        "inline_data": INLINE_DATA,
    }
    return {
        "formats": {form: {"roles": dict(roles)} for form, roles in ROLES.items()},
        "objects": {
            name: {
                "required": list(keys.required),
                "optional": list(keys.optional),
                "spellings": dict(keys.spellings),
            }
            for name, keys in objects.items()
        },
        "part_kinds": list(PARTS),
        "part_spellings": dict(PART_SPELLINGS),
        "order": {"first": FIRST, "repeated": list(REPEATED)},
        "details": list(DETAILS),
        "mime_types": list(MIME_TYPES),
        "placeholders": sorted(PLACEHOLDERS),
        "bucket": {"ends": BUCKET_ENDS, "inner": BUCKET_INNER, "length": list(BUCKET_LENGTH)},
        "object": {"excluded": OBJECT_EXCLUDED, "length": list(OBJECT_LENGTH)},
        "limits": {
            "line_bytes": MAX_LINE_BYTES,
            "depth": MAX_DEPTH,
            "pixels": MAX_PIXELS,
            "images": MANY_IMAGES,
        },
        "controls": [list(ends) for ends in texts.CONTROLS],
        "tokens": list(texts.SPECIAL_TOKENS),
        "patterns": [{"pattern": pattern.pattern, "anchors": dict(pattern.anchors)} for pattern in texts.PATTERNS],
    }
