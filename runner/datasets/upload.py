"""Bring a checked dataset into its bucket, under names made of its content: an unchanged file is never sent twice."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from runner.datasets.report import Report
from runner.gcp import storage
from runner.gcp.session import Session


@dataclass(frozen=True, slots=True, kw_only=True)
class UploadedFile:
    """One file in its bucket."""

    path: Path
    uri: str
    size: int
    sent: bool
    """False when the same content was there already."""

    def to_json(self) -> dict[str, Any]:
        """Return the stable JSON form."""
        return {"path": str(self.path), "uri": self.uri, "bytes": self.size, "sent": self.sent}


@dataclass(frozen=True, slots=True, kw_only=True)
class UploadResult:
    """The whole dataset in its bucket."""

    training: UploadedFile
    validation: UploadedFile | None = None

    @property
    def files(self) -> list[UploadedFile]:
        """Return training and, if given, validation."""
        return [self.training] if self.validation is None else [self.training, self.validation]

    def to_json(self) -> dict[str, Any]:
        """Return the stable JSON form."""
        return {
            "training": self.training.to_json(),
            "validation": self.validation.to_json() if self.validation else None,
        }


def object_name(path: Path, prefix: str = "datasets/") -> str:
    """Return `datasets/train-3f2a….jsonl`: the stem, twelve hexadecimal digits of the content's SHA-256, the suffix."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while chunk := stream.read(1 << 20):
            digest.update(chunk)
    return f"{prefix}{path.stem}-{digest.hexdigest()[:12]}{path.suffix}"


def upload(
    session: Session,
    report: Report,
    *,
    destination: str | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> UploadResult:
    """Upload the files of a report without errors.

    Args:
        session: connection; its environment names the bucket when `destination` is None.
        report: what `check_files` returned.
        destination: `gs://bucket/prefix/`.
        progress: called with bytes sent and bytes in all, of one file.

    Raises:
        DatasetError: the report has errors; nothing was sent.
        GoogleApiError: the service refused.
    """
    report.raise_for_errors()
    if destination is None:
        session.environment.require("datasets_bucket")
        destination = f"gs://{session.environment.datasets_bucket}/datasets/"
    done: list[UploadedFile] = []
    for file in report.files:
        uri = destination.rstrip("/") + "/" + object_name(file.path, prefix="")
        sent = not storage.exists(session, uri)
        # upload_file compares checksums itself: an object of that name with other content would be an error,
        # not a skip.
        info = storage.upload_file(session, file.path, uri, progress=progress)
        done.append(UploadedFile(path=file.path, uri=info.uri, size=info.size, sent=sent))
    return UploadResult(training=done[0], validation=done[1] if len(done) > 1 else None)
