"""Tokenizers on disk, in the form that both Transformers 4 and Transformers 5 load.

Transformers 5 names a class that 4 does not have, and writes down how it was itself called.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

_CLASS = "PreTrainedTokenizerFast"
_OF_FIVE = frozenset({"TokenizersBackend", "PythonBackend"})
_OF_LOADING = ("backend", "is_local", "local_files_only")


def save_tokenizer(saved: Any, folder: Path) -> None:
    """Write a tokenizer, or a processor with the one that it holds, to a folder."""
    saved.save_pretrained(folder)
    path = folder / "tokenizer_config.json"
    body = json.loads(path.read_text("utf-8"))
    if body.get("tokenizer_class") in _OF_FIVE:
        body["tokenizer_class"] = _CLASS
    for key in _OF_LOADING:
        body.pop(key, None)
    # A list here is Transformers 5's name for what 4 calls so; 4 takes a map for `extra_special_tokens`.
    extra = body.get("extra_special_tokens")
    if isinstance(extra, list):
        del body["extra_special_tokens"]
        if extra:
            body["additional_special_tokens"] = extra
    path.write_text(json.dumps(body, indent=2, ensure_ascii=False) + "\n", "utf-8")
