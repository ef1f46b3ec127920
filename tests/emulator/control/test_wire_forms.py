"""Pages, masks and the spellings of proto JSON: laws that hold for any input."""

from __future__ import annotations

import contextlib
import string
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from runner.emulator import paging, update_mask, wire_json
from runner.emulator.errors import ApiError
from runner.emulator.field_selection import pick, selection

# A busy machine is no failure of the code.
quickly = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])

_NAMES = st.text(string.ascii_lowercase + string.digits + "_", min_size=1, max_size=8).filter(
    lambda name: name[0].isalpha() and not name.endswith("_") and "__" not in name
)
_LEAVES = st.none() | st.booleans() | st.integers() | st.text(max_size=5)


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


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b'{"a": b}', 'Unexpected token.\n{"a": b}\n      ^'),
        (b'{"a":', "Unexpected end of string. Expected a value."),
        (b'{"a": NaN}', "Unexpected token.\nNaN"),
        (b"[]", "Root element must be a message."),
        (b"\xff", "Invalid JSON payload received."),
    ],
)
def test_what_is_no_json_is_refused_with_its_place(content: bytes, said: str) -> None:
    assert said in _refused(wire_json.loads, content)


@quickly
@given(st.binary(max_size=40))
def test_any_body_is_an_object_or_refused(content: bytes) -> None:
    body: Any = {}
    with contextlib.suppress(ApiError):  # any other exception fails the test
        body = wire_json.loads(content)
    assert isinstance(body, dict)


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ("*", {"a": [{"b": 1, "c": 2}], "t": "x"}),
        ("t", {"t": "x"}),
        ("a/b,t", {"a": [{"b": 1}], "t": "x"}),
        ("a(b,c)", {"a": [{"b": 1, "c": 2}]}),
        ("a/*", {"a": [{"b": 1, "c": 2}]}),
        ("nothing", {}),
    ],
)
def test_fields_select_a_part_of_an_answer(fields: str, expected: Any) -> None:
    assert pick({"a": [{"b": 1, "c": 2}], "t": "x"}, selection(fields)) == expected


@pytest.mark.parametrize("fields", ["a(", "a)", "a,,b", "/", "a(b", "a(" * 60])
def test_a_malformed_selection_is_refused(fields: str) -> None:
    _refused(selection, fields)


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
def test_no_mask_means_every_field_of_the_patch_and_a_star_replaces(
    stored: dict[str, Any], patch: dict[str, Any]
) -> None:
    assert update_mask.apply(stored, patch, None) == {**stored, **patch}
    assert update_mask.apply(stored, patch, "*") == patch
    assert update_mask.apply(stored, patch, "*", every=["a"]) == {
        **{key: value for key, value in stored.items() if key != "a"},
        **{key: value for key, value in patch.items() if key == "a"},
    }


def test_a_mask_may_name_a_field_below_one_that_is_not_there() -> None:
    assert update_mask.apply({}, {"a": {"b": 1}}, "a.b") == {"a": {"b": 1}}
    assert update_mask.apply({"a": "text"}, {"a": {"b": 1}}, ["a.b"]) == {"a": {"b": 1}}


@pytest.mark.parametrize("mask", ["a..b", ".", "a,.b"])
def test_a_malformed_mask_is_refused(mask: str) -> None:
    _refused(update_mask.apply, {}, {}, mask)
