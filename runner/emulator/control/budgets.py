"""`billingbudgets.googleapis.com`: budgets of a billing account. Nothing is billed here, so none is ever exceeded."""

from __future__ import annotations

import re
import sqlite3
import uuid
from typing import Any

from starlette.responses import Response

from runner.emulator import store, update_mask
from runner.emulator.cloudresourcemanager import projects
from runner.emulator.control.resources import body_of, children, exactly_one, listed, read, text, write
from runner.emulator.errors import ApiError, invalid, not_found
from runner.emulator.iam import policies
from runner.emulator.routing import ApiRequest, json_response
from runner.emulator.wire_json import enum_name, int64

KIND = "budget"
_FIELDS = {
    "name",
    "displayName",
    "budgetFilter",
    "amount",
    "thresholdRules",
    "notificationsRule",
    "etag",
    "ownershipScope",
}
_BASES = ("BASIS_UNSPECIFIED", "CURRENT_SPEND", "FORECASTED_SPEND")
_TREATMENTS = (
    "CREDIT_TYPES_TREATMENT_UNSPECIFIED",
    "INCLUDE_ALL_CREDITS",
    "EXCLUDE_ALL_CREDITS",
    "INCLUDE_SPECIFIED_CREDITS",
)
_CURRENCY = re.compile(r"[A-Z]{3}\Z")


def _parent(request: ApiRequest) -> str:
    return f"billingAccounts/{request.fields['account']}/budgets"


def _get(connection: sqlite3.Connection, request: ApiRequest) -> dict[str, Any]:
    document = store.find(connection, KIND, f"{_parent(request)}/{request.fields['id']}")
    if document is None:
        raise not_found("Requested entity was not found.")
    return document


def _check(connection: sqlite3.Connection, body: dict[str, Any]) -> None:
    """Check a budget and spell its enums and numbers as answers do."""
    text(body, "displayName", maximum=60)
    amount = body.get("amount")
    if not isinstance(amount, dict):
        raise invalid("The field 'budget.amount' is required.")
    if exactly_one(amount, ("specifiedAmount", "lastPeriodAmount")) == "specifiedAmount":
        money = amount["specifiedAmount"]
        if not isinstance(money, dict) or not _CURRENCY.match(str(money.get("currencyCode", "USD"))):
            raise invalid("Invalid value at 'budget.amount.specified_amount'.")
        if "units" in money:
            money["units"] = int64(money["units"], field="budget.amount.specified_amount.units")
        if int(money.get("units", 0)) < 0:
            raise invalid("The budget amount must not be negative.")
    _check_filter(connection, body.get("budgetFilter", {}))
    rules = body.get("thresholdRules", [])
    if not isinstance(rules, list):
        raise invalid("Invalid value at 'budget.threshold_rules': not a list.")
    for rule in rules:
        percent = rule.get("thresholdPercent") if isinstance(rule, dict) else None
        if isinstance(percent, bool) or not isinstance(percent, int | float) or percent < 0:
            raise invalid("Every threshold rule needs a threshold_percent of 0 or more.")
        rule["spendBasis"] = enum_name(rule.get("spendBasis", 1), _BASES, field="spend_basis")


def _check_filter(connection: sqlite3.Connection, given: Any) -> None:
    if not isinstance(given, dict) or not isinstance(given.get("projects", []), list):
        raise invalid("Invalid value at 'budget.budget_filter'.")
    if "creditTypesTreatment" in given:
        treatment = enum_name(given["creditTypesTreatment"], _TREATMENTS, field="credit_types_treatment")
        given["creditTypesTreatment"] = treatment
    for name in given.get("projects", []):
        kind, _, project = str(name).partition("/")
        if kind != "projects" or not project:
            raise invalid(f"Invalid project name {name!r}: it must be projects/ID or projects/NUMBER.")
        projects.resolve(connection, project)


async def create(request: ApiRequest) -> Response:
    """Make a budget."""
    body = await body_of(request, _FIELDS)

    def work(connection: sqlite3.Connection) -> dict[str, Any]:
        _check(connection, body)
        # What Google fills in.
        period = body.setdefault("budgetFilter", {})
        if "customPeriod" not in period:
            period.setdefault("calendarPeriod", "MONTH")
        period.setdefault("creditTypesTreatment", "INCLUDE_ALL_CREDITS")
        name = f"{_parent(request)}/{uuid.uuid4()}"
        return store.insert(connection, KIND, name, {**body, "name": name, "etag": policies.new_etag()})

    return json_response(await write(request, work))


async def get(request: ApiRequest) -> Response:
    """Return a budget."""
    return json_response(read(request, lambda connection: _get(connection, request)))


async def list_budgets(request: ApiRequest) -> Response:
    """List a billing account's budgets."""
    return listed(request, "budgets", read(request, lambda connection: children(connection, KIND, _parent(request))))


async def patch(request: ApiRequest) -> Response:
    """Change the fields that `updateMask` names."""
    body = await body_of(request, _FIELDS)

    def work(connection: sqlite3.Connection) -> dict[str, Any]:
        stored = _get(connection, request)
        if body.get("etag") not in (None, "", stored["etag"]):
            raise ApiError("ABORTED", "The etag is stale: the budget has changed since.")
        changed = update_mask.apply(stored, body, request.query_params.get("updateMask"))
        _check(connection, changed)
        changed |= {"name": stored["name"], "etag": policies.new_etag()}
        return store.put(connection, KIND, stored["name"], changed)

    return json_response(await write(request, work))


async def delete(request: ApiRequest) -> Response:
    """Delete a budget."""
    await write(request, lambda connection: store.remove(connection, KIND, _get(connection, request)["name"]))
    return json_response({})
