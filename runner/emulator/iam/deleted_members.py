"""Deleted accounts in policies: `deleted:serviceAccount:EMAIL?uid=NUMBER`.

Google returns them in this form, and accepts a policy with such a member. A new account with the same name is another
account, and gets none of these permissions.
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
"""Rename a member in policies that are not documents; a service with such policies adds its function."""


def mark(connection: sqlite3.Connection, account: dict[str, Any]) -> None:
    """Mark a deleted account in every policy."""
    _rename(connection, *_spellings(account))


def restore(connection: sqlite3.Connection, account: dict[str, Any]) -> None:
    """Restore the permissions of a restored account."""
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
