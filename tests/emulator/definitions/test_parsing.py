from __future__ import annotations

import contextlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.emulator.definitions import documents, parsing
from runner.emulator.errors import ApiError

_DOCUMENT = documents.load("aiplatform.v1beta1")
assert _DOCUMENT is not None
JOB = parsing.message(_DOCUMENT, "TuningJob")
ADAPTER_SIZES = {
    "ADAPTER_SIZE_UNSPECIFIED": 0,
    "ADAPTER_SIZE_ONE": 1,
    "ADAPTER_SIZE_TWO": 6,
    "ADAPTER_SIZE_FOUR": 2,
    "ADAPTER_SIZE_EIGHT": 3,
    "ADAPTER_SIZE_SIXTEEN": 4,
    "ADAPTER_SIZE_THIRTY_TWO": 5,
}
"""The wire numbers are not the sizes."""


def parse(message: parsing.Message, body: Any, root: str = "") -> Any:
    faults: parsing.Faults = []
    parsed = message.parse(body, root, faults)
    if faults:
        raise parsing.refusal(faults)
    return parsed


def hyper(**fields: Any) -> dict[str, Any]:
    return {"supervisedTuningSpec": {"hyperParameters": fields}}


def parsed(**fields: Any) -> Any:
    return parse(JOB, hyper(**fields), "tuning_job")["supervisedTuningSpec"]["hyperParameters"]


def test_both_spellings_become_camel_case_at_any_depth() -> None:
    body = {
        "base_model": "m",
        "supervised_tuning_spec": {"hyper_parameters": {"epoch_count": 3}},
        "output_uri": "gs://b",
    }
    assert parse(JOB, body) == {
        "baseModel": "m",
        "supervisedTuningSpec": {"hyperParameters": {"epochCount": "3"}},
        "outputUri": "gs://b",
    }


@given(st.sampled_from(sorted(ADAPTER_SIZES.items())))
def test_enums_by_name_and_number_are_answered_by_name(item: tuple[str, int]) -> None:
    name, number = item
    expected = {} if number == 0 else {"adapterSize": name}
    assert parsed(adapterSize=name) == parsed(adapterSize=number) == parsed(adapterSize=float(number)) == expected


@given(st.integers(-(2**63), 2**63 - 1).filter(bool))
def test_int64_as_text_and_number_is_answered_as_text(number: int) -> None:
    assert parsed(epochCount=number) == parsed(epochCount=str(number)) == {"epochCount": str(number)}


@pytest.mark.parametrize(
    ("fields", "place"),
    [
        ({"epochCount": "three"}, "epoch_count' (TYPE_INT64)"),
        ({"epochCount": 1.5}, "epoch_count' (TYPE_INT64)"),
        ({"epochCount": 2**63}, "epoch_count' (TYPE_INT64)"),
        ({"epochCount": True}, "epoch_count' (TYPE_INT64)"),
        ({"epochCount": "9" * 5000}, "epoch_count' (TYPE_INT64)"),
        ({"learningRate": "fast"}, "learning_rate' (TYPE_DOUBLE)"),
        ({"learningRate": float("inf")}, "learning_rate' (TYPE_DOUBLE)"),
        ({"adapterSize": 7}, "AdapterSize), 7"),
        ({"adapterSize": float("inf")}, "AdapterSize), inf"),
        ({"adapterSize": "9" * 5000}, "AdapterSize)"),
        ({"adapterSize": "SIXTEEN"}, 'AdapterSize), "SIXTEEN"'),
    ],
)
def test_wrong_values_are_named_with_their_place(fields: dict[str, Any], place: str) -> None:
    with pytest.raises(ApiError) as caught:
        parsed(**fields)
    assert caught.value.status == "INVALID_ARGUMENT"
    assert "Invalid value at 'tuning_job.supervised_tuning_spec.hyper_parameters." in caught.value.message
    assert place in caught.value.message


