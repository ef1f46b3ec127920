"""`billingbudgets.googleapis.com`: budgets of a billing account. Nothing is billed here, so no budget is exceeded."""

from __future__ import annotations

import re
import sqlite3
import uuid
from typing import Any

from runner.emulator import projects, store
from runner.emulator.errors import invalid
from runner.emulator.iam import policies
from runner.emulator.resources import children, exactly_one, listing, patched, reading, text, writing
from runner.emulator.routing import ApiRequest

KIND = "budget"
_CURRENCY = re.compile(r"[A-Z]{3}\Z")


def _parent(request: ApiRequest) -> str:
    return f"billingAccounts/{request.fields['account']}/budgets"


def _get(connection: sqlite3.Connection, request: ApiRequest) -> dict[str, Any]:
    return store.get(
        connection, KIND, f"{_parent(request)}/{request.fields['id']}", missing="Requested entity was not found."
    )


get = reading(_get)


def _check(connection: sqlite3.Connection, body: dict[str, Any]) -> None:
    """Check a budget. Raises ApiError INVALID_ARGUMENT."""
    text(body, "displayName", maximum=60)
    amount = body.get("amount")
    if amount is None:
        raise invalid("The field 'budget.amount' is required.")
    if exactly_one(amount, ("specifiedAmount", "lastPeriodAmount")) == "specifiedAmount":
        money = amount["specifiedAmount"]
        if not _CURRENCY.match(money.get("currencyCode", "USD")):
            raise invalid("Invalid value at 'budget.amount.specified_amount'.")
        if int(money.get("units", 0)) < 0:
            raise invalid("The budget amount must not be negative.")
    _check_filter(connection, body.get("budgetFilter", {}))
    for rule in body.get("thresholdRules", []):
        if rule.get("thresholdPercent", -1) < 0:
            raise invalid("Every threshold rule needs a threshold_percent of 0 or more.")
        rule.setdefault("spendBasis", "CURRENT_SPEND")


def _check_filter(connection: sqlite3.Connection, given: dict[str, Any]) -> None:
    for name in given.get("projects", []):
        kind, _, project = name.partition("/")
        if kind != "projects" or not project:
            raise invalid(f"Invalid project name {name!r}: it must be projects/ID or projects/NUMBER.")
        projects.resolve(connection, project)


@writing
def create(connection: sqlite3.Connection, request: ApiRequest) -> dict[str, Any]:
    """Create a budget."""
    body = request.document
    _check(connection, body)
    # Values that Google sets.
    period = body.setdefault("budgetFilter", {})
    if "customPeriod" not in period:
        period.setdefault("calendarPeriod", "MONTH")
    period.setdefault("creditTypesTreatment", "INCLUDE_ALL_CREDITS")
    name = f"{_parent(request)}/{uuid.uuid4()}"
    return store.insert(connection, KIND, name, {**body, "name": name, "etag": policies.new_etag()})


@listing("budgets")
def list_budgets(connection: sqlite3.Connection, request: ApiRequest) -> list[dict[str, Any]]:
    """List a billing account's budgets."""
    return children(connection, KIND, _parent(request))


@writing
def patch(connection: sqlite3.Connection, request: ApiRequest) -> dict[str, Any]:
    """Change the fields in `updateMask`."""
    stored = _get(connection, request)
    changed = patched(request, stored)
    _check(connection, changed)
    changed |= {"name": stored["name"], "etag": policies.new_etag()}
    return store.put(connection, KIND, stored["name"], changed)


@writing
def delete(connection: sqlite3.Connection, request: ApiRequest) -> None:
    """Delete a budget."""
    store.remove(connection, KIND, _get(connection, request)["name"])
