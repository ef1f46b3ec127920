"""Which of Google's answers are worth another attempt."""

from __future__ import annotations

from typing import Any

import pulumi
import pytest

from infra import event_loop
from infra.consistency import MAX_ATTEMPTS, ask, delay_before


@pytest.mark.parametrize(
    "text",
    [
        "Error 400: Service account service-1@gcp-sa-vertex-moss-ft.iam.gserviceaccount.com does not exist., invalid",
        "googleapi: Error 403: Vertex AI API has not been used in project 1 before or it is disabled.",
        'Error 403: details: [{"reason": "SERVICE_DISABLED"}]',
        "googleapi: Error 404: Unknown service account projects/p/serviceAccounts/a@b",
    ],
)
def test_what_is_not_there_yet_is_tried_again(text: str) -> None:
    assert delay_before([text]) == 5.0
    assert delay_before([text] * 4) == 40.0
    assert delay_before([text] * 7) == 60.0
    assert delay_before([text] * MAX_ATTEMPTS) is None


@pytest.mark.parametrize(
    "text",
    [
        "googleapi: Error 403: Permission 'aiplatform.endpoints.create' denied on resource",
        "googleapi: Error 409: You already own this bucket.",
        "googleapi: Error 404: The specified bucket does not exist.",
    ],
)
def test_what_will_not_change_is_not(text: str) -> None:
    assert delay_before([text]) is None


def test_only_the_grants_own_member_is_waited_for() -> None:
    text = "googleapi: Error 400: Service account gone@p.iam.gserviceaccount.com does not exist., badRequest"
    assert delay_before([text], "serviceAccount:gone@p.iam.gserviceaccount.com") == 5.0
    assert delay_before([text], "serviceAccount:other@p.iam.gserviceaccount.com") is None


def test_without_an_error_there_is_nothing_to_wait_for() -> None:
    assert delay_before([]) is None


class Project(pulumi.runtime.Mocks):
    """A data source that refuses to answer with these words, one after another, and answers then."""

    def __init__(self, refusals: list[str]) -> None:
        self.refusals = refusals

    def new_resource(self, args: pulumi.runtime.MockResourceArgs) -> tuple[str | None, dict[Any, Any]]:
        return args.name, {}

    def call(self, args: pulumi.runtime.MockCallArgs) -> tuple[dict[Any, Any], list[tuple[str, str]] | None]:
        if self.refusals:
            return {}, [("projectId", self.refusals.pop(0))]
        return {"number": "4711"}, []


def answer(*refusals: str) -> Any:
    """Ask the data source in a program, and return the number that it exports."""

    def program() -> None:
        component = pulumi.ComponentResource("test:index:Platform", "platform")
        found = ask("gcp:organizations/getProject:getProject", {"projectId": "p"}, component, [])
        pulumi.export("number", found.apply(lambda values: values["number"]))

    mocks = Project(list(refusals))
    monitor = event_loop.LoopedMonitor(mocks)
    return event_loop.evaluated(mocks, monitor, program, {}, stack="local", log="consistency")["number"]


def test_a_data_source_is_asked_again() -> None:
    assert (
        answer(
            "googleapi: Error 403: Cloud Resource Manager API has not been used in project 1 before or it is disabled"
        )
        == "4711"
    )


def test_what_a_data_source_refuses_is_a_sentence() -> None:
    with pytest.raises(pulumi.RunError) as caught:
        answer("1 error occurred:\n\t* googleapi: Error 403: The caller does not have permission, forbidden\n")
    assert str(caught.value).startswith("The caller does not have permission, forbidden")
