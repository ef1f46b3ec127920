"""Suggestions for commands that do not exist.

A command that costs money is suggested only if other commands are unlikely.
"""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Iterable, Iterator, Mapping

PAID = {"apply", "submit", "clone", "reproduce", "deploy", "run", "batch"}
"""Commands that can create billed resources."""
_CLOSE, _VERY_CLOSE = 0.7, 0.8
_MEANT: dict[str, tuple[str, ...]] = {
    "--help": ("help", "man"),
    "--version": ("version",),
    "ls": ("list", "all"),
    "show": ("get", "describe", "info", "cat", "inspect"),
    "rm": ("delete", "remove", "del"),
    "undeploy": ("delete", "remove", "rm", "teardown", "down", "unserve"),
    "cancel": ("delete", "remove", "rm", "stop", "abort", "kill"),
    "clear": ("delete", "remove", "rm"),
    "reset": ("delete", "remove", "rm", "destroy"),
    "submit": ("create", "train", "tune", "finetune", "fine-tune"),
    "watch": ("follow", "progress"),
    "logs": ("tail", "log"),
    "check": ("validate", "lint", "preflight"),
    "bill": ("cost", "costs", "billing", "spend"),
    "estimate": ("price", "pricing", "quote"),
    "chat": ("ask", "talk"),
    "predict": ("query", "generate", "infer"),
    "deploy": ("serve", "publish"),
    "doctor": ("login", "auth", "diagnose"),
    "context": ("whoami", "config", "ctx", "profile"),
    "use": ("switch", "use-context"),
    "init": ("setup", "new", "scaffold"),
    "explain": ("errors", "error"),
    "eval": ("evaluate", "compare"),
    "start": ("up", "restart"),
    "stop": ("down",),
    "emulator start": ("start", "local", "serve-local"),
    "jobs ls": ("status", "ps"),
}
"""Commands of this tool, and their names in other tools."""
_SHOWN = 3


def suggested(name: str, here: Mapping[str, tuple[str, str]], path: str, root: Mapping[str, tuple[str, str]]) -> str:
    """Return `did you mean …?`; "" if nothing is similar.

    Args:
        name: the typed name.
        here: the commands of the group, as in `Group.lazy`.
        path: the group's command line: `runner jobs`.
        root: the commands of `runner`.
    """
    word = name.lower()
    meant = [word, *(ours for ours, words in _MEANT.items() if word in words)]
    found = [f"{path} {ours}" for ours in meant if ours in here or ours.startswith("--")][:1]
    if not found:
        found = [f"{path} {near}" for near in _near(word, here)]
    if not found:
        found = [f"runner {ours}" for ours in meant if ours.split()[0] in root][:1]
    if not found:
        found = [f"runner {group} {verb}" for group, verb in _verbs(root) if verb in meant]
    if not found:
        found = [f"runner {near}" for near in _near(word, root)]
    if not found:
        verbs = list(_verbs(root))
        close = set(_near(word, {verb: ("", "") for _, verb in verbs}))
        found = [f"runner {group} {verb}" for group, verb in verbs if verb in close]
    if not found:
        return ""
    shown = [f"`{line}`" for line in found[:_SHOWN]]
    more = ", …" if len(found) > _SHOWN else ""
    return f"did you mean {' or '.join(shown) if len(shown) < 3 else ', '.join(shown)}{more}?"


def _near(word: str, known: Iterable[str]) -> list[str]:
    """Return the most similar name; one that costs money only if it is very similar."""
    for near in difflib.get_close_matches(word, list(known), n=3, cutoff=_CLOSE):
        ratio = difflib.SequenceMatcher(None, word, near).ratio()
        if near not in PAID or ratio >= _VERY_CLOSE:
            return [near]
    return []


def _verbs(root: Mapping[str, tuple[str, str]]) -> Iterator[tuple[str, str]]:
    """Yield the commands of all groups. Imports the groups, which only happens after an error."""
    for group, (place, _) in root.items():
        module, _, attribute = place.partition(":")
        command = getattr(importlib.import_module(module), attribute or "command")
        yield from ((group, verb) for verb in getattr(command, "lazy", {}))
