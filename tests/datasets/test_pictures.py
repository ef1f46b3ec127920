"""Images looked at closer: in buckets, their pixels decoded, and whatever hostile ones there are."""

from __future__ import annotations

import io
import json
import random
import zlib
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from runner.datasets.checks import check_files
from runner.datasets.images import ImageError, read_header
from runner.datasets.jpeg_scan import scan_problem
from runner.datasets.pictures import PictureCheck
from runner.gcp import storage
from tests.cli.conftest import in_project, run  # noqa: F401 - fixtures
from tests.cli.invocation import CommandLine
from tests.datasets.examples import png
from tests.datasets.test_defects import FORMATS, Picture, encoded, found
from tests.datasets.test_transfers import session_on
from tests.provisioning import Provisioned

KINDS = ("JPEG", "PNG", "WEBP")


def painted(kind: str, seed: int = 1, size: tuple[int, int] = (61, 47), **options: Any) -> bytes:
    noise = Image.frombytes("RGB", size, random.Random(seed).randbytes(size[0] * size[1] * 3))
    stream = io.BytesIO()
    noise.save(stream, kind, **options)
    return stream.getvalue()


def variants() -> Iterator[bytes]:
    for seed in range(20):
        size = (1 + 7 * seed, 3 + 5 * seed)
        yield painted("JPEG", seed, size, quality=5 * seed + 1, progressive=seed % 2 == 0)
        yield painted("JPEG", seed, size, restart_marker_blocks=seed % 4)
        yield painted("PNG", seed, size)
        yield painted("WEBP", seed, size, lossless=seed % 2 == 0)


def test_whole_images_are_whole() -> None:
    for data in variants():
        header = read_header(data)
        with Image.open(io.BytesIO(data)) as image:
            assert (header.width, header.height) == image.size
            assert header.mime_type == Image.MIME[image.format or ""]
        assert (header.trailing, header.notes) == (0, ())


@pytest.mark.parametrize("kind", KINDS)
def test_every_truncation_is_found(kind: str) -> None:
    data = painted(kind)
    for length in [*range(40), *random.Random(kind).sample(range(40, len(data)), 60), len(data) - 1]:
        with pytest.raises(ImageError) as caught:
            read_header(data[:length])
        assert caught.value.finding in {"image-truncated", "image-type"}, length


@pytest.mark.parametrize("kind", KINDS)
def test_polyglots_are_named(kind: str) -> None:
    for tail in (b"PK\x03\x04zip", b"%PDF-1.7", b"<script>", b"#!/bin/sh", b"MZ", png(), b"\xff\xd9", bytes(10)):
        assert read_header(painted(kind) + tail).trailing == len(tail), tail


def test_bombs_cost_nothing() -> None:
    def chunk(name: bytes, data: bytes) -> bytes:
        return len(data).to_bytes(4, "big") + name + data + zlib.crc32(name + data).to_bytes(4, "big")

    for width, height in ((50_000, 50_000), (1, 2**31 - 1), (2**31 - 1, 1), (2**32 - 1, 2**32 - 1)):
        size = width.to_bytes(4, "big") + height.to_bytes(4, "big")
        head = chunk(b"IHDR", size + b"\x08\x02\0\0\0")
        bomb = b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")
        with pytest.raises(ImageError, match="million"):
            read_header(bomb)
    # Ten thousand empty chunks, and one that says it is larger than the file.
    many = b"\x89PNG\r\n\x1a\n" + png()[8:33] + chunk(b"tEXt", b"") * 10_000 + png()[33:]
    assert read_header(many).trailing == 0
    with pytest.raises(ImageError):
        read_header(png()[:33] + b"\xff\xff\xff\xffIDAT")


def test_overwritten_picture_data_are_found() -> None:
    for seed in range(24):
        for options in ({"subsampling": seed % 3}, {"restart_marker_blocks": 1 + seed % 3}, {"optimize": True}):
            assert scan_problem(painted("JPEG", seed, (1 + 3 * seed, 40 - seed), quality=4 * seed + 1, **options)) == ""
    draw = random.Random(5)
    missed = 0
    for seed in range(40):
        data = bytearray(painted("JPEG", seed, quality=70))
        place = draw.randrange(700, len(data) - 60)
        data[place : place + 32] = draw.randbytes(32)
        try:
            read_header(bytes(data))
        except ImageError:
            continue
        missed += not scan_problem(bytes(data))
    assert missed <= 6


