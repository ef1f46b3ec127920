"""Images looked at closer: in buckets, their pixels decoded, and whatever hostile ones there are."""

from __future__ import annotations

import base64
import io
import json
import random
import re
import subprocess
import sys
import zlib
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from runner.datasets.checks import check_files
from runner.datasets.images.inspection import PictureCheck
from runner.datasets.rules.images import ImageError, as_data_url, decode_data_url, read_header
from runner.gcp import uploads
from tests.cli.conftest import in_project, run  # noqa: F401 - fixtures
from tests.cli.invocation import CommandLine
from tests.datasets.examples import png
from tests.datasets.test_defects import found
from tests.datasets.test_transfers import session_on
from tests.datasets.written import FORMATS, Picture, encoded
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
        assert header.notes == ()


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
        ((code, message, _),) = read_header(painted(kind) + tail).notes
        assert (code, message.split()[0]) == ("image-trailing", str(len(tail))), tail


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
    assert read_header(many).notes == ()
    with pytest.raises(ImageError):
        read_header(png()[:33] + b"\xff\xff\xff\xffIDAT")


DAMAGE: dict[str, tuple[Callable[[bytearray, int, int, random.Random], Any], float]] = {
    "overwritten": (
        lambda data, start, end, draw: place(data, draw.randrange(start, end - 32), draw.randbytes(32)),
        0.6,
    ),
    "zeroed": (lambda data, start, end, draw: place(data, draw.randrange(start, end - 64), bytes(64)), 0.7),
    "cut out": (lambda data, start, end, draw: place(data, draw.randrange(start, end // 2), b"", end // 4), 0.95),
    "cut short": (lambda data, start, end, draw: place(data, draw.randrange(start, end - 9), b"", end), 0.85),
    "no restart": (lambda data, start, end, draw: place(data, restart(data, start), b"", 2), 0.95),
}
"""What happens to a scan, and the share of such files that must be reported at least."""


def place(data: bytearray, at: int, what: bytes, length: int | None = None) -> None:
    data[at : min(at + (len(what) if length is None else length), len(data) - 2)] = what


def restart(data: bytearray, start: int) -> int:
    match = re.search(rb"\xff[\xd0-\xd7]", data[start:])
    assert match
    return start + match.start()


def scan_of(data: bytes) -> int:
    position = 2
    while data[position + 1] != 0xDA:
        position += 2 + int.from_bytes(data[position + 2 : position + 4], "big")
    return position + 2 + int.from_bytes(data[position + 2 : position + 4], "big")


@pytest.mark.parametrize("progressive", [False, True])
@pytest.mark.parametrize("kind", DAMAGE)
def test_damage_that_decoders_paper_over_is_found(kind: str, progressive: bool, tmp_path: Path) -> None:
    damage, share = DAMAGE[kind]
    draw = random.Random(kind)
    sound, damaged = [], []
    for seed in range(30):
        options: dict[str, Any] = {"quality": 50 + seed, "subsampling": seed % 3, "progressive": progressive}
        data = painted("JPEG", seed, (160, 120), restart_marker_blocks=4 if kind == "no restart" else 0, **options)
        sound.append(Picture(data=data))
        broken = bytearray(data)
        damage(broken, scan_of(data), len(data) - 2, draw)
        with suppress(ImageError):
            read_header(bytes(broken))
            damaged.append(Picture(data=bytes(broken)))
    with PictureCheck(None, decode=True) as check:
        assert list(check.findings(write(tmp_path / "sound.jsonl", FORMATS[1], sound))) == []
        found = list(check.findings(write(tmp_path / "damaged.jsonl", FORMATS[1], damaged)))
    assert {finding.code for finding in found} == {"image-truncated"}
    assert len(found) >= share * len(damaged) > 0


def test_sound_jpegs_of_any_kind_are_not_called_damaged(tmp_path: Path) -> None:
    grey, four = (Image.open(io.BytesIO(painted("PNG"))).convert(mode) for mode in ("L", "CMYK"))
    pictures = [Picture(data=painted("JPEG", seed, (1 + seed, 40 - seed), quality=3 * seed + 1)) for seed in range(30)]
    for image in (grey, four):
        stream = io.BytesIO()
        image.save(stream, "JPEG")
        pictures.append(Picture(data=stream.getvalue()))
    plain = painted("JPEG")
    version = plain.index(b"JFIF\0") + 5
    pictures.append(Picture(data=plain[:version] + b"\x03" + plain[version + 1 :]))
    # Some programs write a byte or two too many.
    pictures.append(Picture(data=plain[:-2] + bytes(2) + plain[-2:]))
    with PictureCheck(None, decode=True) as check:
        assert list(check.findings(write(tmp_path / "t.jsonl", FORMATS[1], pictures))) == []


def test_no_process_runs_what_lies_in_the_current_directory(tmp_path: Path) -> None:
    for name in ("runner", "json", "PIL", "struct", "pickle", "simplejpeg"):
        (tmp_path / f"{name}.py").write_text(f"open({name + '.was-run'!r}, 'w')\n")
    images = write(tmp_path / "images.jsonl", FORMATS[1], [Picture(data=painted("JPEG"))])
    decode = "from runner.cli.main import main; main(['data', 'check', 'images.jsonl', '--decode-images'])"
    share = (
        "from pathlib import Path; from runner.datasets.checking.ranges import Settings;"
        "from runner.datasets.checking.workers import totals_of_file;"
        "found = totals_of_file(Path('images.jsonl'), Settings(ratio=0.25, compiled=False), workers=2);"
        "assert found.rows == 1"
    )
    for program in (decode, share):
        done = subprocess.run([sys.executable, "-P", "-c", program], cwd=tmp_path, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
    assert images.exists()
    assert list(tmp_path.glob("*.was-run")) == []


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
        (process,) = check._decoder.running
        process.kill()
        assert list(check.findings(path)) == []


def test_objects_are_looked_at(run: CommandLine, in_project: Provisioned, tmp_path: Path) -> None:  # noqa: F811
    folder = f"gs://{in_project.images}/p"
    with session_on(in_project) as session:
        uploads.upload_bytes(session, painted("JPEG"), f"{folder}/good.jpg")
        uploads.upload_bytes(session, painted("JPEG")[:-30], f"{folder}/cut.jpg")
        uploads.upload_bytes(session, b"GIF89a" + bytes(30), f"{folder}/a.gif")
        uploads.upload_bytes(session, painted("PNG"), f"{folder}/declared.jpg")
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


def test_base64_without_its_prefix_is_named_and_can_be_given_one(tmp_path: Path) -> None:
    for kind in KINDS:
        mime = f"image/{kind.lower()}"
        for seed in range(12):
            text = base64.b64encode(painted(kind, seed, (9 + seed, 30))).decode()
            broken = "\n".join(text[at : at + 76] for at in range(0, len(text), 76))
            for given in (text, text.rstrip("="), broken, f" {text}\n"):
                url = as_data_url(given)
                assert url == f"data:{mime};base64,{text}"
                assert read_header(decode_data_url(url)[1]).mime_type == mime
                findings = list(check_files(write(tmp_path / "t.jsonl", FORMATS[1], [Picture(given)])).findings)
                assert found(findings) == [("image-uri", 1)]
                assert findings[0].message == f"base64 without `data:{mime};base64,` in front"


@pytest.mark.parametrize(
    "given",
    [
        "",
        "images/cat.jpg",
        "/9j/cat",
        "/9j/photos/2024/summer/holidays/near/the/lake/cat.jpg",
        "iVBORw0KGgo.png",
        "UklGR" + "A" * 90,
        "QUJD" * 40,
        "data:image/png;base64,iVBORw0KGgo",
        "gs://bucket/iVBORw0KGgoAAAA",
    ],
)
def test_other_addresses_are_not_called_base64(given: str) -> None:
    assert as_data_url(given) is None


def test_upload_names_base64_as_the_check_does(
    run: CommandLine,  # noqa: F811
    in_project: Provisioned,  # noqa: F811
    tmp_path: Path,
) -> None:
    text = base64.b64encode(painted("PNG")).decode()
    path = write(tmp_path / "t.jsonl", FORMATS[1], [Picture(text), Picture("a\0b.png"), Picture("x" * 5000)])
    for options in ((), ("--images",)):
        outcome = run("data", "upload", str(path), *options, "--format", "json")
        assert outcome.code == 3
    assert [item["message"].rpartition(": ")[2] for item in outcome.error["findings"]] == [
        "no such file",
        "File name too long",
    ]
    write(path, FORMATS[1], [Picture(text)])
    outcome = run("data", "upload", str(path), "--images", "--format", "json")
    assert [item["message"] for item in outcome.error["findings"]] == [
        "base64 without `data:image/png;base64,` in front"
    ]
