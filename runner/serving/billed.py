"""Rows of Google's billing export, to compare them with the list prices of a bill.

The export is in BigQuery; `query` returns the command that selects the rows of a project. A row has `day`, `service`,
`sku`, `cost` (with credits subtracted) and `currency`. The rows are a JSON array, JSON Lines or CSV.
"""

from __future__ import annotations

import io
import math
import re
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from runner import json_text, local_files
from runner.errors import ConfigurationError, require_sound

KINDS = ("tuning", "serving", "storage", "other")
_TUNING = re.compile(r"tun(?:e|ing)|train", re.IGNORECASE)
_SERVING = re.compile(r"predict|online|serving|endpoint|deploy|inference", re.IGNORECASE)
_DAY = re.compile(r"\d{4}-\d{2}-\d{2}")
_HINT = "to create such a file, run the command that `runner bill --billing-query` prints"
_MOST_BYTES = 64 * 2**20


@dataclass(frozen=True, slots=True)
class Billed:
    """Sums of the billed amounts."""

    kinds: dict[str, float]
    """Amounts by purpose; `other` contains services that this tool does not use."""
    days: dict[str, float]
    """Amounts by day, without `other`."""

    @property
    def usd(self) -> float:
        """Return the sum without `other`."""
        return round(sum(usd for kind, usd in self.kinds.items() if kind != "other"), 4)

    def to_json(self) -> dict[str, Any]:
        """Return the stable JSON form."""
        return {"usd": self.usd, "kinds": self.kinds, "days": self.days}


def query(project: str, since: str) -> str:
    """Return the command that writes the rows of a project since a day to `billed.json`."""
    # A project ID and a date contain no quotes, and people read the command before they run it.
    text = (
        "SELECT DATE(usage_start_time) AS day, service.description AS service, sku.description AS sku, currency, "  # noqa: S608
        "SUM(cost + IFNULL((SELECT SUM(amount) FROM UNNEST(credits)), 0)) AS cost "
        f"FROM \\`BILLING.DATASET.gcp_billing_export_v1_ACCOUNT\\` WHERE project.id = '{project}' "
        f"AND DATE(usage_start_time) >= '{since}' GROUP BY day, service, sku, currency"
    )
    return f'bq query --nouse_legacy_sql --format=json --max_rows=100000 "{text}" > billed.json'


def read(path: Path, *, since: str, until: str) -> Billed:
    """Return the amounts in a file from one day to another, including both.

    Raises:
        ConfigurationError: the file cannot be read; all errors are listed.
    """
    try:
        if path.stat().st_size > _MOST_BYTES:
            raise ConfigurationError(f"{path} is larger than {_MOST_BYTES >> 20} MiB: group the rows by day and SKU")
    except OSError as error:
        raise local_files.unreadable(path, error) from error
    text = local_files.read_text(path)
    problems: list[str] = []
    kinds: dict[str, float] = dict.fromkeys(KINDS, 0.0)
    days: dict[str, float] = defaultdict(float)
    for number, row in enumerate(_rows(path, text), 1):
        problem = _problem(row)
        if problem:
            problems.append(f"{path.name}, row {number}: {problem}")
            continue
        if not since <= row["day"] <= until:
            continue
        kind = _kind(str(row.get("service", "")), str(row.get("sku", "")))
        kinds[kind] += float(row["cost"])
        if kind != "other":
            days[row["day"]] += float(row["cost"])
    require_sound(problems, hint=_HINT)
    rounded = {kind: round(usd, 4) for kind, usd in kinds.items()}
    return Billed(rounded, {day: round(usd, 4) for day, usd in sorted(days.items())})


def _rows(path: Path, text: str) -> Iterable[dict[str, Any]]:
    import csv  # imported here, so that read-only commands start fast

    try:
        if text.lstrip()[:1] == "[":
            found = json_text.parsed(text)
        elif text.lstrip()[:1] == "{":
            found = [json_text.parsed(line) for line in text.splitlines() if line.strip()]
        else:
            found = list(csv.DictReader(io.StringIO(text)))
    except (ValueError, csv.Error, RecursionError) as error:
        raise ConfigurationError(f"{path} is neither JSON nor CSV: {error}") from error
    return [row if isinstance(row, dict) else {} for row in found]


def _problem(row: dict[str, Any]) -> str:
    missing = [name for name in ("day", "service", "sku", "cost", "currency") if row.get(name) in (None, "")]
    if missing:
        return f"{', '.join(missing)} missing"
    if not _DAY.fullmatch(str(row["day"])):
        return f"day {str(row['day'])[:20]!r} is not YYYY-MM-DD"
    if row["currency"] != "USD":
        return f"the currency is {str(row['currency'])[:8]}, and list prices are in USD"
    try:
        finite = math.isfinite(float(row["cost"]))
    except (TypeError, ValueError):
        finite = False
    return "" if finite else f"cost {str(row['cost'])[:20]!r} is not a number"


def _kind(service: str, sku: str) -> str:
    if "storage" in service.lower():
        return "storage"
    if not re.search(r"vertex|agent platform|ai platform", service, re.IGNORECASE):
        return "other"
    if _TUNING.search(sku):
        return "tuning"
    return "serving" if _SERVING.search(sku) else "other"
