"""Command lines of the sweep that send or fetch files."""

from __future__ import annotations

import time
from pathlib import Path
from typing import ClassVar

from runner.gcp import uploads
from tests.breaking.flows.flow import DATA, Flow
from tests.breaking.world import Ended
from tests.projects import train_small


class Upload(Flow):
    """`data upload`."""

    name = "upload"
    data: ClassVar[bytes] = DATA

    def prepare(self) -> None:
        """Write the dataset."""
        (self.place.folder / "train.jsonl").write_bytes(self.data)

    def command(self) -> list[str]:
        """Upload it."""
        return ["data", "upload", str(self.place.folder / "train.jsonl"), "--format", "json"]

    def _stored(self) -> list[bytes]:
        http, bucket = self.place.direct.http, self.place.environment.datasets_bucket
        listed = http.get(f"{self.place.environment.storage_base}/storage/v1/b/{bucket}/o").json()
        return [http.get(item["mediaLink"]).content for item in listed.get("items", [])]

    def after(self, ended: Ended) -> list[str]:
        """Success means that it is there."""
        found = self._stored()
        wrong = [f"{len(found)} objects"] if len(found) > 1 else []
        return wrong + (["success without the object"] if ended.code == 0 and self.data not in found else [])

    def finally_(self, ended: Ended) -> list[str]:
        """It is there, once."""
        return [] if self._stored() == [self.data] else ["the object is not there once"]


class UploadInPieces(Upload):
    """`data upload` of a file that goes up in several pieces."""

    name = "upload in pieces"
    data = DATA * 1500

    def prepare(self) -> None:
        """Write the dataset; pieces are the smallest that the protocol allows."""
        super().prepare()
        self.place.values += [(uploads, "SMALL_BYTES", 256 << 10), (uploads, "UNASKED_BYTES", 1 << 10)]


class Download(Flow):
    """`checkpoints download` of a job that was really trained."""

    name = "download"

    def prepare(self) -> None:
        """Train a job, once for all."""
        shared = self.place.world.shared
        if "tuned" not in shared:
            server = self.place.world.server
            shared["tuned"] = train_small(server, self.place.folder / "trained", f"sweep-trained-{time.time_ns()}")
        self.tuned = shared["tuned"]
        self.place.environment = self.tuned.environment
        if "files" not in shared:
            done = self.place.run([*self.command()[:-3], str(self.place.folder / "truth")], broken=False)
            assert done.code == 0, done.told
            shared["files"] = self._files(self.place.folder / "truth")
            assert shared["files"]

    def command(self) -> list[str]:
        """Download its final weights."""
        to = str(self.place.folder / "weights")
        return ["checkpoints", "download", self.tuned.job.id, "--to", to, "--format", "json"]

    @staticmethod
    def _files(folder: Path) -> dict[str, bytes]:
        return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}

    def after(self, ended: Ended) -> list[str]:
        """No file is half or wrong; success means that all are there."""
        found, truth = self._files(self.place.folder / "weights"), self.place.world.shared["files"]
        wrong = [f"{name} is wrong" for name, content in found.items() if truth.get(name) != content]
        return wrong + (["success without all files"] if ended.code == 0 and found != truth else [])

    def finally_(self, ended: Ended) -> list[str]:
        """All are there."""
        return self.after(ended)
