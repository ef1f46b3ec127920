from __future__ import annotations

import contextlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.emulator.aiplatform.filters import compile_filter, ordered
from runner.emulator.errors import ApiError

FIELDS = {"state", "labels", "displayName", "createTime", "spec"}
JOB = {
    "state": "JOB_STATE_RUNNING",
    "labels": {"a": "b", "my-key": "x y"},
    "displayName": "tuned llama",
    "createTime": "2026-11-25T08:00:00.500000Z",
    "spec": {"count": "3", "on": True},
}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", True),
        ('labels.a="b" AND state="JOB_STATE_RUNNING"', True),
        ("labels.a=b state=JOB_STATE_RUNNING", True),
        ('labels.a="c" OR labels.a="b"', True),
        ('NOT labels.a="b"', False),
        ('-state="JOB_STATE_FAILED"', True),
        # OR binds tighter than AND.
        ("labels.a=b OR labels.a=c AND state=NO", False),
        ("(labels.a=b) OR (labels.a=c AND state=NO)", True),
        ("labels.my-key='x y'", True),
        ("labels:a", True),
        ("labels:z", False),
        ("labels.a:*", True),
        ("labels.z:*", False),
        ('labels.z!="b"', True),
        ("display_name=tuned*", True),
        ('display_name="*gemma*"', False),
        ('create_time>="2026-11-25T08:00:00Z"', True),
        ('createTime<"2026-11-25T09:00:00+00:00"', True),
        ('createTime="2026-11-25T08:00:00.5Z"', True),
        ("spec.count>2", True),
        ("spec.count>10", False),
        ("spec.on=true", True),
        ("spec.missing=1", False),
    ],
)
def test_filters(text: str, expected: bool) -> None:
    assert compile_filter(text, FIELDS)(JOB) is expected


@pytest.mark.parametrize(
    "text",
    [
        "state", "state=", "=x", "AND state=x", "state=x AND", "(state=x", "state=x)", "state==x", 'state="x',
        "colour=red", "NOT", "state=x OR", "!", "(" * 60 + "state=x" + ")" * 60, "state=" + "x" * 5000,
    ],
)  # fmt: skip
def test_malformed_filters_are_refused(text: str) -> None:
    with pytest.raises(ApiError) as caught:
        compile_filter(text, FIELDS)
    assert caught.value.status == "INVALID_ARGUMENT"


Node = tuple[Any, ...]
_leaves = st.tuples(
    st.just("is"), st.sampled_from(["a", "b", "my_key"]), st.sampled_from(["1", "2", 'x "y"', "\\", "AND"])
)
_nodes = st.recursive(
    _leaves,
    lambda inner: st.tuples(st.sampled_from(["AND", "OR"]), inner, inner) | st.tuples(st.just("NOT"), inner),
    max_leaves=8,
)


def write(node: Node) -> str:
    if node[0] == "is":
        value = str(node[2]).replace("\\", "\\\\").replace('"', '\\"')
        return f'labels.{node[1]} = "{value}"'
    if node[0] == "NOT":
        return f"NOT ({write(node[1])})"
    return f"({write(node[1])}) {node[0]} ({write(node[2])})"


def holds(node: Node, labels: dict[str, str]) -> bool:
    if node[0] == "is":
        return bool(labels.get(node[1], "") == node[2])
    if node[0] == "NOT":
        return not holds(node[1], labels)
    first, second = holds(node[1], labels), holds(node[2], labels)
    return first and second if node[0] == "AND" else first or second


@given(
    _nodes, st.dictionaries(st.sampled_from(["a", "b", "my_key"]), st.sampled_from(["1", "2", 'x "y"', "\\", "AND"]))
)
def test_expressions_mean_what_logic_says(node: Node, labels: dict[str, str]) -> None:
    assert compile_filter(write(node), FIELDS)({"labels": labels}) is holds(node, labels)


@given(st.text(max_size=30))
def test_any_text_is_compiled_or_refused(text: str) -> None:
    with contextlib.suppress(ApiError):  # any other exception fails the test
        assert compile_filter(text, FIELDS)(JOB) in (True, False)


def test_order_by() -> None:
    items = [{"name": "1", "createTime": "2", "n": "b"}, {"name": "2", "createTime": "1", "n": "a"}]
    assert [item["name"] for item in ordered(items, "", "-createTime")] == ["1", "2"]
    assert [item["name"] for item in ordered(items, "create_time", "-createTime")] == ["2", "1"]
    assert [item["name"] for item in ordered(items, "n desc", "-createTime")] == ["1", "2"]
    with pytest.raises(ApiError):
        ordered(items, "n sideways", "-createTime")
