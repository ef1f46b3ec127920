"""The multipart/related parser, whatever the pieces, the line ends and the boundary."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runner.emulator.errors import ApiError
from runner.emulator.storage.related import RelatedParser, boundary_of
from tests.emulator.storage.conftest import attempt

_BOUNDARIES = st.text("abcXYZ019'()+_,-./:=?", min_size=1, max_size=70)


def _body(boundary: str, newline: bytes, head: bytes, data: bytes, preamble: bytes = b"") -> bytes:
    delimiter = b"--" + boundary.encode()
    lines = [delimiter, b"Content-Type: application/json; charset=UTF-8", b"", head]
    lines += [delimiter, b"content-type: text/x-test", b"", b""]
    return preamble + newline.join(lines) + data + newline + delimiter + b"--"


def _parse(boundary: str, body: bytes, cuts: list[int]) -> tuple[RelatedParser, bytes]:
    parser = RelatedParser(boundary.encode())
    edges = [0, *sorted(cut % (len(body) + 1) for cut in cuts), len(body)]
    data = b"".join(parser.feed(body[begin:end]) for begin, end in itertools.pairwise(edges))
    parser.finish()
    return parser, data


@given(
    boundary=_BOUNDARIES,
    newline=st.sampled_from([b"\r\n", b"\n"]),
    metadata=st.dictionaries(st.text(), st.text(), max_size=4),
    data=st.binary(max_size=300) | st.text("\r\n-=ab", max_size=200).map(str.encode),
    cuts=st.lists(st.integers(0, 10_000), max_size=12),
    tail=st.sampled_from([b"", b"\r\n", b"\n"]),
)
@settings(max_examples=300, deadline=None)
def test_data_comes_out_as_it_went_in(
    boundary: str, newline: bytes, metadata: dict[str, str], data: bytes, cuts: list[int], tail: bytes
) -> None:
    if b"--" + boundary.encode() in newline + data:
        return
    head = json.dumps(metadata).encode()
    parser, received = _parse(boundary, _body(boundary, newline, head, data) + tail, cuts)
    assert received == data
    assert json.loads(parser.metadata) == metadata
    assert parser.content_type == "text/x-test"


@given(body=st.binary(max_size=400), cuts=st.lists(st.integers(0, 400), max_size=5))
@settings(max_examples=200, deadline=None)
def test_garbage_is_refused_or_taken_but_never_breaks(body: bytes, cuts: list[int]) -> None:
    parsed, status = attempt(lambda: _parse("b", b"--b\r\n" + body, cuts))
    assert parsed is not None or status == 400


def test_every_single_byte_split() -> None:
    body = _body("==0==", b"\n", b'{"name":"x"}', b"\r\n--==0=\n--==0")
    parser = RelatedParser(b"==0==")
    received = b"".join(parser.feed(body[index : index + 1]) for index in range(len(body)))
    parser.finish()
    assert received == b"\r\n--==0=\n--==0"


@pytest.mark.parametrize(
    ("mutate", "message"),
    [
        (lambda body: body[:-2], "end boundary"),
        (lambda body: body[:20], "end boundary"),
        (lambda body: body[:-2] + b"\r\nContent-Type: a/b\r\n\r\nmore\r\n--b--", "exactly two parts"),
        (lambda body: b"", "end boundary"),
    ],
)
def test_broken_bodies_are_named(mutate: Callable[[bytes], bytes], message: str) -> None:
    with pytest.raises(ApiError, match=message):
        _parse("b", mutate(_body("b", b"\r\n", b"{}", b"data")), [])


@pytest.mark.parametrize(
    ("content_type", "boundary"),
    [
        ('multipart/related; boundary="===a b==="', b"===a b==="),
        ("multipart/related; boundary='===a==='", b"===a==="),
        ("multipart/related; charset=x; BOUNDARY=abc; type=y", b"abc"),
    ],
)
def test_boundaries(content_type: str, boundary: bytes) -> None:
    assert boundary_of(content_type) == boundary


def test_a_missing_boundary_is_refused() -> None:
    with pytest.raises(ApiError, match="Missing boundary"):
        boundary_of("multipart/related")