def test_every_unknown_name_is_reported_in_the_services_words() -> None:
    body = {"colour": 1, **hyper(temperature=1)}
    with pytest.raises(ApiError) as caught:
        parse(JOB, body, "tuning_job")
    assert caught.value.message.splitlines() == [
        "Invalid JSON payload received. Unknown name \"colour\" at 'tuning_job': Cannot find field.",
        'Invalid JSON payload received. Unknown name "temperature" at '
        "'tuning_job.supervised_tuning_spec.hyper_parameters': Cannot find field.",
    ]
    assert [item["field"] for item in caught.value.details[0]["fieldViolations"]] == [
        "tuning_job",
        "tuning_job.supervised_tuning_spec.hyper_parameters",
    ]


def test_output_fields_are_ignored_and_defaults_left_out() -> None:
    body = {"name": "x", "state": 4, "description": "", "supervisedTuningSpec": {"exportLastCheckpointOnly": False}}
    assert parse(JOB, body) == {"supervisedTuningSpec": {}}


def test_maps_keep_their_keys() -> None:
    assert parse(JOB, {"labels": {"my_key": "v", "empty": ""}}) == {"labels": {"my_key": "v", "empty": ""}}


@given(
    st.dictionaries(
        st.sampled_from([*JOB.names, "x"]),
        st.recursive(
            st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=3),
            lambda inner: (
                st.lists(inner, max_size=2)
                | st.dictionaries(st.sampled_from(["hyper_parameters", "tuningMode", "k"]), inner, max_size=2)
            ),
            max_leaves=6,
        ),
    )
)
def test_any_json_is_accepted_or_refused_but_never_crashes(body: dict[str, Any]) -> None:
    first: dict[str, Any] = {}
    with contextlib.suppress(ApiError):  # any other exception fails the test
        first = parse(JOB, body)
    assert parse(JOB, first) == first  # the canonical form is a fixed point


def test_tuning_modes_have_googles_numbers() -> None:
    assert parse(JOB, {"supervisedTuningSpec": {"tuningMode": 2}}) == {
        "supervisedTuningSpec": {"tuningMode": "TUNING_MODE_PEFT_ADAPTER"}
    }


@pytest.mark.parametrize(
    ("message", "body", "said"),
    [
        (
            "Endpoint",
            {"displayName": ["a"]},
            "Unknown name \"display_name\" at 'endpoint': Proto field is not repeating",
        ),
        ("Endpoint", {"displayName": {}}, "Invalid value at 'endpoint' (display_name), Starting an object on a scalar"),
        ("Endpoint", {"labels": {"a": 7}}, "Invalid value at 'endpoint.labels[0].value' (TYPE_STRING), 7"),
        ("Endpoint", {"encryptionSpec": 5}, "google.cloud.aiplatform.v1beta1.EncryptionSpec), 5"),
        ("DedicatedResources", {"scaleToZeroSpec": {"idleScaledownPeriod": 600}}, "google.protobuf.Duration), 600"),
        ("DedicatedResources", {"scaleToZeroSpec": {"idleScaledownPeriod": "5m"}}, "duration must end with 's'"),
        ("DedicatedResources", {"autoscalingMetricSpecs": {}}, "(repeated field)"),
        ("TuningJob", {"baseModel": "a", "preTunedModel": {}}, "oneof field 'source_model' is already set. Cannot set"),
        ("Model", [], "Root element must be a message"),
    ],
)
def test_wrong_types_are_refused_in_googles_words(message: str, body: Any, said: str) -> None:
    assert _DOCUMENT is not None
    with pytest.raises(ApiError) as caught:
        parse(parsing.message(_DOCUMENT, message), body, "" if body == [] else parsing.snake(message).lstrip("_"))
    assert said in caught.value.message


def test_a_version_has_its_own_fields() -> None:
    stable = documents.load("aiplatform.v1")
    assert stable is not None
    with pytest.raises(ApiError, match='Unknown name "outputUri"'):
        parse(parsing.message(stable, "TuningJob"), {"outputUri": "gs://b"})
