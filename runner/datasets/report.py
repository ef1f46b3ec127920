"""What a check found: findings in file order, and the numbers that the estimate and the upload go on with."""

from __future__ import annotations

import statistics
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from runner.datasets.examples import Finding, Format
from runner.errors import DatasetError


@dataclass(slots=True)
class Lengths:
    """Token lengths of examples. Two bytes would do; a list of integers keeps 320 MB for ten million examples."""

    values: list[int] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        """Return sum, extremes and percentiles, in tokens."""
        if not self.values:
            return {"sum": 0}
        ordered = sorted(self.values)
        return {
            "sum": sum(ordered),
            "min": ordered[0],
            "max": ordered[-1],
            "mean": round(statistics.fmean(ordered), 2),
            "median": statistics.median(ordered),
            "p95": ordered[min(len(ordered) - 1, round(0.95 * len(ordered)))],
        }


@dataclass(slots=True, kw_only=True)
class FileReport:
    """One file of the dataset."""

    path: Path
    role: Literal["training", "validation"]
    size: int = 0
    """Bytes."""
    format: Format | None = None
    lines: int = 0
    """Lines that are not blank."""
    examples: int = 0
    """Lines without an error."""
    kept: int = 0
    """Examples that the service will train on: neither over-length nor filtered as text-only."""
    over_length: int = 0
    text_only_filtered: int = 0
    with_images: int = 0
    characters: int = 0
    """Characters of all texts of the kept examples."""
    tokens: Lengths = field(default_factory=Lengths)
    """Tokens of the kept examples, template included."""

    def to_json(self) -> dict[str, Any]:
        """Return the stable JSON form."""
        return {
            "path": str(self.path),
            "role": self.role,
            "bytes": self.size,
            "format": self.format,
            "lines": self.lines,
            "examples": self.examples,
            "kept": self.kept,
            "overLength": self.over_length,
            "textOnlyFiltered": self.text_only_filtered,
            "withImages": self.with_images,
            "characters": self.characters,
            "tokens": self.tokens.to_json(),
        }


@dataclass(slots=True, kw_only=True)
class Report:
    """The outcome of `check_files`."""

    training: FileReport
    validation: FileReport | None = None
    findings: list[Finding] = field(default_factory=list)
    model: str | None = None
    mode: str | None = None
    max_sequence_length: int | None = None
    """Tokens; None without a model."""
    token_count: str = ""
    """How tokens were counted, in words."""
    tokens_exact: bool = False

    @property
    def files(self) -> list[FileReport]:
        """Return training and, if given, validation."""
        return [self.training] if self.validation is None else [self.training, self.validation]

    @property
    def errors(self) -> list[Finding]:
        """Return the findings that keep the dataset from being used."""
        return [finding for finding in self.findings if finding.severity == "error"]

    @property
    def warnings(self) -> list[Finding]:
        """Return the other findings."""
        return [finding for finding in self.findings if finding.severity == "warning"]

    def raise_for_errors(self) -> None:
        """Raise DatasetError when there is an error."""
        errors = self.errors
        if errors:
            names = ", ".join(dict.fromkeys(finding.file for finding in errors))
            raise DatasetError(
                f"{len(errors)} error{'s' if len(errors) != 1 else ''} in {names}",
                findings=[finding.to_json() for finding in errors],
                hint="each is explained in docs/dataset-format.md",
            )

    def to_json(self) -> dict[str, Any]:
        """Return the stable JSON form."""
        return {
            "ok": not self.errors,
            "errors": len(self.errors),
            "warnings": len(self.warnings),
            "model": self.model,
            "mode": self.mode,
            "maxSequenceLength": self.max_sequence_length,
            "tokenCount": self.token_count,
            "tokensExact": self.tokens_exact,
            "files": [report.to_json() for report in self.files],
            "findings": [finding.to_json() for finding in self.findings],
        }
