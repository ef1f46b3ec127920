"""The data of manifest jobs: the current version and the contents of each file."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from runner import local_files
from runner.catalog import find_model
from runner.catalog.models import TuningMode
from runner.datasets.checks import check_files
from runner.datasets.named import source_of
from runner.datasets.reports.report import FileReport, Report
from runner.datasets.rewriting.preparing import prepared
from runner.datasets.tokens.hub_cache import find_tokenizer
from runner.datasets.upload import CONTENT_TYPE, object_name
from runner.errors import ConfigurationError, RunnerError
from runner.gcp.session import Session
from runner.gcp.storage import digests_of, object_versions, parse_gs_uri
from runner.gcp.uploads import upload_file
from runner.jobs.manifests.records import DataVersion

Source = Path | str


@dataclass(slots=True)
class DataReader:
    """Reads each file and object once, even if many jobs use it."""

    session: Session
    versions: dict[Source, DataVersion] = field(default_factory=dict)
    """Versions of the existing data, without statistics."""
    problems: dict[Source, str] = field(default_factory=dict)
    """Why the other data cannot be used."""
    _reports: dict[tuple[Any, ...], Report] = field(default_factory=dict)

    def look_up(self, sources: Iterable[Source]) -> None:
        """Fill `versions` and `problems`.

        Raises:
            UnreachableError, PermissionDeniedError: objects cannot be looked up.
        """
        remote: list[str] = []
        for source in dict.fromkeys(sources):
            if isinstance(source, Path):
                self._local(source)
                continue
            try:
                parse_gs_uri(source)
                remote.append(source)
            except ConfigurationError as error:
                self.problems[source] = error.message
        for uri, info in object_versions(self.session, remote).items():
            if info is None:
                self.problems[uri] = f"{uri} does not exist"
            else:
                self.versions[uri] = DataVersion(uri=uri, digest=f"crc32c:{info.crc32c}:{info.size}")

    def report(self, train: Source, validation: Source | None, model: str, mode: TuningMode | None) -> Report:
        """Check files for a model, and return their statistics.

        Raises:
            RunnerError: an object cannot be read.
        """
        key = (train, validation, model, mode)
        if key not in self._reports:
            found = find_model(model)
            first = source_of(self.session, train)
            second = None if validation is None else source_of(self.session, validation)
            tokenizer = find_tokenizer(found)
            self._reports[key] = check_files(first, second, model=found, mode=mode, tokenizer=tokenizer, as_stored=True)
        return self._reports[key]

    def version(self, source: Source, file: FileReport, exact: bool) -> DataVersion:
        """Return a file's version with its statistics."""
        return self.versions[source].model_copy(
            update={
                "rows": file.kept,
                "characters": file.characters,
                "tokens": file.tokens.total if exact else None,
                "images": file.images,
            }
        )

    def _local(self, path: Path) -> None:
        try:
            with prepared(path) as plain:
                digest = sha256_of(plain)
                name = object_name(plain, digest)
        except RunnerError as error:
            self.problems[path] = f"{error.message}: {error.hint}" if error.hint else error.message
            return
        except OSError as error:
            self.problems[path] = f"{path}: {local_files.reason(error)}"
            return
        uri = self.session.environment.datasets_folder + name
        self.versions[path] = DataVersion(uri=uri, digest=f"sha256:{digest}")


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file in hexadecimal. Raises OSError."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def errors_of(report: Report) -> list[str]:
    """Return the errors of a report, one per line; repeated errors are counted."""
    shown = [f"{finding.place}: {finding.message}" for finding in report.errors]
    return shown if len(shown) <= 5 else [*shown[:5], f"… and {len(shown) - 5} more: `runner data check`"]


def upload(session: Session, path: Path, version: DataVersion) -> None:
    """Upload a file to its address, unless it is already there.

    Raises:
        ConfigurationError: the file has changed since the plan was made.
        RunnerError: the file cannot be uploaded.
    """
    with prepared(path) as plain:
        sha256, crc32c = digests_of(plain)
        if f"sha256:{sha256}" != version.digest:
            raise ConfigurationError(f"{path} has changed since it was planned", hint="run `runner plan` again")
        upload_file(session, plain, version.uri, content_type=CONTENT_TYPE, crc32c=crc32c)
