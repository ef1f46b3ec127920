"""A plan as text for a terminal and as Markdown for a pull request."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from runner.cli.text import amount, visible
from runner.prices import price_range
from runner.wording import counted

if TYPE_CHECKING:
    from runner.jobs.manifests.decisions import PlannedJob, Removed
    from runner.jobs.manifests.planning import Plan

MARKDOWN_LIMIT = 65_000
"""Maximum number of characters; GitHub accepts 65,536 in a comment."""
_SIGNS = {
    "create": "+",
    "change": "~",
    "retry": "~",
    "adopt": "=",
    "keep": "=",
    "wait": "…",
    "failed": "!",
    "lost": "!",
}
_SIGNS |= {"cancel": "-", "orphan": "?"}
_WORDS = {
    "create": "to create",
    "change": "to run again",
    "retry": "to repeat",
    "adopt": "to adopt",
    "keep": "kept",
    "wait": "queued",
    "failed": "failed, left",
    "lost": "no longer listed",
    "cancel": "to cancel",
    "orphan": "without a manifest, left",
}


def text(plan: Plan) -> str:
    """Return a plan for people: all changes, and one line for the rest."""
    lines: list[str] = []
    for job in plan.jobs:
        if job.action not in ("keep", "wait"):
            lines += _job_lines(job)
    lines += [f"{_SIGNS[item.action]} {item.name}: {_removed(item)}" for item in plan.removed]
    for action in ("keep", "wait"):
        names = [job.name for job in plan.jobs if job.action == action]
        if names:
            lines.append(f"{_SIGNS[action]} {len(names)} {_WORDS[action]}: {_some(names)}")
        lines += [line for job in plan.jobs if job.action == action for line in _drift(job)]
    lines += ["", summary(plan)]
    lines += [f"{key}: {value}" for key, value in facts(plan)]
    lines += [f"{finding.severity}: {finding}" for finding in plan.findings]
    return "\n".join(lines).strip()


def summary(plan: Plan) -> str:
    """Return `2 to create, 3 kept`."""
    counts = plan.summary
    return ", ".join(f"{counts[key]} {word}" for key, word in _WORDS.items() if key in counts) or "no manifests"


def facts(plan: Plan) -> list[tuple[str, str]]:
    """Return the price, the quota and the current hourly cost of serving."""
    cost, quota = plan.cost, plan.quota
    found = [("price", price(cost["low"], cost["expected"], cost["high"], cost["unknown"]))] if plan.billable else []
    if cost["withRepetitions"] != cost["high"]:
        found.append(("with all retries", f"up to {amount(cost['withRepetitions'] or 0.0)}"))
    slots = f"{quota.limit} concurrent ({quota.source}), {max(0, quota.limit - plan.active)} free"
    slots += f", {plan.elsewhere} taken in other locations" if plan.elsewhere else ""
    found.append(("quota", slots + (f", {plan.queued} queued already" if plan.queued else "")))
    if plan.deployed_models:
        hourly = "an unknown price" if plan.running_usd_per_hour is None else amount(plan.running_usd_per_hour)
        found.append(("serving", f"{counted(plan.deployed_models, 'deployed model')}, {hourly} per hour now"))
    for item in plan.accuracies:
        body = item.to_json()
        share = f"{body['lowest']:.0%} to {body['highest']:.0%} of the expected tokens were billed"
        found.append((f"history of {item.model} {item.mode}", f"{share}, in {counted(body['jobs'], 'job')}"))
    return found


def price(low: Any, expected: Any, high: Any, unknown: Any = 0) -> str:
    """Return `about $2.10 ($2.00 to $2.60)`."""
    parts = []
    if expected is not None and (expected or not unknown):
        parts.append(price_range(low, expected, high))
    if unknown or expected is None:
        parts.append(f"{unknown} of unknown price" if unknown and parts else "unknown")
    return ", and ".join(parts)


def markdown(plan: Plan) -> str:
    """Return a plan as a comment on a pull request, truncated to GitHub's limit."""
    rows = ["| | job | what | data | price |", "|---|---|---|---|---|"]
    details: list[str] = []
    for job in plan.jobs:
        if job.action == "keep" and not job.drift:
            continue
        cost = price(job.price.low, job.price.expected, job.price.high) if job.bills else ""
        rows.append(f"| {_SIGNS[job.action]} | `{_cell(job.name)}` | {_cell(job.reason)} | {_rows(job)} | {cost} |")
        changed = [
            f"- `{_cell(item.path)}`: {_cell(_value(item.before))} → {_cell(_value(item.after))}"
            for item in job.differences
        ]
        if changed:
            details += [f"**{_cell(job.name)}**", *changed, ""]
    rows += [f"| {_SIGNS[item.action]} | `{_cell(item.name)}` | {_cell(_removed(item))} | | |" for item in plan.removed]
    parts = [f"### Tuning jobs: {summary(plan)}", ""]
    if len(rows) > 2:
        parts += [*rows, ""]
    parts += [f"- {key}: {_cell(value)}" for key, value in facts(plan)]
    parts += [f"- **{finding.severity}**: {_cell(finding.message)}" for finding in plan.findings]
    warnings = [f"- `{_cell(job.name)}`: {_cell(line)}" for job in plan.jobs for line in job.warnings]
    if warnings:
        parts += ["", "<details><summary>Warnings about the data</summary>", "", *warnings, "", "</details>"]
    if details:
        parts += ["", "<details><summary>What differs from the last run</summary>", "", *details, "</details>"]
    whole = "\n".join(parts) + "\n"
    if len(whole) <= MARKDOWN_LIMIT:
        return whole
    closing, end = "\n\n</details>", "\n\n… the rest is omitted; the job's log has everything.\n"
    kept = whole[: MARKDOWN_LIMIT - len(closing) - len(end)].rsplit("\n", 1)[0]
    # Otherwise, readers who have not opened the section do not see that there is more.
    is_open = kept.count("<details>") > kept.count("</details>")
    return kept + (closing if is_open else "") + end


