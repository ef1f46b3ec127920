"""After a change of any setting, what a stack needs is destroyed after what needs it, and nothing of it is left."""

from __future__ import annotations

import pytest

from infra.embedded.reconcile import dependents_first
from infra.embedded.state import Record
from infra.evaluation import Evaluation, evaluate
from infra.settings.reader import NAMESPACE
from infra.settings.stack import keys
from infra.urns import key_of
from tests.infra.embedded_stack import GUARDRAILS, Stack
from tests.infra.engine_order import state
from tests.infra.setting_changes import BASE, CHANGES, REGION

PROJECT = "demo-project"


def evaluated(changes: dict[str, str], before: Evaluation | None = None) -> Evaluation:
    config = {f"{NAMESPACE}:{key}": value for key, value in {**BASE, **changes}.items()}
    recorded = state(before.resources) if before else None
    return evaluate({"gcp:project": PROJECT, "gcp:region": REGION, **config}, state=recorded)


def kept(old: dict[str, Record], evaluation: Evaluation) -> dict[str, Record]:
    """Return the records after an application, in their order: what was there keeps its place."""
    made = dict(old)
    for item in evaluation.resources:
        if item.custom:
            needs = [key_of(urn) for urn in item.dependencies]
            record = Record(type=item.type, name=item.name, id="", inputs={}, dependencies=needs)
            made[record.key] = record
    wanted = {key_of(item.urn) for item in evaluation.resources}
    return {key: record for key, record in made.items() if key in wanted}


def test_every_setting_has_a_change() -> None:
    assert set(CHANGES) == keys() - {"emulator"}


@pytest.mark.parametrize(
    "settings",
    [("notificationEmails",), ("extraRegions", "runnerImpersonators", "runnerAccountId", "kmsKeys", "perimeter")],
    ids=len,
)
def test_nothing_goes_before_what_needs_it(settings: tuple[str, ...]) -> None:
    """Each setting, applied and destroyed in an emulator: `python -m benchmarks.stack_sweep --settings`."""
    base = evaluated({})
    changes = {
        key: value.replace("PERIMETER", "accessPolicies/1/servicePerimeters/data")
        for setting in settings
        for key, value in CHANGES[setting].items()
    }
    records = kept(kept({}, base), evaluated(changes))
    order = [record.key for record in dependents_first(list(records.values()))]
    assert sorted(order) == sorted(records)
    for at, key in enumerate(order):
        assert not set(records[key].dependencies) & set(order[:at]), key


def test_after_the_people_who_are_told_have_changed_everything_goes(stack: Stack) -> None:
    stack.apply(**GUARDRAILS)
    stack.apply(**{**GUARDRAILS, "notificationEmails": '["other@example.com", "ml@example.com"]'})
    stack.destroy()
    assert not stack.state.exists()
    channels = stack.request("GET", f"/monitoring/v3/projects/{stack.project}/notificationChannels")
    assert channels.get("notificationChannels", []) == []
