"""Check a dataset and report all errors, with one pass over each file."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from runner.catalog import Model
from runner.catalog.models import TuningMode
from runner.datasets.checking.columns import Column
from runner.datasets.checking.ranges import Engine, RangeChecker, Settings
from runner.datasets.checking.repeats import Repeated, repeats, repeats_of
from runner.datasets.checking.totals import LINES_NAMED, Tally, Totals
from runner.datasets.checking.workers import totals_of_file
from runner.datasets.examples import Finding, Severity
from runner.datasets.reading.opening import OpenedDataset, open_dataset
from runner.datasets.reading.sources import COMPRESSED, STDIN, RemoteObject, Source, missing, name_of
from runner.datasets.records.recognising import is_mendable, recognise
from runner.datasets.reports.report import FileReport, Lengths, Report
from runner.datasets.tokens.counters import TokenCounter, open_counter, ratio_of, token_lengths
from runner.errors import ConfigurationError, DatasetError
from runner.wording import counted

MAX_VALIDATION_SHARE = 0.25
"""Maximum size of the validation file relative to the training file, in bytes, that the service accepts."""
MAX_VALIDATION_ROWS = 5000


def limit_problems(model: Model | None, mode: TuningMode | None) -> list[str]:
    """Return an error if the model does not support the mode."""
    if model is None or mode is None or mode in model.modes:
        return []
    return [f"{model.id} does not offer {mode}: only {', '.join(model.modes)}"]


def check_files(
    training: Source,
    validation: Source | None = None,
    *,
    model: Model | None = None,
    mode: TuningMode | None = None,
    tokenizer: Path | None = None,
    progress: Callable[[str, int], None] | None = None,
    workers: int | None = None,
    near_duplicates: bool = False,
    engine: Engine | None = None,
    look_closer: Callable[[Source], Iterable[Finding]] | None = None,
    as_stored: bool = False,
) -> Report:
    """Check a training file and, if given, its validation file.

    Args:
        training: file, object in a bucket, or `-` for standard input; see `open_dataset` for supported formats.
        validation: the same.
        model: base model, for its limits; without it, only the rules for all models are checked.
        mode: tuning mode; the default is the model's first.
        tokenizer: Hugging Face folder for counting tokens; without it, they are estimated.
        progress: called repeatedly with the name of the file and the number of bytes that were read.
        workers: number of processes for a large file; the default is one per core.
        near_duplicates: also find examples that differ only in case, white space and punctuation; takes longer.
        engine: reads the files instead of this machine's processes, with the same results.
        look_closer: returns additional findings of a file, for example about its images.
        as_stored: objects in buckets are used by the service unchanged, so they must be plain JSON Lines in UTF-8.

    Raises:
        ConfigurationError: a file does not exist, or the model does not support the mode.
    """
    given = [source for source in (training, validation) if source is not None]
    problems = [problem for source in given if (problem := missing(source))]
    problems += limit_problems(model, mode)
    if problems:
        raise ConfigurationError("; ".join(problems), problems=problems)
    if model is not None and mode is None:
        mode = next(iter(model.modes))
    limit = model.modes[mode].max_sequence_length if model is not None and mode is not None else None
    settings = Settings(
        images=model is None or model.images,
        limit=limit,
        ratio=ratio_of(model, mode),
        tokenizer=tokenizer,
        near=near_duplicates,
    )
    counter = open_counter(settings.ratio, tokenizer)
    check = Check(settings, counter, progress, workers, engine, look_closer, as_stored)
    report = Report(
        training=check.file(training, "training"),
        model=model.id if model else None,
        mode=mode,
        max_sequence_length=limit,
        token_count=counter.describe(),
        tokens_exact=counter.exact,
    )
    if validation is not None:
        report.validation = check.file(validation, "validation")
        check.compare(report.training, report.validation)
    report.findings = check.findings()
    return report


@dataclass(slots=True)
class Check:
    """Checks the files of one dataset."""

    settings: Settings
    counter: TokenCounter
    progress: Callable[[str, int], None] | None
    workers: int | None
    engine: Engine | None
    look_closer: Callable[[Source], Iterable[Finding]] | None
    as_stored: bool
    files: list[FileReport] = field(default_factory=list)
    training_wholes: Column = field(default_factory=Column)

    def add(
        self, report: FileReport, code: str, severity: Severity, message: str, fix: str = "", *, line: int = 0
    ) -> None:
        """Count a finding of a file, and store it if there is space."""
        name = report.path.name
        report.find(Finding(code=code, severity=severity, file=name, line=line, message=message, fix=fix))

    def findings(self) -> list[Finding]:
        """Return all findings: by file and line, with those about whole files last."""
        return [
            finding
            for report in self.files
            for finding in sorted(report.findings, key=lambda finding: finding.line or sys.maxsize)
        ]

    def file(self, path: Source, role: Literal["training", "validation"]) -> FileReport:
        """Check one file."""
        size = path.size if isinstance(path, RemoteObject) else 0 if path == STDIN else path.stat().st_size
        report = FileReport(path=path, role=role, size=size)
        self.files.append(report)
        try:
            with open_dataset(path) as opened:
                report.conversion = recognise(opened)
                if report.conversion is not None:
                    report.find(report.conversion.finding())
                    return report
                self._opened(opened, report)
                totals = self._totals(opened, report)
                report.mendable = not totals.formats and is_mendable(opened)
        except DatasetError as error:
            self._unreadable(error, report)
            return report
        report.findings += totals.findings
        report.counts.update(totals.counts)
        report.error_count += totals.error_count
        report.lines, report.examples = totals.rows, totals.examples
        if report.lines == 0 and not report.error_count:
            self.add(report, "empty-file", "error", "the file holds no example")
        if self.look_closer is not None:
            for finding in self.look_closer(path):
                report.find(finding)
        self._formats(totals, report)
        self._repeats(totals, report)
        self._count(totals, report)
        return report

    def _unreadable(self, error: DatasetError, report: FileReport) -> None:
        """Report why a file cannot be read completely."""
        for found in error.findings or [{"code": "not-text", "severity": "error", "message": error.message}]:
            report.find(Finding(**{"file": report.path.name, "line": 0, **found}))

    def _opened(self, opened: OpenedDataset, report: FileReport) -> None:
        """Report how the file is read."""
        path = report.path
        if path != STDIN and path.suffix != ".jsonl":
            fix = "decompress it before it is uploaded" if opened.compression else "rename it"
            self.add(report, "file-extension", "warning", "the service expects the extension .jsonl", fix)
        # Lines that are not UTF-8 and were not decoded are reported.
        notes = list(opened.notes) if opened.compression or opened.encoding not in {"utf-8", "utf-8-sig"} else []
        if opened.compression and path != STDIN and path.suffix not in COMPRESSED:
            notes.append(f"compressed ({opened.compression}) (not as its name says)")
        for note in notes:
            self.add(report, "decoded", "warning", note, "uploads are plain JSON Lines in UTF-8")
        if self.as_stored and isinstance(path, RemoteObject) and (opened.compression or opened.encoding != "utf-8"):
            what = f"compressed ({opened.compression})" if opened.compression else f"encoded as {opened.encoding}"
            message = f"the object is {what}, and the service reads objects as they are"
            command = f"runner data upload {path}"
            self.add(report, "object-not-plain", "error", message, f"upload a plain copy: {command}")

    def _totals(self, opened: OpenedDataset, report: FileReport) -> Totals:
        path = opened.source
        settings = replace(self.settings, name=name_of(path))
        done = 0

        def progress(count: int) -> None:
            nonlocal done
            done += count
            if self.progress is not None:
                self.progress(path.name, done)

        if self.engine is not None:
            return self.engine.totals(path, settings)
        if isinstance(path, Path) and opened.is_plain:
            return totals_of_file(path, settings, workers=self.workers, progress=progress)
        reader = RangeChecker(settings, counter=self.counter)
        try:
            reader.read(opened.lines(), progress=progress)
        except DatasetError as error:
            self._unreadable(error, report)
        report.size = done
        return reader.totals

    def _formats(self, totals: Totals, report: FileReport) -> None:
        report.format = next(iter(totals.formats), None)
        if len(totals.formats) > 1:
            places = ", ".join(f"{kind} from line {line}" for kind, line in totals.formats.items())
            self.add(report, "mixed-formats", "error", f"the file mixes formats: {places}", "one format a file")

    def _repeats(self, totals: Totals, report: FileReport) -> None:
        found = repeats_of(totals) if self.engine is None else self.engine.repeats()
        self._tell(report, "duplicate-example", found.same, "the same example as line {}")
        self._tell(report, "near-duplicate", found.near, "line {} differs only in case, white space or punctuation")
        self._tell(report, "conflicting-answers", found.conflicting, "the same prompt as line {} with another answer")
        if report.role == "training":
            self.training_wholes = totals.wholes
            return
        known = "the training file has this example too (line {}): the validation loss will flatter"
        leaked = (
            Repeated.of(repeats(totals.wholes, self.training_wholes)) if self.engine is None else self.engine.leakage()
        )
        self._tell(report, "leakage", leaked, known)

    def _tell(self, report: FileReport, code: str, repeated: Repeated, message: str) -> None:
        """Add a warning for each duplicate line, with the number of the other line."""
        for line, first in repeated.pairs:
            self.add(report, code, "warning", message.format(first), line=line)
        if repeated.count > len(repeated.pairs):
            report.counts[code] += repeated.count - len(repeated.pairs)

    def _count(self, totals: Totals, report: FileReport) -> None:
        text_only, with_images = totals.text_only, totals.with_images
        report.with_images = with_images.examples
        if with_images.examples and text_only.examples:
            report.text_only_filtered = text_only.examples
            self.add(
                report,
                "text-only-filtered",
                "warning",
                f"{counted(with_images.examples, 'example')} {'has' if with_images.examples == 1 else 'have'} images,"
                f" so the service drops the {counted(text_only.examples, 'text-only one')}"
                f" ({_some(text_only.first_lines, text_only.examples)})",
                "tune them in a job of their own",
            )
        used = with_images if with_images.examples else text_only
        self._lengths(used, report)
        ratio, limit = None if self.counter.exact else self.settings.ratio, self.settings.limit
        report.sizes, report.tokens = used.sizes, Lengths(token_lengths(used.sizes, ratio, limit))
        report.kept = used.kept
        report.over_length = used.over_length
        report.characters = used.characters
        report.images = used.images
        report.trained_tokens = used.trained
        report.turns = dict(used.turns)
        if used.examples and not used.kept:
            self.add(report, "nothing-left", "error", "every example is over-length: nothing is left to train on")

    def _lengths(self, tally: Tally, report: FileReport) -> None:
        about = "" if self.counter.exact else "about "
        for line, tokens in tally.longest:
            self.add(
                report,
                "over-length",
                "warning",
                f"{about}{tokens} tokens, {self.settings.limit} allowed: the service drops the example",
                "shorten or split it",
                line=line,
            )
        if tally.over_length > len(tally.longest):
            report.counts["over-length"] = tally.over_length
        too_long = {line for line, _ in tally.longest}
        for line in tally.untrained:
            if line in too_long:
                message = (
                    f"{about}all {self.settings.limit} tokens allowed go to the prompt: none of the answer is left"
                )
                fix = "shorten the prompt: a shorter answer does not help"
            else:
                message, fix = "the answer has no token that is trained: nothing is learned from it", "look at its text"
            self.add(report, "answer-untrained", "warning", message, fix, line=line)

    def compare(self, training: FileReport, validation: FileReport) -> None:
        """Check the service's requirement for the two sizes."""
        if training.size and validation.size > MAX_VALIDATION_SHARE * training.size:
            share = validation.size / training.size
            self.add(
                validation,
                "validation-too-large",
                "error",
                f"{share:.1%} of the training file's bytes; the service takes at most 25%",
                "10% is a good share; `runner data split` holds out so much of one file",
            )
        if validation.lines > MAX_VALIDATION_ROWS:
            message = f"{validation.lines} rows; the service takes at most {MAX_VALIDATION_ROWS}"
            self.add(validation, "validation-too-large", "error", message, "`runner data split` holds out a sample")
        if training.format and validation.format and training.format != validation.format:
            message = f"written as {validation.format}, the training file as {training.format}"
            self.add(validation, "mixed-formats", "error", message, "one format for both files")


def _some(lines: list[int], count: int) -> str:
    shown = f"{'line' if count == 1 else 'lines'} {', '.join(map(str, lines[:LINES_NAMED]))}"
    return f"{shown} and {count - LINES_NAMED} more" if count > LINES_NAMED else shown