def _job_lines(job: PlannedJob) -> list[str]:
    lines = [f"{_SIGNS[job.action]} {job.name}: {job.reason}"]
    if job.bills:
        cost = price(job.price.low, job.price.expected, job.price.high)
        limit = "" if job.source.max_cost is None else f", at most {amount(job.source.max_cost)}"
        fields, rows = job.run.fields, _rows(job)
        data = f"{rows} {'row' if rows == '1' else 'rows'}" if rows else "rows not counted"
        lines.append(f"    {fields['base_model']} {fields['mode']}, {data}, {cost}{limit}")
    lines += [f"    {item.path}: {_value(item.before)} -> {_value(item.after)}" for item in job.differences]
    lines += _drift(job)
    lines += [f"    warning: {line}" for line in job.warnings]
    lines += [
        f"    job {old.id} of an earlier version of the manifest is still running; --prune cancels it"
        for old in job.superseded
    ]
    return lines


def _drift(job: PlannedJob) -> list[str]:
    return [
        f"    {job.name}: {item.path} was requested as {_value(item.before)} and is {_value(item.after)} on the service"
        for item in job.drift
    ]


def _removed(item: Removed) -> str:
    job = f"; job {item.job.id} runs" if item.job else "; it is queued"
    after = " and is cancelled" if item.action == "cancel" else "; cancel it with --prune"
    return f"{item.reason}{job}{after}"


def _rows(job: PlannedJob) -> str:
    rows = job.data.get("rows") or {}
    before, after = rows.get("before"), rows.get("after")
    if after is None:
        return ""
    return f"{after:,}" if before in (None, after) else f"{before:,} -> {after:,}"


def _value(value: Any) -> str:
    return "nothing" if value is None else str(value)


def _some(names: list[str], limit: int = 6) -> str:
    return ", ".join(names[:limit]) + (f" and {len(names) - limit} more" if len(names) > limit else "")


def _cell(value: str) -> str:
    """Return a text that stays inside a table cell and mentions nobody."""
    cleaned = visible(value).replace("\\", "\\\\").replace("|", "\\|").replace("<", "&lt;")
    return cleaned.replace("@", "@\u200b")
