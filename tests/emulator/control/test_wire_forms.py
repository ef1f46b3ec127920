"""Pages, masks and the spellings of proto JSON: laws that hold for any input."""

from __future__ import annotations

import json
import string
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from runner.emulator import paging, update_mask, wire_json
from runner.emulator.errors import ApiError

# A busy machine is no failure of the code.
quickly = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])

_NAMES = st.text(string.ascii_lowercase + string.digits + "_", min_size=1, max_size=8).filter(
    lambda name: name[0].isalpha() and not name.endswith("_") and "__" not in name
)
_LEAVES = st.none() | st.booleans() | st.integers() | st.text(max_size=5)
_BODIES = st.recursive(
    _LEAVES, lambda below: st.lists(below, max_size=3) | st.dictionaries(_NAMES, below, max_size=4), max_leaves=12
)


def _refused(call: Any, *args: Any, **named: Any) -> str:
    with pytest.raises(ApiError) as caught:
        call(*args, **named)
    assert caught.value.status == "INVALID_ARGUMENT"
    assert caught.value.http == 400
    return caught.value.message


@quickly
@given(st.integers(0, 60), st.integers(1, 20))
def test_the_pages_of_a_list_are_the_list(count: int, size: int) -> None:
    items = list(range(count))
    collected: list[int] = []
    token = ""
    while True:
        page, token = paging.page(items, str(size), token)
        assert len(page) <= size
        collected += page
        if not token:
            break
        assert len(page) == size
    assert collected == items


def test_a_page_has_a_default_and_a_largest_size() -> None:
    assert len(paging.page(range(500), None, None, default=7)[0]) == 7
    assert len(paging.page(range(500), "0", None, default=7)[0]) == 7
    assert len(paging.page(range(500), "400", None, maximum=9)[0]) == 9


@quickly
@given(st.text(max_size=30))
def test_no_text_breaks_the_page_token(token: str) -> None:
    items = [1, 2, 3]
    refused = 400
    page: list[int] = []
    try:
        page, _ = paging.page(items, None, token)
    except ApiError as error:
        refused = error.http
    else:
        assert page == items[len(items) - len(page) :]
    assert refused == 400


@pytest.mark.parametrize("token", ["5", "bm90IG91cnM", "????", "b210MTo", "b210MTotMQ", "é"])
def test_a_foreign_page_token_is_refused(token: str) -> None:
    assert "page token" in _refused(paging.page, [1], None, token)


@pytest.mark.parametrize("size", ["-1", "many", "1.5"])
def test_a_page_size_that_is_no_count_is_refused(size: str) -> None:
    _refused(paging.page, [1], size, None)


@quickly
@given(_BODIES)
def test_camel_changes_names_only_and_once(body: Any) -> None:
    try:
        changed = wire_json.camel(body)
    except ApiError:
        return  # one field in both spellings
    assert wire_json.camel(changed) == changed
    assert "_" not in "".join(_keys(changed, wire_json.MAP_FIELDS))
    assert _leaves(changed) == _leaves(body)


def _keys(body: Any, maps: frozenset[str]) -> list[str]:
    if isinstance(body, list):
        return [key for item in body for key in _keys(item, maps)]
    if not isinstance(body, dict):
        return []
    return [*body] + [key for name, item in body.items() for key in ([] if name in maps else _keys(item, maps))]


def _leaves(body: Any) -> list[str]:
    if isinstance(body, list):
        return [leaf for item in body for leaf in _leaves(item)]
    if isinstance(body, dict):
        return [leaf for item in body.values() for leaf in _leaves(item)]
    return [json.dumps(body)]


def test_camel_leaves_the_keys_of_maps_alone() -> None:
    body = {"user_labels": {"my_team": "a"}, "encryption_spec": {"kms_key_name": "k"}, "metadata": {"a_b": {"c_d": 1}}}
    assert wire_json.camel(body) == {
        "userLabels": {"my_team": "a"},
        "encryptionSpec": {"kmsKeyName": "k"},
        "metadata": {"a_b": {"c_d": 1}},
    }


