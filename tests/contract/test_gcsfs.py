"""Cloud Storage through gcsfs, the file system of pandas and Hugging Face's datasets."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

os.environ["GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT"] = "false"
# Otherwise gcsfs asks for every bucket's layout by gRPC over TLS, which no local server answers.

import gcsfs

from runner.emulator.server import EmulatorServer
from tests.provisioning import Provisioned

_MIB = 1024 * 1024


@pytest.fixture
def files(emulator: EmulatorServer, project: Provisioned) -> Any:
    return gcsfs.GCSFileSystem(
        project=project.project,
        token="anon",
        endpoint_url=emulator.url,
        skip_instance_cache=True,
        use_listings_cache=False,
    )


def test_gcsfs(files: Any, project: Provisioned, tmp_path: Path) -> None:
    root = project.datasets
    files.pipe(f"{root}/a/small", b"small\r\n--==0=\n")
    assert files.cat(f"{root}/a/small") == b"small\r\n--==0=\n"
    data = os.urandom(6 * _MIB)
    with files.open(f"{root}/a/large", "wb") as file:
        file.write(data)
    assert files.cat(f"{root}/a/large", start=3, end=9) == data[3:9]
    with files.open(f"{root}/a/large", "rb") as file:
        file.seek(5 * _MIB)
        assert file.read() == data[5 * _MIB :]
    (tmp_path / "source").write_bytes(data)
    files.put(str(tmp_path / "source"), f"{root}/put")
    files.get(f"{root}/put", str(tmp_path / "target"))
    assert (tmp_path / "target").read_bytes() == data
    assert files.info(f"{root}/put")["size"] == len(data)
    assert files.ls(f"{root}/a") == [f"{root}/a/large", f"{root}/a/small"]
    assert files.find(root) == [f"{root}/a/large", f"{root}/a/small", f"{root}/put"]
    assert files.isdir(f"{root}/a")
    assert not files.exists(f"{root}/none")
    files.cp(f"{root}/a/small", f"{root}/b/small")
    files.mv(f"{root}/b/small", f"{root}/c/small")
    files.rm(f"{root}/a", recursive=True)
    assert files.find(root) == [f"{root}/c/small", f"{root}/put"]
    abandoned = files.open(f"{root}/never", "wb")
    abandoned.write(data)
    abandoned.discard()
    assert not files.exists(f"{root}/never")
    files.mkdir(f"{project.project}-made")
    assert f"{project.project}-made/" in files.ls("")
    files.rmdir(f"{project.project}-made")
