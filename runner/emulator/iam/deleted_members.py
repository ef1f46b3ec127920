"""What becomes of a deleted account in the policies that name it: `deleted:serviceAccount:EMAIL?uid=NUMBER`.

Google shows it so, and takes a policy that keeps such a member. An account that is made again under the same name is
another one, and gets nothing of it.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable
from typing import Any

from runner.emulator import store
from runner.emulator.iam import policies

KINDS = ("project-policy", "kms-policy", "run-policy", "service-account-policy")
"""Kinds of documents that are policies."""
RENAMES: list[Callable[[sqlite3.Connection, str, str], None]] = []
"""Spell a member otherwise in policies that are not documents; a service that keeps such policies adds its function."""


def mark(connection: sqlite3.Connection, account: dict[str, Any]) -> None:
    """Mark a deleted account in every policy."""
    _rename(connection, *_spellings(account))


def restore(connection: sqlite3.Connection, account: dict[str, Any]) -> None:
    """Give an account that was brought back its permissions again."""
    live, deleted = _spellings(account)
    _rename(connection, deleted, live)


def _spellings(account: dict[str, Any]) -> tuple[str, str]:
    live = f"serviceAccount:{account['email']}"
    return live, f"deleted:{live}?uid={account['uniqueId']}"


def _rename(connection: sqlite3.Connection, old: str, new: str) -> None:
    for kind in KINDS:
        for name, policy in list(store.scan(connection, kind)):
            if json.dumps(old) in json.dumps(policy):
                renamed = json.loads(json.dumps(policy).replace(json.dumps(old), json.dumps(new)))
                store.put(connection, kind, name, {**renamed, "etag": policies.new_etag()})
    for rename in RENAMES:
        rename(connection, old, new)
