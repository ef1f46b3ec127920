"""The rules of the documented formats as data, each in one place.

`parsing` and `value_checks` read these tables, and the compiled scanner reads them by name: they are
tuples, dicts, sets, strings and numbers.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from runner.datasets.examples import Format, Role


class Keys(NamedTuple):
    """The keys of one kind of JSON object."""

    required: tuple[str, ...]
    optional: tuple[str, ...] = ()
    spellings: Mapping[str, str] = {}
    """Maps the other spelling of a key to its name here; an object can have only one of the two."""
    meant: Mapping[str, tuple[str, str]] = {}
    """Keys that other tools read and the service ignores, although the example has another meaning without them: the
    problem and the remedy."""


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
            "run `runner data fix` to put it first",
        ),
        "images": (
            "images beside the messages, where the service ignores them",
            "run `runner data fix` to put them into the messages",
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
"""Maps each format to the keys of a line."""

PARTS = {kind: Keys((kind,)) for kind in ("text", "file_data", "inline_data")}
"""The kinds of parts in GenerateContent: a part has exactly one of these keys."""
PART_SPELLINGS = {"fileData": "file_data", "inlineData": "inline_data"}

ROLES: dict[Format, dict[str, Role]] = {
    "prompt_completion": {},
    "chat": {"system": "system", "user": "user", "assistant": "assistant"},
    # The documented role is `assistant`, but the service has been observed to ask for `model`. Both are accepted.
    "generate_content": {"user": "user", "assistant": "assistant", "model": "assistant"},
}
"""Maps each format to the roles of its turns and their meanings."""

FIRST: Role = "system"
"""The role that is allowed only in the first turn."""
REPEATED: tuple[Role, ...] = ("user", "assistant")
"""The roles that follow, once or more."""

DETAILS = ("low", "high", "auto")
MIME_TYPES = ("image/jpeg", "image/png", "image/webp")
"""The specification's image formats."""
PLACEHOLDERS = frozenset({"nan", "none", "null", "undefined"})
"""Texts that programs write for a missing value, in any case and with white space around them."""

MAX_DEPTH = 64
"""Maximum depth of nesting; the documented formats need 7."""
MAX_PIXELS = 50_000_000
"""Limit against decompression bombs; the service publishes none."""
MANY_IMAGES = 5
"""Number of images in one example that Llama 4 was tested with, per its model card. The service publishes no limit."""

OBJECT_ADDRESS = r"gs://(?P<bucket>[a-z0-9][a-z0-9._-]{1,220}[a-z0-9])/(?P<name>[^\r\n\x00]{1,1024})"
"""The address of a Cloud Storage object: the bucket's name and the object's, which is otherwise opaque."""
GS_URI = re.compile(rf"{OBJECT_ADDRESS}\Z")


def in_order(roles: Sequence[Role]) -> bool:
    """Return whether turns match `FIRST` and `REPEATED`."""
    start = 1 if roles and roles[0] == FIRST else 0
    times, odd = divmod(len(roles) - start, len(REPEATED))
    return times > 0 and not odd and tuple(roles[start:]) == REPEATED * times
