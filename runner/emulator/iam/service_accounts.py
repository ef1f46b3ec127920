"""A project's own service accounts."""

from __future__ import annotations

import re
import sqlite3
from typing import Any

from runner.emulator import projects, store, update_mask
from runner.emulator.errors import ApiError, already_exists, invalid, not_found
from runner.emulator.iam import deleted_members, policies, project_policies
from runner.emulator.iam.accounts import ACCOUNT_KIND
from runner.emulator.iam.policy_methods import policy_methods
from runner.emulator.resources import listing, reading, text, writing
from runner.emulator.routing import ApiRequest, Handler

DELETED_KIND = "service-account-deleted"
POLICY_KIND = "service-account-policy"

_ID = re.compile(r"[a-z][a-z0-9-]{4,28}[a-z0-9]\Z")
_WRITABLE = ("displayName", "description")


def find(connection: sqlite3.Connection, project_name: str, account: str) -> dict[str, Any]:
    """Return an account by address or unique id, in a project given by id, number or `-`.

    Raises:
        ApiError: NOT_FOUND; PERMISSION_DENIED for an unknown project number.
    """
    document = _lookup(connection, account)
    if document is not None and project_name != "-":
        project = projects.resolve(connection, project_name)
        document = document if document["projectId"] == project.id else None
    if document is None:
        raise not_found("Unknown service account")
    return document


def _lookup(connection: sqlite3.Connection, account: str) -> dict[str, Any] | None:
    if not account.isdigit():
        return store.find(connection, ACCOUNT_KIND, account)
    return next((body for _, body in store.scan(connection, ACCOUNT_KIND) if body["uniqueId"] == account), None)


def _of(connection: sqlite3.Connection, request: ApiRequest) -> dict[str, Any]:
    return find(connection, request.fields["project"], request.fields["account"])


get = reading(_of)


def policy_of(connection: sqlite3.Connection, account: dict[str, Any]) -> dict[str, Any]:
    """Return the policy of an account: who can act as it."""
    return policies.stored(connection, POLICY_KIND, account["uniqueId"])


def policies_on(connection: sqlite3.Connection, account: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the policies that apply to an account: its own and its project's."""
    return [policy_of(connection, account), _project_policy(connection, account)]


def _project_policy(connection: sqlite3.Connection, account: dict[str, Any]) -> dict[str, Any]:
    return project_policies.get_policy(connection, projects.resolve(connection, account["projectId"]))


@writing
def create(connection: sqlite3.Connection, request: ApiRequest) -> dict[str, Any]:
    """Create an account."""
    body = request.document
    account_id = body.get("accountId", "")
    given = body.get("serviceAccount", {})
    _check(given)
    if not _ID.match(account_id):
        raise invalid(
            f"The account ID {account_id!r} does not have a length between 6 and 30, or is not made of lowercase "
            "letters, digits and hyphens, starting with a letter."
        )
    project = projects.ensure(connection, request.fields["project"])
    email = f"{account_id}@{_domain(project.id)}.iam.gserviceaccount.com"
    if store.find(connection, ACCOUNT_KIND, email) is not None:
        raise already_exists(f"Service account {account_id} already exists within project projects/{project.id}.")
    # 21 digits like Google's, never reused: a new account with an old address is another one.
    unique_id = str(10**20 + store.next_number(connection, "service-account"))
    document = {
        "name": f"projects/{project.id}/serviceAccounts/{email}",
        "projectId": project.id,
        "uniqueId": unique_id,
        "email": email,
        **{name: given[name] for name in _WRITABLE if given.get(name)},
        "etag": policies.new_etag(),
        "oauth2ClientId": unique_id,
    }
    return store.insert(connection, ACCOUNT_KIND, email, document)


def _domain(project_id: str) -> str:
    """Return the middle of an account's address: `example.com:p` becomes `p.example.com`."""
    scope, _, name = project_id.rpartition(":")
    return f"{name}.{scope}" if scope else name


def _check(given: dict[str, Any]) -> None:
    text(given, "displayName", maximum=100)
    text(given, "description", maximum=256)


@listing("accounts", default=20)
def list_accounts(connection: sqlite3.Connection, request: ApiRequest) -> list[dict[str, Any]]:
    """List a project's accounts, in order of address."""
    project = projects.resolve(connection, request.fields["project"])
    return [body for _, body in store.scan(connection, ACCOUNT_KIND) if body["projectId"] == project.id]


@writing
def patch(connection: sqlite3.Connection, request: ApiRequest) -> dict[str, Any]:
    """Change the display name or the description in `updateMask`."""
    body = request.document
    given, mask = body.get("serviceAccount", {}), body.get("updateMask", "")
    _check(given)
    if not mask:
        raise invalid("The field mask must name at least one field.")
    account = _of(connection, request)
    changed = update_mask.apply(account, given, mask, every=_WRITABLE)
    if any(changed.get(name) != account.get(name) for name in {*account, *changed} - {*_WRITABLE, "etag"}):
        raise invalid("Only displayName and description can be changed.")
    return _save(connection, account, changed, given.get("etag"))


@writing
def update(connection: sqlite3.Connection, request: ApiRequest) -> dict[str, Any]:
    """Replace the display name, like the older PUT."""
    given = request.document
    _check(given)
    account = _of(connection, request)
    return _save(connection, account, {**account, "displayName": given.get("displayName", "")}, given.get("etag"))


def _save(
    connection: sqlite3.Connection, account: dict[str, Any], changed: dict[str, Any], etag: str | None
) -> dict[str, Any]:
    if etag and etag != account["etag"]:
        raise ApiError("ABORTED", "There were concurrent changes to the service account. Please retry.")
    changed["etag"] = policies.new_etag()
    return store.put(connection, ACCOUNT_KIND, account["email"], changed)


@writing
def delete(connection: sqlite3.Connection, request: ApiRequest) -> None:
    """Delete an account with its keys and its policy; `undelete` can restore it."""
    account = _of(connection, request)
    store.remove(connection, ACCOUNT_KIND, account["email"])
    store.put(connection, DELETED_KIND, account["uniqueId"], account)
    deleted_members.mark(connection, account)


@writing
def undelete(connection: sqlite3.Connection, request: ApiRequest) -> dict[str, Any]:
    """Restore a deleted account by its unique ID."""
    account = store.get(connection, DELETED_KIND, request.fields["account"], missing="Unknown service account")
    if store.find(connection, ACCOUNT_KIND, account["email"]) is not None:
        raise already_exists(f"Service account {account['email']} already exists.")
    store.remove(connection, DELETED_KIND, account["uniqueId"])
    store.put(connection, ACCOUNT_KIND, account["email"], account)
    deleted_members.restore(connection, account)
    return {"restoredAccount": account}


def _switch(*, disabled: bool) -> Handler:
    @writing
    def handler(connection: sqlite3.Connection, request: ApiRequest) -> None:
        account = _of(connection, request)
        changed = {name: value for name, value in account.items() if name != "disabled"}
        _save(connection, account, changed | ({"disabled": True} if disabled else {}), None)

    return handler


enable, disable = _switch(disabled=False), _switch(disabled=True)
"""A disabled account gets no tokens."""

POLICY = policy_methods(
    POLICY_KIND,
    lambda connection, request: str(_of(connection, request)["uniqueId"]),
    # A path can have `-` as the project: that of the account counts.
    lambda connection, request: [_project_policy(connection, _of(connection, request))],
)
