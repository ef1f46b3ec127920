"""Evaluates what a stack binds: given a token's claims, which accounts its holder can become.

The mapping and the condition are CEL, and evaluated by a CEL library (`cel-python`, a development dependency), as
Google's token service evaluates them. An expression that fails, as one on an absent claim does, refuses the token.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any

from infra.evaluation import Evaluation
from infra.settings.identity import GITHUB_ISSUER
from infra.trust import bindings
from tests.infra.identities import claims, pipelines
from tests.infra.identities.claims import Claims, Event

_LONGEST_SUBJECT = 127
_IMPERSONATING = frozenset({"roles/iam.workloadIdentityUser", "roles/iam.serviceAccountTokenCreator"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Provider:
    """One provider of a workload identity pool, with the grants to members of its pool."""

    issuer: str
    mapping: dict[str, str]
    condition: str
    grants: tuple[tuple[str, str], ...]
    """Pairs of the member's last part (`attribute.use/VALUE`) and the account's id."""

    def becomes(self, token: Claims) -> frozenset[str]:
        """Return the ids of the accounts that the token's holder can become."""
        if self.condition and _evaluate(self.condition, token) is not True:
            return frozenset()
        attributes = {name: _evaluate(expression, token) for name, expression in self.mapping.items()}
        if any(not isinstance(value, str) for value in attributes.values()):
            return frozenset()
        if len(str(attributes["google.subject"]).encode()) > _LONGEST_SUBJECT:
            return frozenset()
        held = {f"{name}/{value}" for name, value in attributes.items()} | {"*"}
        return frozenset(account for member, account in self.grants if member in held)


def providers(evaluation: Evaluation) -> list[Provider]:
    """Return the stack's providers."""
    found = []
    for item in evaluation.of_type(":WorkloadIdentityPoolProvider"):
        pool = f"/workloadIdentityPools/{item.inputs['workloadIdentityPoolId']}/"
        found.append(
            Provider(
                issuer=item.inputs["oidc"]["issuerUri"],
                mapping=item.inputs["attributeMapping"],
                condition=item.inputs.get("attributeCondition", ""),
                grants=tuple(
                    (grant.inputs["member"].split(pool, 1)[1], _account(grant.inputs["serviceAccountId"]))
                    for grant in evaluation.of_type("serviceaccount/iAMMember:IAMMember")
                    if pool in grant.inputs["member"] and grant.inputs["role"] in _IMPERSONATING
                ),
            )
        )
    return found


def _account(name: str) -> str:
    return name.rsplit("/", 1)[-1].partition("@")[0]


@functools.cache
def _program(expression: str) -> Any:
    import celpy

    environment = celpy.Environment()
    return environment.program(environment.compile(expression))


def _evaluate(expression: str, token: Claims) -> str | bool | None:
    """Return a text or a truth, None where the expression fails."""
    import celpy
    from celpy.adapter import json_to_cel
    from celpy.evaluation import CELEvalError

    try:
        value = _program(expression).evaluate({"assertion": json_to_cel(token)})
    except CELEvalError:
        return None
    if isinstance(value, celpy.celtypes.BoolType):
        return bool(value)
    return str(value) if isinstance(value, str) else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """Who can become whom: one job in one event."""

    platform: str
    pipeline: str
    event: Event
    environment: str
    code: str
    """Whose code runs with the token."""
    accounts: frozenset[str]


def rows(evaluation: Evaluation, github: Claims, gitlab: Claims, stack_environment: str) -> list[Row]:
    """Return a row for each job of the repository that asks for a token, in each of its events, and for any other.

    Args:
        evaluation: the stack.
        github: the repository's claims (see `claims.github`).
        gitlab: the project's claims (see `claims.gitlab`).
        stack_environment: the environment that deploying jobs of this stack name.
    """
    found = []
    of_github = [item for item in providers(evaluation) if item.issuer == GITHUB_ISSUER]
    of_gitlab = [item for item in providers(evaluation) if item.issuer != GITHUB_ISSUER]
    named = [job for job in pipelines.github_jobs() if job.identity]
    for job in [*named, None]:
        environment = job.environment.replace("{stack}", stack_environment) if job else stack_environment
        file = job.file if job else "any-other.yml"
        for event in claims.situations(
            claims.GITHUB_EVENTS, set(job.triggers) if job else {one.name for one in claims.GITHUB_EVENTS}
        ):
            token = claims.github(event, file, environment, repository=github)
            accounts = frozenset[str]().union(*(item.becomes(token) for item in of_github if event.token))
            found.append(
                Row(
                    platform="GitHub",
                    pipeline=file if job else "any other file",
                    event=event,
                    environment=environment,
                    code=event.code,
                    accounts=accounts,
                )
            )
    for job in [*(job for job in pipelines.gitlab_jobs() if job.identity), None]:
        environment = job.environment.replace("{stack}", stack_environment) if job else "any-other"
        for event in claims.situations(
            claims.GITLAB_EVENTS, set(job.triggers) if job else {one.name for one in claims.GITLAB_EVENTS}
        ):
            token = claims.gitlab(event, environment, project=gitlab)
            accounts = frozenset[str]().union(*(item.becomes(token) for item in of_gitlab))
            found.append(
                Row(
                    platform="GitLab",
                    pipeline=f"job {job.name}" if job else "any other job",
                    event=event,
                    environment=environment,
                    code=event.code,
                    accounts=accounts,
                )
            )
    return found


_EVENTS_NAMED = 8
"""From so many events on, a row of pipelines that become nobody counts them instead."""


def markdown(found: list[Row]) -> str:
    """Return the table; rows that nobody becomes anybody in are one line for each pipeline."""
    heads = [f"`tuning-{name}`" for name in bindings.ACCOUNTS]
    lines = [f"| pipeline | event | whose code | {' | '.join(heads)} |", f"|---|---|---|{'---|' * len(heads)}"]
    nobody: dict[tuple[str, str], list[Row]] = {}
    for row in found:
        if not row.accounts:
            nobody.setdefault((row.platform, row.pipeline), []).append(row)
            continue
        cells = ["yes" if f"tuning-{name}" in row.accounts else "" for name in bindings.ACCOUNTS]
        lines.append(f"| {row.platform} `{row.pipeline}` | {row.event.label} | {row.code} | {' | '.join(cells)} |")
    for (platform, pipeline), same in nobody.items():
        labels = list(dict.fromkeys(row.event.label for row in same))
        said = ", ".join(labels) if len(labels) < _EVENTS_NAMED else f"all {len(labels)} events of {platform}"
        lines.append(f"| {platform} `{pipeline}` | {said} | | {' | '.join([''] * len(heads))} |")
    return "\n".join(lines) + "\n"
