"""A stack's file stays as people wrote it, whichever verb touches it: line ends, comments, its last line, its bytes."""

from __future__ import annotations

import contextlib
import io
import itertools
import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from infra import stack_files
from infra.automation.__main__ import VERBS, main
from infra.stack_files import ROOT

LINES = (
    "# Of the team",
    "config:  # in order",
    "  gcp:project: before  # the team's",
    '  gcp:region: "us-central1" # home',
    "",
    "  # who is told",
    "  open-model-tuning:notificationEmails: ['a#b@acme.com']",
    "  open-model-tuning:stateBucket: 'old # bucket'  # made by hand",
)
SETTLED = {"gcp:project": "after", "gcp:region": "europe-west4", "open-model-tuning:environment": "prod"}
STATE = {"open-model-tuning:stateBucket": "new-bucket", "open-model-tuning:stateKey": "not there"}
ENDS = {"LF": "\n", "CRLF": "\r\n"}


def written(end: str, *, last: bool, mark: bool) -> bytes:
    return (("\ufeff" if mark else "") + end.join(LINES) + (end if last else "")).encode()


FORMS = [
    pytest.param(end, last, mark, id=f"{name}-{'whole' if last else 'open'}-{'marked' if mark else 'plain'}")
    for (name, end), last, mark in itertools.product(ENDS.items(), (True, False), (True, False))
]


@pytest.mark.parametrize(("end", "last", "mark"), FORMS)
def test_what_bootstrap_settles_changes_nothing_else(tmp_path: Path, end: str, last: bool, mark: bool) -> None:
    file = tmp_path / "Pulumi.dev.yaml"
    file.write_bytes(written(end, last=last, mark=mark))
    assert stack_files.write(file, SETTLED, present=STATE, key="k")
    after = file.read_bytes()
    assert (b"\r" in after, after.count(b"\r")) == (end == "\r\n", after.count(b"\n") if end == "\r\n" else 0)
    assert after.endswith(b"\n") is last
    assert after.startswith(b"\xef\xbb\xbf") is mark
    expected = [
        "secretsprovider: gcpkms://k",
        LINES[0],
        LINES[1],
        "  open-model-tuning:environment: prod",
        "  gcp:project: after  # the team's",
        "  gcp:region: europe-west4 # home",
        *LINES[4:7],
        "  open-model-tuning:stateBucket: new-bucket  # made by hand",
    ]
    assert after.decode("utf-8-sig").split(end)[: len(expected)] == expected
    assert not stack_files.write(file, SETTLED, present=STATE, key="k")
    assert file.read_bytes() == after


def by_the_engine(file: Path, added: dict[str, str]) -> None:
    """Write a stack's file as the engine does: anew, in its own form."""
    body: dict[str, Any] = yaml.safe_load(file.read_bytes())
    file.write_text(yaml.safe_dump({**added, **body}, sort_keys=False))


@pytest.mark.parametrize(("end", "last", "mark"), FORMS)
@pytest.mark.parametrize("how", ["done", "failed", "interrupted", "killed"])
def test_what_the_engine_writes_is_taken_back(tmp_path: Path, end: str, last: bool, mark: bool, how: str) -> None:
    file = tmp_path / "Pulumi.dev.yaml"
    before = written(end, last=last, mark=mark)
    file.write_bytes(before)
    with contextlib.suppress(RuntimeError, KeyboardInterrupt), stack_files.kept(file):
        if how == "killed":  # between the two steps of its writing
            file.write_bytes(b"")
        else:
            by_the_engine(file, {"encryptionsalt": "v1:salt"})
        if how == "failed":
            raise RuntimeError
        if how == "interrupted":
            raise KeyboardInterrupt
    salt = b"" if how == "killed" else f"encryptionsalt: v1:salt{end}".encode()
    first = b"\xef\xbb\xbf" if mark else b""
    assert file.read_bytes() == first + salt + before.removeprefix(first)
    assert stack_files.configuration("dev", tmp_path)["gcp:project"] == "before"


@pytest.mark.parametrize("verb", VERBS)
def test_what_is_not_utf8_is_refused_and_left(tmp_path: Path, verb: str) -> None:
    (tmp_path / "Pulumi.yaml").write_bytes((ROOT / "Pulumi.yaml").read_bytes())
    file = tmp_path / "Pulumi.dev.yaml"
    before = "\r\n".join(LINES).encode() + b"  # M\xfcller"
    file.write_bytes(before)
    with contextlib.redirect_stdout(io.StringIO()) as said:
        status = main([verb, "--stack", "dev", "--directory", str(tmp_path), "--project", "acme-ml", "--force"])
    text = said.getvalue()
    assert file.read_bytes() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["Pulumi.dev.yaml", "Pulumi.yaml"]
    assert "is not UTF-8: line 8 contains the byte 0xfc" in text
    if verb != "doctor":  # it lists what is wrong
        assert (status, json.loads(text)["error"]["code"]) == (2, "configuration")