def test_no_bytes_crash_the_reader() -> None:
    draw = random.Random(7)
    originals = list(variants())
    for _ in range(3000):
        data = bytearray(draw.choice(originals))
        for _ in range(draw.randint(1, 6)):
            position = draw.randrange(min(len(data), 200) if draw.random() < 0.7 else len(data))
            data[position : position + draw.choice((0, 1, 1, 4))] = draw.randbytes(draw.choice((0, 1, 2, 4)))
        with suppress(ImageError):
            read_header(bytes(data))


def write(path: Path, form: Any, pictures: list[Picture]) -> Path:
    rows = [form.body([("user", [f"{n}?", one]), ("answer", f"Answer {n}.")]) for n, one in enumerate(pictures)]
    path.write_bytes(b"".join(encoded(row) + b"\n" for row in rows))
    return path


def test_pixels_are_decoded_in_a_process_apart(tmp_path: Path) -> None:
    broken = painted("PNG")
    inner = zlib.compress(b"\x09" * (47 * (61 * 3 + 1)))  # there is no filter 9
    data = b"IDAT" + inner
    corrupt = broken[:33] + len(inner).to_bytes(4, "big") + data + zlib.crc32(data).to_bytes(4, "big") + broken[-12:]
    read_header(corrupt)  # its chunks are right
    lossless = painted("WEBP", lossless=True)
    pictures = [
        Picture(data=painted("JPEG")),
        Picture(data=corrupt, declared="image/png"),
        Picture(data=painted("WEBP"), declared="image/webp"),
        Picture(data=lossless[:30] + b"\xff" * (len(lossless) - 30), declared="image/webp"),
        Picture(data=painted("PNG", 2), declared="image/png"),
    ]
    with PictureCheck(None, decode=True) as check:
        for form in FORMATS[1:]:
            path = write(tmp_path / f"{form.name}.jsonl", form, pictures)
            assert found(check_files(path).findings) == []
            report = check_files(path, look_closer=check.findings)
            assert found(report.findings) == [("image-truncated", 2), ("image-truncated", 4)]
            assert all(finding.path.endswith("[1]") for finding in report.findings)
            assert report.error_count == report.training.counts["image-truncated"] == 2


def test_a_decoder_that_dies_is_started_anew(tmp_path: Path) -> None:
    path = write(tmp_path / "t.jsonl", FORMATS[1], [Picture(data=painted("JPEG", seed)) for seed in range(3)])
    with PictureCheck(None, decode=True) as check:
        assert list(check.findings(path)) == []
        assert check._decoder is not None
        assert check._decoder.process is not None
        check._decoder.process.kill()
        assert list(check.findings(path)) == []


def test_objects_are_looked_at(run: CommandLine, in_project: Provisioned, tmp_path: Path) -> None:  # noqa: F811
    folder = f"gs://{in_project.images}/p"
    with session_on(in_project) as session:
        storage.upload_bytes(session, painted("JPEG"), f"{folder}/good.jpg")
        storage.upload_bytes(session, painted("JPEG")[:-30], f"{folder}/cut.jpg")
        storage.upload_bytes(session, b"GIF89a" + bytes(30), f"{folder}/a.gif")
        storage.upload_bytes(session, painted("PNG"), f"{folder}/declared.jpg")
    names = ("good.jpg", "cut.jpg", "missing.jpg", "a.gif", "good.jpg", "declared.jpg", "missing.jpg")
    path = write(tmp_path / "t.jsonl", FORMATS[3], [Picture(f"{folder}/{name}") for name in names])
    assert run("data", "check", str(path)).code == 0
    outcome = run("data", "check", str(path), "--fetch-images", "--format", "json")
    assert outcome.code == 3
    assert [(item["code"], item["line"]) for item in outcome.document["findings"]] == [
        ("image-truncated", 2),
        ("image-missing", 3),
        ("image-type", 4),
        ("image-mismatch", 6),
        ("image-missing", 7),
    ]
    assert outcome.document["findings"][0]["path"] == "contents[0].parts[1]"
    nowhere = tmp_path / "other.jsonl"
    write(nowhere, FORMATS[1], [Picture("gs://there-is-no-such-bucket/a.jpg")])
    outcome = run("data", "check", str(nowhere), "--fetch-images", "--format", "json")
    assert [item["code"] for item in outcome.document["findings"]] == ["image-missing"]
    assert json.loads(outcome.err.splitlines()[-1])["error"]["code"] == "dataset"
