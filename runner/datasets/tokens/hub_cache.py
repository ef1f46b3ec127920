"""Finds the tokenizer of a base model that Hugging Face's tools have stored on this machine; downloads nothing.

Layout of the cache: https://huggingface.co/docs/huggingface_hub/guides/manage-cache.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from importlib import util
from pathlib import Path

from runner.catalog import Model
from runner.local_files import expanded


def find_tokenizer(model: Model | None, variables: Mapping[str, str] = os.environ) -> Path | None:
    """Return the folder of a model's tokenizer in the hub's cache, or None.

    Also None if the packages that count with it are not installed: a tokenizer that the user did not name must not
    cause an error.

    Args:
        model: the base model; its repository is in the catalog.
        variables: `HF_HUB_CACHE`, `HF_HOME` and `XDG_CACHE_HOME` determine the cache, as in Hugging Face's tools.
    """
    if model is None or model.hub is None or any(util.find_spec(name) is None for name in ("tokenizers", "jinja2")):
        return None
    repository = _cache(variables) / f"models--{model.hub.replace('/', '--')}"
    try:
        snapshots = [_current(repository), *sorted((repository / "snapshots").iterdir(), key=_age)]
    except OSError:
        return None
    return next((folder for folder in snapshots if folder is not None and _is_whole(folder)), None)


def _cache(variables: Mapping[str, str]) -> Path:
    if variables.get("HF_HUB_CACHE"):
        return expanded(variables["HF_HUB_CACHE"])
    if variables.get("HF_HOME"):
        return expanded(variables["HF_HOME"]) / "hub"
    return expanded(variables.get("XDG_CACHE_HOME") or "~/.cache") / "huggingface" / "hub"


def _current(repository: Path) -> Path | None:
    try:
        revision = (repository / "refs" / "main").read_text("utf-8").strip()
    except (OSError, UnicodeDecodeError):
        return None
    return repository / "snapshots" / revision if revision and "/" not in revision else None


def _age(folder: Path) -> float:
    return -folder.stat().st_mtime


def _is_whole(folder: Path) -> bool:
    """Return whether a snapshot has tokenizer and template: a download may be incomplete, or of other files."""
    if not (folder / "tokenizer.json").is_file():
        return False
    if (folder / "chat_template.jinja").is_file():
        return True
    try:
        return '"chat_template"' in (folder / "tokenizer_config.json").read_text("utf-8")
    except (OSError, UnicodeDecodeError):
        return False
