"""A planted defect of each kind is found: else the absence of violations would say nothing."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.conformance.definitions import violations

_PARENT = "/v1beta1/projects/p/locations/us-central1"
_JOB = {
    "name": "projects/1/locations/us-central1/tuningJobs/1",
    "state": "JOB_STATE_RUNNING",
    "createTime": "2026-11-29T10:00:00.5Z",
    "supervisedTuningSpec": {"hyperParameters": {"epochCount": "3", "adapterSize": "ADAPTER_SIZE_FOUR"}},
    "labels": {"a": "b"},
}


def _exchange(http: str, path: str, answer: Any, *, request: Any = "", status: int = 200, query: str = "") -> Any:
    return {
        "http": http,
        "path": path,
        "query": query,
        "headers": {},
        "status": status,
        "request": request and json.dumps(request),
        "answer": json.dumps(answer),
    }


def _job(**changes: Any) -> Any:
    return _exchange("GET", f"{_PARENT}/tuningJobs/1", {**_JOB, **changes})


def test_what_conforms_has_no_violations() -> None:
    assert violations(_job()) == []
    created = _exchange("POST", f"{_PARENT}/tuningJobs", _JOB, request={"base_model": "m", "supervisedTuningSpec": {}})
    assert violations(created) == []
    error = {"error": {"code": 404, "message": "m", "status": "NOT_FOUND"}}
    assert violations(_exchange("GET", f"{_PARENT}/tuningJobs/2", error, status=404)) == []


@pytest.mark.parametrize(
    ("exchange", "found"),
    [
        (_job(nosuch=1), "answer.nosuch: no such field of TuningJob"),
        (_job(state=3), "answer.state: 3 is no value of its enum"),
        (_job(state="RUNNING"), "is no value of its enum"),
        (_job(createTime="yesterday"), "answer.createTime: 'yesterday' is no time"),
        (_job(labels=[]), "answer.labels: no map"),
        (_job(labels={"a": 1}), "answer.labels{}: '1' is no string"),
        (_job(supervisedTuningSpec={"hyperParameters": {"epochCount": 3}}), "epochCount: '3' is no int64"),
        (_job(supervised_tuning_spec={}), "answer.supervised_tuning_spec: no such field"),
        (_job(supervisedTuningSpec={"x": 1}), "answer.supervisedTuningSpec.x: no such field"),
        (_job(description=None), "answer.description: 'None' is no string"),
        (_exchange("GET", f"{_PARENT}/tuningJobs", {"tuningJobs": {}}), "answer.tuningJobs: no list"),
        (_exchange("GET", f"{_PARENT}/tuningJobs", {}, query="foo=1"), "query foo: no such parameter"),
        (_exchange("GET", f"{_PARENT}/tuningJobs", {}, query="pageSize=x"), "query pageSize: 'x' is no number"),
        (_exchange("POST", f"{_PARENT}/tuningJobs", _JOB, request={"x": 1}), "request.x: no such field of TuningJob"),
        (_exchange("POST", f"{_PARENT}/tuningJobs/1:cancel", [1], request={"x": 1}), "request.x: no such field"),
        (_exchange("GET", "/v1/publishers/google/models", {}), "a method that this version does not have"),
        (
            _exchange(
                "GET",
                f"{_PARENT}/operations/1",
                {"name": "o", "metadata": {"@type": "type.googleapis.com/google.cloud.aiplatform.v1.DeployResponse"}},
            ),
            "of another version",
        ),
        (
            _exchange(
                "GET",
                f"{_PARENT}/operations/1",
                {"response": {"@type": "type.googleapis.com/google.cloud.aiplatform.v1beta1.Endpoint", "x": 1}},
            ),
            "answer.response.x: no such field of Endpoint",
        ),
        (
            _exchange("GET", f"{_PARENT}/tuningJobs/2", {"error": {"code": 400, "status": "NOT_FOUND"}}, status=404),
            "error.code: 400 in an answer 404",
        ),
        (
            _exchange("GET", f"{_PARENT}/tuningJobs/2", {"error": {"code": 404, "status": "INTERNAL"}}, status=404),
            "error.status: INTERNAL in an answer 404",
        ),
        (
            _exchange("GET", f"{_PARENT}/tuningJobs/2", {"error": {"code": 404, "why": "x"}}, status=404),
            "error.why: no such field",
        ),
    ],
)
def test_a_planted_defect_is_found(exchange: Any, found: str) -> None:
    assert any(found in violation for violation in violations(exchange)), violations(exchange)
