"""The codes of all findings, with what each means. They are stable: programs and people filter by them."""

from __future__ import annotations

from runner.datasets.examples import Severity

CODES: dict[str, tuple[Severity, str]] = {
    "answer-untrained": (
        "warning",
        "no token of the answer is trained: the prompt alone fills the limit, or the tokenizer returns no "
        "token for the answer",
    ),
    "byte-order-mark": ("warning", "the file starts with a UTF-8 byte order mark"),
    "compressed-bomb": ("error", "a compressed file grows to more than 200 times its size"),
    "conflicting-answers": ("warning", "one prompt has several answers"),
    "control-character": (
        "warning",
        "a text contains a control character, a bidi override, an invisible character or U+FFFD",
    ),
    "decoded": ("warning", "the file has another encoding, or is in an archive"),
    "duplicate-column": ("error", "two columns of a table have the same name"),
    "duplicate-example": ("warning", "the same example appears twice"),
    "duplicate-key": ("error", "a JSON object contains a key twice, or in both spellings"),
    "empty-file": ("error", "the file contains no example"),
    "empty-list": ("error", "messages, contents or parts is empty"),
    "empty-text": ("error", "a text is empty or white space"),
    "escaped-newline": ("warning", "a text contains line ends as backslash and n"),
    "file-extension": ("warning", "the extension is not .jsonl"),
    "image-animated": ("warning", "the image has several frames"),
    "image-base64": ("error", "the base64 text is broken"),
    "image-data-url": ("error", "the address is not data:TYPE;base64,…"),
    "image-detail": ("error", "detail is not low, high or auto"),
    "image-mismatch": ("warning", "the declared type differs from that of the bytes"),
    "image-missing": ("error", "the object does not exist or cannot be read (--fetch-images)"),
    "image-orientation": ("warning", "the EXIF data rotate the image"),
    "image-place": ("error", "an image in an assistant or system turn"),
    "image-too-large": ("error", "the image has more than 50 million pixels"),
    "image-trailing": ("warning", "bytes follow the end of the image"),
    "image-truncated": ("error", "the image is cut off or damaged"),
    "image-type": ("error", "the image is not JPEG, PNG or WEBP"),
    "image-unsupported": ("error", "the base model accepts only text"),
    "image-uri": ("error", "the address is not gs://bucket/object"),
    "invalid-json": ("error", "the line is not JSON, or has more than one value"),
    "last-turn": ("error", "the last turn is not the assistant's"),
    "leakage": ("warning", "a validation example is in the training file"),
    "line-too-long": ("error", "the line is longer than 64 MiB"),
    "lone-surrogate": ("error", "half a surrogate pair, which UTF-8 cannot encode"),
    "many-images": ("warning", "more than 5 images in one example"),
    "misplaced-key": (
        "error",
        "the service ignores a key that other tools use: a system text or images beside the messages, turns "
        "before a prompt, tool calls",
    ),
    "missing-key": ("error", "a required key is missing; the finding names a similar key"),
    "mixed-formats": ("error", "the file mixes formats, or training and validation differ"),
    "near-duplicate": (
        "warning",
        "the example differs from another one only in case, white space and punctuation (--near-duplicates)",
    ),
    "no-answer": ("error", "there is no assistant turn"),
    "not-a-number": ("error", "the value is NaN or Infinity"),
    "not-an-object": ("error", "the line is an array or a scalar"),
    "not-text": (
        "error",
        "the file is not a dataset: PDF, an image, a web page, an archive of several files, broken compression",
    ),
    "not-utf8": ("error", "a byte sequence is not UTF-8; the finding gives its offset"),
    "nothing-left": ("error", "every example is over-length"),
    "nul-byte": ("error", "a raw NUL byte"),
    "number-too-long": ("error", "a number has thousands of digits"),
    "object-not-plain": ("error", "the object is compressed or not in UTF-8, and a job cannot read it"),
    "other-format": (
        "error",
        "the file has another layout (CSV, Excel, Parquet, a JSON array …) or another schema (ShareGPT, "
        "Alpaca …); the finding shows the first row as it would be converted, and the command",
    ),
    "over-length": ("warning", "the example has more tokens than the model allows in this mode: the service drops it"),
    "personal-data": ("warning", "an email address, or the location where a photo was taken"),
    "placeholder-text": ("error", "the text is nan, none, null or undefined"),
    "role-order": ("error", "user and assistant turns do not alternate"),
    "secret": ("warning", "the text contains a private key, access key, API key or token"),
    "special-token": ("warning", "the text contains a control token of a chat template"),
    "system-not-first": ("error", "a system turn after another turn"),
    "text-only-filtered": ("warning", "if one example has an image, the service drops all examples without one"),
    "too-deep": ("error", "the value is nested deeper than 64 levels"),
    "unknown-format": ("error", "the line has none of the formats; the finding names a similar one"),
    "unknown-key": ("warning", "the service ignores this key"),
    "unknown-part": ("error", "a part is neither text nor image"),
    "unknown-role": ("error", "the format does not have this role; the finding names a similar one"),
    "validation-too-large": (
        "error",
        "the validation file has more than 25% of the training file's bytes, or more than 5000 rows",
    ),
    "weight-zero": (
        "error",
        "an answer has weight 0, which excludes it from training, but the service trains every answer",
    ),
    "wrong-type": ("error", "the value has a type that the format does not allow"),
}
"""Code to its severity and its meaning; docs/dataset-findings.md has a bad and a good example of each."""
