"""A disk that fills under a running emulator: an error, nothing half stored, and all goes on once there is room."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from runner.emulator.storage.blobs import BlobWriter
from tests.emulator.storage.test_crash import Process, wait_until
from tests.provisioning import provision

MIB = 1 << 20


@contextmanager
def small_disk(place: Path, size: int) -> Iterator[Path]:
    place.mkdir()
    mounting = ["mount", "-t", "tmpfs", "-o", f"size={size}", "none", str(place)]
    if not shutil.which("mount") or subprocess.run(mounting, capture_output=True, check=False).returncode:
        pytest.skip("nothing can be mounted here")
    try:
        yield place
    finally:
        subprocess.run(["umount", "-l", str(place)], check=True)


def _grow(place: Path, size: int) -> None:
    subprocess.run(["mount", "-o", f"remount,size={size}", str(place)], check=True)


def _refused(answer: httpx.Response) -> None:
    assert answer.status_code == 507, answer.text
    error = answer.json()["error"]
    assert (error["code"], error["errors"][0]["reason"]) == (507, "insufficientStorage")
    assert "Free space on that disk" in error["message"]


def test_uploads_that_do_not_fit(tmp_path: Path) -> None:
    with small_disk(tmp_path / "state", 3 * MIB) as place:
        process = Process(tmp_path)
        try:
            bucket = process.bucket("full")
            blobs = place / "blobs"
            stored: dict[str, bytes] = {}
            for size in (300_000, 30_000):  # in files, then in the database
                while True:
                    name, data = f"{size}-{len(stored)}", os.urandom(size)
                    answer = bucket.put(name, data)
                    if answer.status_code != 200:
                        break
                    stored[name] = data
                _refused(answer)
            files = sum(len(data) == 300_000 for data in stored.values())
            assert len(list(blobs.iterdir())) == files
            deleted = process.client.delete(bucket.object_path("300000-0"))
            if deleted.status_code == 204:  # what it writes fitted into the database's log
                del stored["300000-0"]
            else:
                _refused(deleted)
            assert bucket.names(maxResults=1000) == sorted(stored)
            assert all(bucket.data(name).content == data for name, data in stored.items())

            _grow(place, 5 * MIB)
            data = os.urandom(4 * MIB)
            address = bucket.start("resumed")
            part = {"content-range": f"bytes 0-{MIB - 1}/{len(data)}"}
            assert process.client.put(address, content=data[:MIB], headers=part).status_code == 308
            rest = {"content-range": f"bytes {MIB}-{len(data) - 1}/{len(data)}"}
            _refused(process.client.put(address, content=data[MIB:], headers=rest))
            _grow(place, 20 * MIB)
            asked = process.client.put(address, headers={"content-range": f"bytes */{len(data)}"})
            begin = int(asked.headers["range"].split("-")[1]) + 1
            assert MIB <= begin < len(data)
            rest = {"content-range": f"bytes {begin}-{len(data) - 1}/{len(data)}"}
            assert process.client.put(address, content=data[begin:], headers=rest).status_code == 200
            stored["resumed"] = data
            process.kill()
            process.start()
            bucket = process.bucket("full")
            assert bucket.names(maxResults=1000) == sorted(stored)
            assert all(bucket.data(name).content == data for name, data in stored.items())
            assert len(list(blobs.iterdir())) == files + 1, "a deleted object can be restored for a week"
        finally:
            process.kill()


def test_a_job_on_a_full_disk_fails_with_the_reason(tmp_path: Path) -> None:
    with small_disk(tmp_path / "state", 4 * MIB) as place:
        process = Process(tmp_path)
        try:
            project = provision(process.url, "full")
            row = b'{"prompt": "What?", "completion": "That."}\n'
            upload = f"/upload/storage/v1/b/{project.datasets}/o?uploadType=media&name=train.jsonl"
            process.client.post(upload, content=row * 12).raise_for_status()
            process.client.post("/_emulator/faults", json={"faults": ["job:capacity-wait=1"]}).raise_for_status()
            tuning = {"trainingDatasetUri": f"gs://{project.datasets}/train.jsonl", "tuningMode": "TUNING_MODE_FULL"}
            body = {
                "baseModel": "meta/llama3_1@llama-3.1-8b-instruct",
                "supervisedTuningSpec": tuning,
                "outputUri": f"gs://{project.outputs}/out",
            }
            created = process.client.post(f"/v1beta1/{project.parent}/tuningJobs", json=body)
            name = created.raise_for_status().json()["name"]
            with (place / "ballast").open("wb", buffering=0) as file, contextlib.suppress(OSError):
                while True:
                    file.write(bytes(512))
            wait_until(lambda: "the end of a job waits" in process.log.read_text())
            assert process.client.get(f"/v1beta1/{name}").json()["state"] in ("JOB_STATE_PENDING", "JOB_STATE_RUNNING")
            (place / "ballast").unlink()
            wait_until(lambda: "error" in process.client.get(f"/v1beta1/{name}").json())
            job = process.client.get(f"/v1beta1/{name}").json()
            assert job["state"] == "JOB_STATE_FAILED"
            assert f"The emulator cannot write below {place}" in job["error"]["message"]
        finally:
            process.kill()


def test_what_a_failed_write_left_in_a_buffer_is_discarded(tmp_path: Path) -> None:
    """Closing the file fails as well, since it writes the rest of the buffer first."""
    with small_disk(tmp_path / "state", MIB + 4096) as place:
        writer = BlobWriter(place)
        writer.write_now(bytes(MIB))
        writer.write_now(bytes(5000))
        with pytest.raises(OSError, match=os.strerror(errno.ENOSPC)):
            writer.finish_file()
        writer.discard()
        assert list(place.iterdir()) == []
