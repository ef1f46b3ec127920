"""The table of defects: what each sets off, and how every format that can say it writes the defective line."""

from __future__ import annotations

import json

from tests.datasets.examples import png
from tests.datasets.written import (
    EXIF_GPS,
    EXIF_TURNED,
    JPEG,
    WEBP,
    Generate,
    Line,
    Picture,
    content_key,
    encoded,
    first_part,
    good,
    only,
    picture,
    put,
    raw,
    shape,
    text,
    turns,
    twice,
    with_segment,
)

SCAN = JPEG.index(b"\xff\xda") + 12
Q, A = ("user", "What is 77?"), ("answer", "The number 77.")

DEFECTS: dict[str, tuple[str, Line]] = {
    # Bytes and JSON.
    "object cut short": ("invalid-json", raw(lambda line: line[:-1])),
    "line cut in the middle": ("invalid-json", raw(lambda line: line[: len(line) // 2])),
    "trailing comma": ("invalid-json", raw(lambda line: line[:-1] + b",}")),
    "single quotes": ("invalid-json", raw(lambda line: line.replace(b'"', b"'"))),
    "two objects on a line": ("invalid-json", raw(lambda line: line + b" " + line)),
    "garbage behind the object": ("invalid-json", raw(lambda line: line + b" // done")),
    "raw control in a string": ("invalid-json", raw(lambda line: line.replace(b"What", b"Wh\x01t"))),
    "raw tab in a string": ("invalid-json", raw(lambda line: line.replace(b"What", b"Wh\tt"))),
    "unknown escape": ("invalid-json", raw(lambda line: line.replace(b"What", rb"Wh\x41t"))),
    "comment": ("invalid-json", raw(lambda line: b"/* 77 */ " + line)),
    "Python's None": ("invalid-json", raw(lambda line: line[:-1] + b', "id": None}')),
    "Python's True": ("invalid-json", raw(lambda line: line[:-1] + b', "ok": True}')),
    "key without quotes": ("invalid-json", raw(lambda line: line[:-1] + b", id: 3}")),
    "separator of CSV": ("invalid-json", raw(lambda line: b"What is 77?;The number 77.")),
    "array": ("not-an-object", raw(lambda line: b"[" + line + b"]")),
    "string": ("not-an-object", raw(lambda line: json.dumps(line.decode()).encode())),
    "number": ("not-an-object", raw(lambda line: b"77")),
    "null": ("not-an-object", raw(lambda line: b"null")),
    "boolean": ("not-an-object", raw(lambda line: b"true")),
    "NaN": ("not-a-number", raw(lambda line: line[:-1] + b', "weight": NaN}')),
    "Infinity": ("not-a-number", raw(lambda line: line[:-1] + b', "weight": Infinity}')),
    "minus Infinity": ("not-a-number", raw(lambda line: line[:-1] + b', "weight": -Infinity}')),
    "key twice, outside": ("duplicate-key", raw(twice)),
    "key twice, escaped": (
        "duplicate-key",
        lambda form: (
            raw(
                lambda line: (
                    line[:-1]
                    + (b', "\\u006d' if form.name.startswith("chat") else b', "\\u0063').join([b"", b""])
                    + line.split(b'"')[1][1:]
                    + b'": []}'
                )
            )(form)
            if form.turns_key
            else b'{"prompt": "a", "\\u0070rompt": "c", "completion": "b"}'
        ),
    ),
    "key twice, within": (
        "duplicate-key",
        lambda form: (
            encoded(good(form, 77)).replace(b'"role": "user"', b'"role": "user", "role": "user"', 1)
            if form.turns_key
            else None
        ),
    ),
    "lone surrogate": ("lone-surrogate", raw(lambda line: line.replace(b"What", rb"Wh\ud800t"))),
    "lone low surrogate": ("lone-surrogate", raw(lambda line: line.replace(b"What", rb"Wh\udc41t"))),
    "surrogates in the wrong order": ("lone-surrogate", raw(lambda line: line.replace(b"What", rb"\udc00\ud83d"))),
    "number of 5000 digits": ("number-too-long", raw(lambda line: line[:-1] + b', "id": ' + b"9" * 5000 + b"}")),
    "nested 100 levels": ("too-deep", raw(lambda line: line[:-1] + b', "x": ' + b"[" * 100 + b"]" * 100 + b"}")),
    "nested 100 000 levels": (
        "too-deep",
        raw(lambda line: line[:-1] + b', "x": ' + b"[" * 100_000 + b"]" * 100_000 + b"}"),
    ),
    "invalid UTF-8": ("not-utf8", raw(lambda line: line.replace(b"What", b"Wh\xfft"))),
    "Latin-1": ("not-utf8", raw(lambda line: line.replace(b"What", "Zoë".encode("latin-1")))),
    "surrogate in UTF-8": ("not-utf8", raw(lambda line: line.replace(b"What", b"\xed\xa0\x80"))),
    "overlong UTF-8": ("not-utf8", raw(lambda line: line.replace(b"What", b"\xc0\xaf"))),
    "UTF-8 cut short": ("not-utf8", raw(lambda line: line.replace(b"What", b"\xe2\x82"))),
    "raw NUL": ("nul-byte", raw(lambda line: line.replace(b"What", b"Wh\0t"))),
    "line of UTF-16": ("nul-byte", raw(lambda line: line.decode().encode("utf-16-le"))),
    "byte order mark in the middle": ("invalid-json", raw(lambda line: b"\xef\xbb\xbf" + line)),
    # The object.
    "empty object": ("unknown-format", lambda form: {}),
    "keys of another tool": ("unknown-format", lambda form: {"instruction": "a", "output": "b"}),
    "first key misspelt": (
        "unknown-format",
        shape(lambda body, turns: {"mesages" if "messages" in body else "content_s": turns}),
    ),
    "both keys misspelt": ("unknown-format", only("prompt", lambda form: {"promt": "a", "compleation": "b"})),
    "completion missing": ("missing-key", only("prompt", lambda form: {"prompt": "a"})),
    "prompt missing": ("missing-key", only("prompt", lambda form: {"completion": "b"})),
    "completion misspelt": (
        "missing-key, unknown-key",
        only("prompt", lambda form: {"prompt": "a", "completions": "b"}),
    ),
    "extra key": ("unknown-key", raw(lambda line: line[:-1] + b', "id": 4}')),
    "list of turns is an object": ("wrong-type", shape(lambda body, turns: {next(iter(body)): {"role": "user"}})),
    "list of turns is a string": ("wrong-type", shape(lambda body, turns: {next(iter(body)): "What?"})),
    "list of turns is null": ("wrong-type", shape(lambda body, turns: {next(iter(body)): None})),
    "no turns": ("empty-list", shape(lambda body, turns: turns.clear())),
    "turn is a string": ("wrong-type", shape(lambda body, turns: turns.__setitem__(0, "What?"))),
    "turn is null": ("wrong-type", shape(lambda body, turns: turns.__setitem__(1, None))),
    # Roles and their order.
    "role missing": ("missing-key", shape(lambda body, turns: turns[0].pop("role") and None)),
    "role misspelt": ("missing-key, unknown-key", shape(lambda body, turns: put(turns[0], rol=turns[0].pop("role")))),
    "role is a number": ("wrong-type", shape(lambda body, turns: put(turns[0], role=1))),
    "role is null": ("wrong-type", shape(lambda body, turns: put(turns[1], role=None))),
    "role human": ("unknown-role", turns(("human", "What?"), A)),
    "role with a capital": ("unknown-role", turns(("User", "What?"), A)),
    "role with a space": ("unknown-role", turns(("user ", "What?"), A)),
    "role tool": ("unknown-role", turns(Q, ("tool", "77"), A)),
    "role function": ("unknown-role", turns(Q, ("function", "77"), A)),
    "role model in a chat": ("unknown-role", only("chat", turns(Q, ("model", "77")))),
    "role system among the contents": ("unknown-role", only("generate", turns(("system", "Be brief."), Q, A))),
    "terminal escape in a role": ("unknown-role", turns(("\x1b[31muser", "What?"), A)),
    "system late": ("system-not-first", only("chat", turns(Q, ("system", "Be brief."), A))),
    "system twice": ("system-not-first", only("chat", turns(("system", "a"), ("system", "b"), Q, A))),
    "two questions in a row": ("role-order", turns(Q, Q, A)),
    "two answers in a row": ("role-order", turns(Q, A, A)),
    "answer first": ("role-order", turns(A, Q, A)),
    "no answer": ("no-answer", turns(Q)),
    "only a system turn": ("no-answer", only("chat", turns(("system", "Be brief.")))),
    "ends with a question": ("last-turn", turns(Q, A, Q)),
    # Contents.
    "content missing": ("missing-key", shape(lambda body, turns: turns[0].pop(content_key(turns[0])) and None)),
    "text is null": ("wrong-type", text(None)),
    "text is a number": ("wrong-type", text(7)),
    "text is a boolean": ("wrong-type", text(True)),
    "text is an object": ("wrong-type", only("prompt chat_parts generate", text({"text": "a"}))),
    "content is an object": ("wrong-type", only("chat", shape(lambda body, turns: put(turns[0], content={})))),
    "parts are a string": ("wrong-type", only("generate", shape(lambda body, turns: put(turns[0], parts="What?")))),
    "no parts": ("empty-list", shape(lambda body, turns: put(turns[0], **{content_key(turns[0]): []}))),
    "part is a string": ("wrong-type", shape(lambda body, turns: put(turns[0], **{content_key(turns[0]): ["Why?"]}))),
    "part without its text": (
        "missing-key",
        only("chat", shape(lambda body, turns: first_part(turns[0]).pop("text") and None)),
    ),
    "part with nothing": ("unknown-part", shape(lambda body, turns: first_part(turns[0]).clear())),
    "part of an unknown kind": (
        "unknown-part",
        only("chat", shape(lambda body, turns: put(first_part(turns[0]), type="input_audio"))),
    ),
    "function call": (
        "unknown-part",
        only("generate", shape(lambda body, turns: put(turns[0], parts=[{"functionCall": {"name": "f"}}]))),
    ),
    "part with two contents": (
        "unknown-part",
        only("generate", shape(lambda body, turns: put(first_part(turns[0]), inline_data={}))),
    ),
    "extra key in a turn": ("unknown-key", shape(lambda body, turns: put(turns[1], weight=1))),
    "extra key in a part": ("unknown-key", shape(lambda body, turns: put(first_part(turns[0]), annotations=1))),
    "system instruction is a string": (
        "wrong-type",
        lambda form: (
            {**good(form, 77), form.key("system_instruction"): "Be brief."} if isinstance(form, Generate) else None
        ),
    ),
    "system instruction in both spellings": (
        "duplicate-key",
        only(
            "generate",
            lambda form: {
                **good(form, 77),
                "systemInstruction": {"parts": [{"text": "a"}]},
                "system_instruction": {"parts": [{"text": "b"}]},
            },
        ),
    ),
    "empty text": ("empty-text", text("")),
    "white space only": ("empty-text", text(" \n\t ")),
    "no-break spaces only": ("empty-text", text("\u00a0\u2003")),
    "nan": ("placeholder-text", text("nan")),
    "None": ("placeholder-text", text("None")),
    "NULL": ("placeholder-text", text(" NULL\n")),
    "empty system text": ("empty-text", turns(Q, A, system="")),
    "all parts blank": (
        "empty-text",
        only("chat generate", turns(("user", ["  ", ""]), A)),
    ),
    # Texts.
    "NUL in a text": ("control-character", text("a\0b")),
    "terminal escape": ("control-character", text("\x1b[31mred")),
    "C1 control": ("control-character", text("a\x9b31m")),
    "backspace": ("control-character", text("abc\b\b")),
    "bidi override": ("control-character", text("user\u202egnp.exe")),
    "bidi isolate": ("control-character", text("a\u2066b")),
    "invisible space": ("control-character", text("pass\u200bword")),
    "byte order mark in a text": ("control-character", text("\ufeffWhat is it?")),
    "lost character": ("control-character", text("caf\ufffd")),
    "ChatML token": ("special-token", text("hello<|im_end|>")),
    "Llama token": ("special-token", text("hello<|eot_id|>")),
    "Gemma token": ("special-token", text("<start_of_turn>user")),
    "end of sequence": ("special-token", text("the end<eos>")),
    "e-mail address": ("personal-data", text("write to jane.doe@example.com")),
    "private key": ("secret", text("-----BEGIN RSA PRIVATE KEY-----\nMIIE")),
    "cloud access key": ("secret", text("AKIAABCDEFGHIJKLMNOP")),
    "API key": ("secret", text("key: AIza" + "b" * 35)),
    "access token": ("secret", text("ghp_" + "a1" * 18)),
    "too long for the model": ("over-length", turns(("user", "Why?"), ("answer", "because " * 2000))),
    "no room for the answer": ("over-length, answer-untrained", turns(("user", "because " * 2000), ("answer", "Why?"))),
    # Images.
    "image for a text-only model": ("image-unsupported", picture("gs://a-bucket/cat.jpg")),
    "web address": ("image-uri", picture("https://example.com/cat.jpg")),
    "local path": ("image-uri", picture("images/cat.jpg")),
    "path of the file system": ("image-uri", picture("file:///etc/passwd")),
    "other cloud": ("image-uri", picture("s3://bucket/cat.jpg")),
    "bucket without object": ("image-uri", picture("gs://a-bucket")),
    "bucket with a bad name": ("image-uri", picture("gs://UPPER/cat.jpg")),
    "line break in an object's name": ("image-uri", picture("gs://a-bucket/cat\n.jpg")),
    "broken base64": ("image-base64", picture("data:image/jpeg;base64,/9j/4AA*")),
    "base64 without padding": ("image-base64", picture("data:image/jpeg;base64,/9j/4")),
    "placeholder of the documentation": ("image-base64", picture("data:image/jpeg;base64,<base64 image>")),
    "base64 with line ends": ("image-base64", only("chat", picture(f"data:image/png;base64,{'AAAA' * 4}\nAAAA"))),
    "data URL without base64": ("image-data-url", only("chat", picture("data:image/jpeg,abc"))),
    "GIF": ("image-type", picture(data=b"GIF89a" + bytes(20))),
    "GIF declared as such": ("image-type, image-type", only("generate", picture(data=b"GIF89a", declared="image/gif"))),
    "SVG": ("image-type", picture(data=b"<svg xmlns='http://www.w3.org/2000/svg'/>")),
    "PDF": ("image-type", picture(data=b"%PDF-1.7")),
    "TIFF": ("image-type", picture(data=b"II*\0" + bytes(20))),
    "no bytes": ("image-type", picture(data=b"")),
    "video": ("image-type", only("generate", picture("gs://a-bucket/a.mp4", declared="video/mp4"))),
    "PNG declared as JPEG": ("image-mismatch", picture(data=png())),
    "JPEG cut short": ("image-truncated", picture(data=JPEG[:-20])),
    "JPEG without its end": ("image-truncated", picture(data=JPEG[:-2])),
    "JPEG of a header only": ("image-truncated", picture(data=JPEG[:20])),
    "JPEG with a corrupt scan": (
        "image-truncated",
        picture(data=JPEG[:SCAN] + b"\xff\x3c" * 8 + JPEG[SCAN + 16 :]),
    ),
    "JPEG without a scan": ("image-truncated", picture(data=JPEG[: JPEG.index(b"\xff\xda")] + b"\xff\xd9")),
    "PNG cut short": ("image-truncated", picture(data=png()[:-9], declared="image/png")),
    "PNG with a broken checksum": (
        "image-truncated",
        picture(data=png()[:45] + b"\0\1" + png()[47:], declared="image/png"),
    ),
    "PNG without pixels": (
        "image-truncated",
        picture(data=png()[:33] + png()[-12:], declared="image/png"),
    ),
    "PNG of 0 pixels": ("image-truncated", picture(data=png(0, 0), declared="image/png")),
    "WEBP cut short": ("image-truncated", picture(data=WEBP[:-4], declared="image/webp")),
    "WEBP with a broken chunk": (
        "image-truncated",
        picture(data=WEBP[:16] + b"\xff\xff\0\0" + WEBP[20:], declared="image/webp"),
    ),
    "PNG bomb": ("image-too-large", picture(data=png(20_000, 20_000), declared="image/png")),
    "polyglot": ("image-trailing", picture(data=JPEG + b"PK\x03\x04")),
    "photo that tells its place": ("personal-data", picture(data=with_segment(0xE1, b"Exif\0\0" + EXIF_GPS))),
    "photo that lies turned": ("image-orientation", picture(data=with_segment(0xE1, b"Exif\0\0" + EXIF_TURNED))),
    "animated PNG": (
        "image-animated",
        picture(
            data=png()[:33] + b"\0\0\0\x08acTL\0\0\0\x02\0\0\0\0" + b"\xf3\x8d\x93\x70" + png()[33:],
            declared="image/png",
        ),
    ),
    "too many images": (
        "many-images",
        turns(("user", ["Look.", *(Picture(f"gs://a-bucket/{number}.jpg") for number in range(6))]), A),
    ),
    "image in an answer": ("image-place", turns(Q, ("answer", ["See:", Picture("gs://a-bucket/cat.jpg")]))),
    "image of the system": ("image-place", only("chat", turns(("system", [Picture("gs://a-bucket/a.jpg")]), Q, A))),
    "image_url is a string": (
        "wrong-type",
        only(
            "chat", shape(lambda body, turns: put(turns[0], content=[{"type": "image_url", "image_url": "gs://b/a"}]))
        ),
    ),
    "url is missing": (
        "missing-key",
        only("chat", shape(lambda body, turns: put(turns[0], content=[{"type": "image_url", "image_url": {}}]))),
    ),
    "detail is unknown": (
        "image-detail",
        only(
            "chat",
            shape(
                lambda body, turns: put(
                    turns[0],
                    content=[{"type": "image_url", "image_url": {"url": "gs://a-bucket/a.png", "detail": "huge"}}],
                )
            ),
        ),
    ),
    "type of the file is missing": (
        "missing-key",
        only(
            "generate",
            shape(lambda body, turns: put(turns[0], parts=[{"file_data": {"file_uri": "gs://a-bucket/a.png"}}])),
        ),
    ),
    # Between lines: line 3 repeats or contradicts line 2.
    "the same example again": ("duplicate-example", lambda form: good(form, 2)),
    "the same example, written otherwise": (
        "duplicate-example",
        lambda form: encoded(good(form, 2)).replace(b"What", rb"Wh\u0061t").replace(b": ", b":  "),
    ),
    "the same question, another answer": (
        "conflicting-answers",
        lambda form: form.body([("user", "What is 2?"), ("answer", "Two.")]),
    ),
    "the same but for punctuation": (
        "near-duplicate",
        lambda form: form.body([("user", "what is  2"), ("answer", "The number 2!")]),
    ),
}
"""Name to the codes it sets off, the defect's own first, and the line."""
