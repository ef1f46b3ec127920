"""Upload a checked dataset under names that depend on its content, so that an unchanged file is never sent twice."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from runner.datasets.reading.sources import Source
from runner.datasets.reports.report import Report
from runner.datasets.rewriting.preparing import prepared
from runner.gcp.session import Session
from runner.gcp.storage import digests_of
from runner.gcp.uploads import unchanged, upload_file

CONTENT_TYPE = "application/jsonl"


@dataclass(frozen=True, slots=True, kw_only=True)
class UploadedFile:
    """One file in its bucket."""

    path: Source
    uri: str
    size: int
    sent: bool
    """False if the same content already existed."""

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


def object_name(path: Path, sha256: str) -> str:
    """Return `train-3f2a….jsonl`: the stem, twelve hexadecimal digits of the content's SHA-256, the suffix."""
    return f"{path.stem}-{sha256[:12]}{path.suffix}"


def object_named(path: Path) -> tuple[str, str]:
    """Return the name and the CRC32C of a file's object, from one read of the file."""
    sha256, crc32c = digests_of(path)
    return object_name(path, sha256), crc32c


def upload(
    session: Session,
    report: Report,
    *,
    destination: str | None = None,
    checked: Mapping[Any, str] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> UploadResult:
    """Upload the files of a report without errors, as plain JSON Lines in UTF-8.

    Args:
        session: connection; its environment determines the bucket if `destination` is None.
        report: the report of `check_files`.
        destination: `gs://bucket/prefix/`.
        checked: CRC32C of plain files from before their check; a file that changed since is an error.
        progress: called with the number of uploaded bytes and of all bytes, for one file.

    Raises:
        ConfigurationError: a file has changed since its check.
        DatasetError: the report has errors; nothing was sent.
        GoogleApiError: the service refused.
    """
    report.raise_for_errors()
    folder = (destination or session.environment.datasets_folder).rstrip("/")
    done: list[UploadedFile] = []
    for file in report.files:
        with prepared(file.path) as plain:
            name, crc32c = object_named(plain)
            unchanged(plain, (checked or {}).get(file.path, ""), crc32c)
            uri = f"{folder}/{name}"
            result = upload_file(session, plain, uri, content_type=CONTENT_TYPE, crc32c=crc32c, progress=progress)
        done.append(UploadedFile(path=file.path, uri=uri, size=result.info.size, sent=result.sent))
    return UploadResult(training=done[0], validation=done[1] if len(done) > 1 else None)
