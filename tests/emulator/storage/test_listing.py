"""Listing: compared with a straightforward model of what the documentation says."""

from __future__ import annotations

import re
from collections.abc import Iterator

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from runner.emulator.server import EmulatorServer
from runner.emulator.storage.listing import compile_glob
from runner.emulator.storage.objects import after_prefix
from tests.emulator.storage.conftest import Bucket, attempt

_NAMES = sorted(
    [
        "a",
        "a/",
        "a/1",
        "a/2/x",
        "a/2/y",
        "a0",
        "b//c",
        "b/c",
        "é/1",
        "é/2",
        "☃",
        "😀/x",
        "z/" + "\uffff",
        "z/\U0010ffff/q",
    ],
    key=str.encode,
)


@pytest.fixture(scope="module")
def filled(emulator: EmulatorServer) -> Iterator[Bucket]:
    with httpx.Client(base_url=emulator.url, timeout=60) as client:
        yield _filled(client)


def _filled(client: httpx.Client) -> Bucket:
    assert client.post("/storage/v1/b?project=test-listing", json={"name": "test-listing"}).is_success
    bucket = Bucket(client, "test-listing")
    for name in reversed(_NAMES):
        bucket.stored(name, b"")
    return bucket


def _model(prefix: str, delimiter: str, start: str, end: str) -> tuple[list[str], list[str]]:
    items, folders = [], []
    for name in _NAMES:
        key = name.encode()
        if not name.startswith(prefix) or key < start.encode() or (end and key >= end.encode()):
            continue
        at = name.find(delimiter, len(prefix)) if delimiter else -1
        if at < 0:
            items.append(name)
        elif (folder := name[: at + len(delimiter)]) not in folders:
            folders.append(folder)
    return items, folders


def _pages(bucket: Bucket, **parameters: object) -> tuple[list[str], list[str]]:
    items: list[str] = []
    folders: list[str] = []
    token = None
    while True:
        query = {**parameters, **({"pageToken": token} if token else {})}
        page = bucket.client.get(f"{bucket.path}/o", params=query).json()  # type: ignore[arg-type]
        names = [item["name"] for item in page.get("items", [])]
        assert len(names) + len(page.get("prefixes", [])) <= int(str(parameters["maxResults"]))
        items += names
        folders += page.get("prefixes", [])
        token = page.get("nextPageToken")
        if token is None:
            return items, folders


_PARTS = st.sampled_from(["", "a", "a/", "a/2", "b/", "é", "z", "z/", "😀", "/", "none"])


@given(
    prefix=_PARTS, delimiter=st.sampled_from(["", "/", "2", "/2/"]), start=_PARTS, end=_PARTS, size=st.integers(1, 5)
)
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_pages_add_up_to_the_model(
    filled: Bucket, prefix: str, delimiter: str, start: str, end: str, size: int
) -> None:
    found = _pages(filled, prefix=prefix, delimiter=delimiter, startOffset=start, endOffset=end, maxResults=size)
    assert found == _model(prefix, delimiter, start, end)


def test_a_trailing_delimiter_is_listed_on_request(filled: Bucket) -> None:
    parameters = {"delimiter": "/", "prefix": "a", "includeTrailingDelimiter": "true"}
    page = filled.client.get(f"{filled.path}/o", params=parameters).json()
    assert [item["name"] for item in page["items"]] == ["a", "a/", "a0"]
    assert page["prefixes"] == ["a/"]


def test_thousands_in_one_folder_are_skipped(bucket: Bucket) -> None:
    for number in range(300):
        bucket.stored(f"f/{number:04}", b"")
    bucket.stored("g", b"")
    page = bucket.client.get(f"{bucket.path}/o", params={"delimiter": "/"}).json()
    assert (page["prefixes"], [item["name"] for item in page["items"]]) == (["f/"], ["g"])
    assert len(bucket.names(prefix="f/")) == 300


@pytest.mark.parametrize(
    ("glob", "matched", "not_matched"),
    [
        ("*.json", ["a.json", ".json"], ["a/b.json", "a.jsonl"]),
        ("**.json", ["a.json", "a/b.json"], ["a.txt"]),
        ("a/**/z", ["a/b/z", "a/b/c/z"], ["a/z/y"]),
        ("?x", ["ax"], ["/x", "x", "aax"]),
        ("[a-c]x", ["bx"], ["dx", "-x"]),
        ("[!a-c]x", ["dx"], ["ax"]),
        ("{a,b*}.txt", ["a.txt", "bcd.txt"], ["c.txt", "b/c.txt"]),
        (r"a\*b", ["a*b"], ["axb"]),
        ("a.b+(c)", ["a.b+(c)"], ["axb+(c)"]),
    ],
)
def test_globs(glob: str, matched: list[str], not_matched: list[str]) -> None:
    pattern = compile_glob(glob)
    assert [name for name in matched if not pattern.match(name)] == []
    assert [name for name in not_matched if pattern.match(name)] == []


@given(glob=st.text("a*?[]{}!^,\\-/", max_size=12))
def test_any_glob_compiles_or_is_refused(glob: str) -> None:
    pattern, status = attempt(lambda: compile_glob(glob))
    assert isinstance(pattern, re.Pattern) or status == 400


def test_a_glob_filters(filled: Bucket) -> None:
    assert filled.names(matchGlob="a/2/*") == ["a/2/x", "a/2/y"]


@pytest.mark.parametrize(
    "parameters", [{"pageToken": "?"}, {"pageToken": "W10="}, {"maxResults": "-1"}, {"maxResults": "x"}]
)
def test_bad_parameters_are_refused(filled: Bucket, parameters: dict[str, str]) -> None:
    assert filled.client.get(f"{filled.path}/o", params=parameters).status_code == 400


@given(prefix=st.text(min_size=1, max_size=5), rest=st.text(max_size=5), other=st.text(max_size=5))
def test_after_a_prefix_comes_what_does_not_start_with_it(prefix: str, rest: str, other: str) -> None:
    try:
        for text in (prefix, rest, other):
            text.encode()
    except UnicodeEncodeError:
        return
    end = after_prefix(prefix)
    if end is None:
        return
    assert (prefix + rest).encode() < end.encode()
    assert other.startswith(prefix) == (prefix.encode() <= other.encode() < end.encode())


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ('contexts."k":*', ["a", "b"]),
        ('contexts."k"="1"', ["a"]),
        ('-contexts."k":*', ["c"]),
        ('NOT contexts."k"="1"', ["b", "c"]),
        ('contexts."k"!="1"', ["b", "c"]),
        ('contexts."none":*', []),
    ],
)
def test_objects_are_filtered_by_their_contexts(
    bucket: Bucket, client: httpx.Client, text: str, names: list[str]
) -> None:
    for name, value in (("a", "1"), ("b", "2"), ("c", None)):
        bucket.stored(name, b"data")
        custom = {"k": {"value": value}} if value else {}
        assert client.patch(bucket.object_path(name), json={"contexts": {"custom": custom}}).status_code == 200
    assert bucket.names(filter=text) == names


@pytest.mark.parametrize(
    "text", ["x", 'contexts."k"', 'contexts."k":"1"', 'contexts."k"=*', "contexts.k:*", 'contexts."\\x":*']
)
def test_other_filters_are_refused(bucket: Bucket, client: httpx.Client, text: str) -> None:
    assert client.get(f"{bucket.path}/o", params={"filter": text}).status_code == 400
