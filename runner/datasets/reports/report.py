"""The results of a check: findings in file order, and the numbers that the estimate and the upload use."""

from __future__ import annotations

import math
import shlex
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from runner.datasets.checking.totals import Found
from runner.datasets.examples import Finding, Format
from runner.datasets.reading.sources import Source
from runner.datasets.records.recognising import Foreign
from runner.datasets.tokens.counters import Sizes
from runner.errors import DatasetError
from runner.wording import counted


@dataclass(slots=True)
class Lengths:
    """Token lengths of examples, as a histogram: exact, and small for any number of examples."""

    counts: Counter[int] = field(default_factory=Counter)

    @property
    def total(self) -> int:
        """Return the sum of all lengths."""
        return sum(length * count for length, count in self.counts.items())

    def percentile(self, share: float) -> int:
        """Return the length that this share of the examples does not exceed (nearest rank); 0 without examples."""
        rank = max(1, math.ceil(share * self.counts.total()))
        passed = 0
        for length in sorted(self.counts):
            passed += self.counts[length]
            if passed >= rank:
                return length
        return 0

    def to_json(self) -> dict[str, Any]:
        """Return sum, extremes and percentiles, in tokens."""
        if not self.counts:
            return {"sum": 0}
        return {
            "sum": self.total,
            "min": min(self.counts),
            "max": max(self.counts),
            "mean": round(self.total / self.counts.total(), 2),
            "median": self.percentile(0.5),
            "p90": self.percentile(0.9),
            "p95": self.percentile(0.95),
            "p99": self.percentile(0.99),
        }


@dataclass(slots=True, kw_only=True)
class FileReport(Found):
    """One file of the dataset."""

    path: Source
    role: Literal["training", "validation"]
    size: int = 0
    """Size in bytes."""
    format: Format | None = None
    lines: int = 0
    """Number of lines that are not blank."""
    examples: int = 0
    """Number of lines without an error."""
    kept: int = 0
    """Number of examples that the service will train on: neither over-length nor filtered as text-only."""
    over_length: int = 0
    text_only_filtered: int = 0
    with_images: int = 0
    characters: int = 0
    """Number of characters in all texts of the kept examples."""
    sizes: Sizes = field(default_factory=Counter)
    """Sizes of the kept and the over-length examples."""
    tokens: Lengths = field(default_factory=Lengths)
    """Number of tokens in the kept examples, including the template."""
    trained_tokens: int = 0
    """Number of trained tokens in the kept examples; 0 if tokens are estimated."""
    images: int = 0
    """Number of images in the kept examples."""
    turns: dict[int, int] = field(default_factory=dict)
    """Maps the number of turns to the number of examples."""
    mendable: bool = False
    """Whether none of its lines is an example, but `runner data fix` can make examples of them."""
    conversion: Foreign | None = None
    """What the file is and what converts it, if it is not JSON Lines in a documented format."""

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
            "images": self.images,
            "tokens": self.tokens.to_json(),
            "trainedTokens": self.trained_tokens,
            "turns": {str(turns): count for turns, count in sorted(self.turns.items())},
            "counts": dict(sorted(self.counts.items())),
            "conversion": self.conversion.to_json() if self.conversion is not None else None,
        }


@dataclass(slots=True, kw_only=True)
class Report:
    """The outcome of `check_files`."""

    training: FileReport
    validation: FileReport | None = None
    findings: list[Finding] = field(default_factory=list)
    """By file and line, with those about whole files last; for each code and file, only the first thousand."""
    model: str | None = None
    mode: str | None = None
    max_sequence_length: int | None = None
    """Maximum number of tokens of one example; None without a model."""
    token_count: str = ""
    """How tokens were counted, in words."""
    tokens_exact: bool = False

    def __repr__(self) -> str:
        names = ", ".join(str(file.path) for file in self.files)
        examples = counted(sum(file.examples for file in self.files), "example")
        found = f"{counted(self.error_count, 'error')}, {counted(self.warning_count, 'warning')}"
        return f"<Report {names}: {examples}, {found}>"

    @property
    def files(self) -> list[FileReport]:
        """Return training and, if given, validation."""
        return [self.training] if self.validation is None else [self.training, self.validation]

    @property
    def errors(self) -> list[Finding]:
        """Return the findings that make the dataset unusable."""
        return [finding for finding in self.findings if finding.severity == "error"]

    @property
    def warnings(self) -> list[Finding]:
        """Return the other findings."""
        return [finding for finding in self.findings if finding.severity == "warning"]

    @property
    def error_count(self) -> int:
        """Return the number of errors, including those that are not in `findings`."""
        return sum(file.error_count for file in self.files)

    @property
    def warning_count(self) -> int:
        """Return the number of warnings, including those that are not in `findings`."""
        return sum(sum(file.counts.values()) for file in self.files) - self.error_count

    def raise_for_errors(self) -> None:
        """Raise DatasetError if there is an error."""
        errors = self.errors
        if errors:
            names = ", ".join(dict.fromkeys(finding.file for finding in errors))
            raise DatasetError(
                f"{counted(self.error_count, 'error')} in {names}",
                findings=[finding.to_json() for finding in errors],
                hint=next(
                    (file.conversion.hint for file in self.files if file.conversion is not None),
                    f"`runner explain {errors[0].code}` explains the first one{self._correction(errors)}",
                ),
            )

    def _correction(self, errors: list[Finding]) -> str:
        """Return the command for mistakes in lines of a file on this machine, or "" if there are none."""
        broken = {finding.file for finding in errors if finding.line}
        for file in self.files:
            path = file.path
            mendable = file.format or file.mendable
            if mendable and isinstance(path, Path) and path.is_file() and broken & {str(path), path.name}:
                command = ["runner", "data", "fix", str(path), "--output", f"{path.stem}-fixed.jsonl"]
                return f"; `{shlex.join(command)}` writes a copy that corrects what it can and leaves out the rest"
        return ""

    def to_json(self) -> dict[str, Any]:
        """Return the stable JSON form."""
        return {
            "ok": not self.errors,
            "errors": self.error_count,
            "warnings": self.warning_count,
            "model": self.model,
            "mode": self.mode,
            "maxSequenceLength": self.max_sequence_length,
            "tokenCount": self.token_count,
            "tokensExact": self.tokens_exact,
            "files": [report.to_json() for report in self.files],
            "findings": [finding.to_json() for finding in self.findings],
        }