def test_a_field_in_both_spellings_is_refused() -> None:
    assert "displayName" in _refused(wire_json.camel, {"displayName": "a", "display_name": "b"})


@quickly
@given(st.integers(-(2**63), 2**63 - 1))
def test_int64_is_text_whatever_it_came_as(number: int) -> None:
    assert wire_json.int64(number) == str(number) == wire_json.int64(str(number))


@pytest.mark.parametrize(
    "value", [2**63, -(2**63) - 1, 1.5, "1.5", "", " 1", "1_000", "٣", True, None, [], {}, "9" * 400]
)
def test_what_is_no_int64_is_refused(value: Any) -> None:
    assert "epochCount" in _refused(wire_json.int64, value, field="epochCount")


@quickly
@given(st.lists(_NAMES, min_size=1, max_size=8, unique=True), st.data())
def test_an_enum_is_answered_by_name(names: list[str], data: st.DataObject) -> None:
    index = data.draw(st.integers(0, len(names) - 1))
    for spelling in (index, str(index), names[index]):
        assert wire_json.enum_name(spelling, names) == names[index]


@pytest.mark.parametrize("value", [2, -1, "NOPE", True, None, 1.0, "²"])
def test_an_enum_value_that_does_not_exist_is_refused(value: Any) -> None:
    _refused(wire_json.enum_name, value, ["ZERO", "ONE"])


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        (None, {"a": [{"b": 1, "c": 2}], "t": "x"}),
        ("*", {"a": [{"b": 1, "c": 2}], "t": "x"}),
        ("t", {"t": "x"}),
        ("a/b,t", {"a": [{"b": 1}], "t": "x"}),
        ("a(b,c)", {"a": [{"b": 1, "c": 2}]}),
        ("a/*", {"a": [{"b": 1, "c": 2}]}),
        ("nothing", {}),
    ],
)
def test_fields_select_a_part_of_an_answer(fields: str | None, expected: Any) -> None:
    assert wire_json.select({"a": [{"b": 1, "c": 2}], "t": "x"}, fields) == expected


@pytest.mark.parametrize("fields", ["a(", "a)", "a,,b", "/", "a(b", "a(" * 60])
def test_a_malformed_selection_is_refused(fields: str) -> None:
    _refused(wire_json.select, {"a": 1}, fields)


def test_a_mask_takes_what_it_names_and_clears_what_is_absent() -> None:
    stored = {"displayName": "old", "description": "kept", "oidc": {"issuerUri": "a", "jwksJson": "b"}}
    patch = {"displayName": "new", "description": "ignored", "oidc": {"issuerUri": "c"}}
    assert update_mask.apply(stored, patch, "display_name,oidc.issuer_uri") == {
        "displayName": "new",
        "description": "kept",
        "oidc": {"issuerUri": "c", "jwksJson": "b"},
    }
    assert update_mask.apply(stored, {}, "description") == {"displayName": "old", "oidc": stored["oidc"]}
    assert stored["displayName"] == "old"


@quickly
@given(st.dictionaries(_NAMES, _LEAVES, max_size=5), st.dictionaries(_NAMES, _LEAVES, max_size=5))
def test_no_mask_means_every_field_of_the_patch(stored: dict[str, Any], patch: dict[str, Any]) -> None:
    assert update_mask.apply(stored, patch, None) == {**stored, **patch}
    assert update_mask.apply(stored, patch, "*") == {**stored, **patch}


def test_a_mask_may_name_a_field_below_one_that_is_not_there() -> None:
    assert update_mask.apply({}, {"a": {"b": 1}}, "a.b") == {"a": {"b": 1}}
    assert update_mask.apply({"a": "text"}, {"a": {"b": 1}}, ["a.b"]) == {"a": {"b": 1}}


@pytest.mark.parametrize("mask", ["a..b", ".", "a,.b"])
def test_a_malformed_mask_is_refused(mask: str) -> None:
    _refused(update_mask.apply, {}, {}, mask)
