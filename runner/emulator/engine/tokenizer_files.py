"""Tokenizer files in a form that both Transformers 4 and Transformers 5 load.

Transformers 5 writes the name of a class that version 4 does not have, and its own arguments.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

_CLASS = "PreTrainedTokenizerFast"
_OF_FIVE = frozenset({"TokenizersBackend", "PythonBackend"})
_OF_LOADING = ("backend", "is_local", "local_files_only")


def save_tokenizer(saved: Any, folder: Path) -> None:
    """Write a tokenizer, or a processor with its tokenizer, to a folder."""
    saved.save_pretrained(folder)
    path = folder / "tokenizer_config.json"
    body = json.loads(path.read_text("utf-8"))
    if body.get("tokenizer_class") in _OF_FIVE:
        body["tokenizer_class"] = _CLASS
    for key in _OF_LOADING:
        body.pop(key, None)
    # Transformers 5 uses a list for this; version 4 uses the name for a map (`extra_special_tokens`).
    extra = body.get("extra_special_tokens")
    if isinstance(extra, list):
        del body["extra_special_tokens"]
        if extra:
            body["additional_special_tokens"] = extra
    path.write_text(json.dumps(body, indent=2, ensure_ascii=False) + "\n", "utf-8")
