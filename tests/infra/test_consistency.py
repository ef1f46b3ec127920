"""Which of Google's answers are worth another attempt."""

from __future__ import annotations

import pytest

from infra.consistency import MAX_ATTEMPTS, delay_before


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
