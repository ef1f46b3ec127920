"""Bring a checked dataset into its bucket, under names made of its content: an unchanged file is never sent twice."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from runner.datasets.report import Report
from runner.datasets.sources import is_plain
from runner.errors import ConfigurationError
from runner.gcp.bulk_uploads import Item, upload_one
from runner.gcp.object_http import ObjectClient
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
    with ObjectClient(session) as client:
        for file in report.files:
            if not isinstance(file.path, Path) or not is_plain(file.path):
                message = f"{file.path} cannot be uploaded: the service takes plain files"
                raise ConfigurationError(message, problems=[message], hint="decompress it first")
            uri = destination.rstrip("/") + "/" + object_name(file.path, prefix="")
            item = Item(path=file.path, uri=uri, content_type="application/jsonl")
            result = upload_one(client, item, progress=progress)
            done.append(UploadedFile(path=file.path, uri=uri, size=result.info.size, sent=result.sent))
    return UploadResult(training=done[0], validation=done[1] if len(done) > 1 else None)
