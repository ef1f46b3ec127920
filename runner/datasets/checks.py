"""Everything wrong with a dataset, in one pass over each file."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from runner.catalog import Model
from runner.catalog.models import TuningMode
from runner.datasets.examples import Example, Finding, Format, Severity
from runner.datasets.json_lines import sniff_container
from runner.datasets.parsing import read_file
from runner.datasets.report import FileReport, Report
from runner.datasets.tokens import TokenCounter, characters, counter_for
from runner.errors import ConfigurationError

MAX_VALIDATION_SHARE = 0.25
"""Of the training file, in bytes: the service refuses more."""
MAX_VALIDATION_ROWS = 5000
_SHOWN_LINES = 10

_SPECIAL_TOKEN = re.compile(
    r"<\|(?:im_start|im_end|endoftext|eot_id|eot|eom_id|begin_of_text|end_of_text|start_header_id|end_header_id"
    r"|header_start|header_end|image|patch)\|>|<(?:start|end)_of_turn>|<bos>|<eos>"
)
_SECRETS = {
    "a private key": re.compile(r"-----BEGIN (?:[A-Z]+ )?PRIVATE KEY-----"),
    "an access key": re.compile(r"\b(?:AKIA|ASIA)[0-9A-Z]{16}\b"),
    "an API key": re.compile(r"\bAIza[0-9A-Za-z_\-]{35}\b|\bsk-[A-Za-z0-9_\-]{32,}\b|\bhf_[A-Za-z0-9]{30,}\b"),
    "an access token": re.compile(r"\bgh[pousr]_[A-Za-z0-9]{36,}\b|\bxox[abprs]-[A-Za-z0-9-]{10,}\b"),
    "an e-mail address": re.compile(r"\b[A-Za-z0-9._%+-]{1,64}@[A-Za-z0-9-]+(?:\.[A-Za-z0-9-]+)*\.[A-Za-z]{2,10}\b"),
}


def check_files(
    training: Path,
    validation: Path | None = None,
    *,
    model: Model | None = None,
    mode: TuningMode | None = None,
    tokenizer: Path | None = None,
    progress: Callable[[str, int], None] | None = None,
) -> Report:
    """Check a training file and, if given, its validation file.

    Args:
        training: JSONL file.
        validation: JSONL file.
        model: base model, for its limits; without it only what holds for all models is checked.
        mode: tuning mode; without it the model's first.
        tokenizer: Hugging Face folder to count tokens with; without it they are estimated.
        progress: called now and then with the name of the file and the lines read.

    Raises:
        ConfigurationError: a file is not there, or the model does not offer the mode.
    """
    problems = [f"{path}: no such file" for path in (training, validation) if path is not None and not path.is_file()]
    if model is not None and mode is not None and mode not in model.modes:
        problems.append(f"{model.id} does not offer {mode}: only {', '.join(model.modes)}")
    if problems:
        raise ConfigurationError("; ".join(problems), problems=problems)
    if model is not None and mode is None:
        mode = next(iter(model.modes))
    limit = model.modes[mode].max_sequence_length if model is not None and mode is not None else None
    counter = counter_for(model, mode, tokenizer)
    check = _Check(model=model, limit=limit, counter=counter, progress=progress)
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
    report.findings = check.findings
    return report


@dataclass(slots=True, kw_only=True)
class _Row:
    """What is remembered of an example until the end of its file."""

    line: int
    characters: int
    tokens: int
    images: bool


@dataclass(slots=True, kw_only=True)
class _Check:
    model: Model | None
    limit: int | None
    counter: TokenCounter
    progress: Callable[[str, int], None] | None
    findings: list[Finding] = field(default_factory=list)
    training_examples: dict[bytes, int] = field(default_factory=dict)
    """Digest of each training example to its line."""

    def add(
        self, code: str, severity: Severity, file: str, message: str, fix: str = "", *, line: int = 0, path: str = ""
    ) -> None:
        self.findings.append(
            Finding(code=code, severity=severity, file=file, line=line, path=path, message=message, fix=fix)
        )

    def file(self, path: Path, role: str) -> FileReport:
        report = FileReport(
            path=path, role="training" if role == "training" else "validation", size=path.stat().st_size
        )
        name = path.name
        if path.suffix != ".jsonl":
            self.add("file-extension", "warning", name, "the service expects the extension .jsonl", "rename it")
        container = sniff_container(path)
        if container is not None:
            self.add("not-text", "error", name, f"the file is {container}, not JSON Lines in UTF-8", "convert it")
            return report
        rows = self._rows(path, report)
        if report.lines == 0:
            self.add("empty-file", "error", name, "the file holds no example")
        self._count(rows, report, name)
        return report

    def _rows(self, path: Path, report: FileReport) -> list[_Row]:
        rows: list[_Row] = []
        formats: dict[Format, int] = {}
        seen: dict[bytes, int] = {}
        prompts: dict[bytes, int] = {}
        images = self.model is None or self.model.images
        for parsed in read_file(path, images=images):
            report.lines += 1
            self.findings.extend(parsed.findings)
            if self.progress is not None and report.lines % 1000 == 0:
                self.progress(path.name, report.lines)
            example = parsed.example
            if example is None:
                continue
            report.examples += 1
            formats.setdefault(example.format, parsed.line)
            self._content(example, path.name)
            self._repeats(example, path.name, seen, prompts, report.role)
            rows.append(
                _Row(
                    line=example.line,
                    characters=characters(example),
                    tokens=self.counter.count(example),
                    images=bool(example.images),
                )
            )
        report.format = next(iter(formats), None)
        if len(formats) > 1:
            places = ", ".join(f"{kind} from line {line}" for kind, line in formats.items())
            self.add("mixed-formats", "error", path.name, f"the file mixes formats: {places}", "one format a file")
        return rows

    def _content(self, example: Example, name: str) -> None:
        for message in example.messages:
            text = message.text
            if match := _SPECIAL_TOKEN.search(text):
                self.add(
                    "special-token",
                    "warning",
                    name,
                    f"a {message.role} turn holds the control token {match[0]!r} as text",
                    "the chat template adds its own; remove it",
                    line=example.line,
                )
            for what, pattern in _SECRETS.items():
                if ("@" in text or what != "an e-mail address") and pattern.search(text):
                    code = "personal-data" if what == "an e-mail address" else "secret"
                    fix = "a tuned model can repeat it; remove it"
                    self.add(code, "warning", name, f"a {message.role} turn holds {what}", fix, line=example.line)

    def _repeats(
        self, example: Example, name: str, seen: dict[bytes, int], prompts: dict[bytes, int], role: str
    ) -> None:
        whole = _digest(example, len(example.messages))
        prompt = _digest(example, len(example.messages) - 1)
        if (first := seen.setdefault(whole, example.line)) != example.line:
            self.add("duplicate-example", "warning", name, f"the same example as line {first}", line=example.line)
        elif (first := prompts.setdefault(prompt, example.line)) != example.line:
            message = f"the same prompt as line {first} with another answer"
            self.add("conflicting-answers", "warning", name, message, line=example.line)
        if role == "training":
            self.training_examples.setdefault(whole, example.line)
        elif (line := self.training_examples.get(whole)) is not None:
            message = f"the training file has this example too (line {line}): the validation loss will flatter"
            self.add("leakage", "warning", name, message, line=example.line)

    def _count(self, rows: list[_Row], report: FileReport, name: str) -> None:
        report.with_images = sum(row.images for row in rows)
        if 0 < report.with_images < len(rows):
            dropped = [row.line for row in rows if not row.images]
            report.text_only_filtered = len(dropped)
            self.add(
                "text-only-filtered",
                "warning",
                name,
                f"{report.with_images} examples have images, so the service drops the {len(dropped)} text-only ones"
                f" (lines {_some(dropped)})",
                "tune them in a job of their own",
            )
            rows = [row for row in rows if row.images]
        for row in rows:
            if self.limit is not None and row.tokens > self.limit:
                report.over_length += 1
                about = "" if self.counter.exact else "about "
                self.add(
                    "over-length",
                    "warning",
                    name,
                    f"{about}{row.tokens} tokens, {self.limit} allowed: the service drops the example",
                    "shorten or split it",
                    line=row.line,
                )
                continue
            report.kept += 1
            report.characters += row.characters
            report.tokens.values.append(row.tokens)
        if rows and not report.kept:
            self.add("nothing-left", "error", name, "every example is over-length: nothing is left to train on")

    def compare(self, training: FileReport, validation: FileReport) -> None:
        """Check what the service demands of the two sizes."""
        name = validation.path.name
        if training.size and validation.size > MAX_VALIDATION_SHARE * training.size:
            share = validation.size / training.size
            self.add(
                "validation-too-large",
                "error",
                name,
                f"{share:.1%} of the training file's bytes; the service takes at most 25 %",
                "10 % is a good share",
            )
        if validation.lines > MAX_VALIDATION_ROWS:
            message = f"{validation.lines} rows; the service takes at most {MAX_VALIDATION_ROWS}"
            self.add("validation-too-large", "error", name, message, "take a sample")
        if training.format and validation.format and training.format != validation.format:
            message = f"written as {validation.format}, the training file as {training.format}"
            self.add("mixed-formats", "error", name, message, "one format for both files")


def _digest(example: Example, turns: int) -> bytes:
    digest = hashlib.blake2b(digest_size=8)
    for message in example.messages[:turns]:
        digest.update(message.role.encode())
        for part in message.parts:
            digest.update(repr(part).encode("utf-8", "surrogatepass"))
    return digest.digest()


def _some(lines: list[int]) -> str:
    shown = ", ".join(str(line) for line in lines[:_SHOWN_LINES])
    return f"{shown} and {len(lines) - _SHOWN_LINES} more" if len(lines) > _SHOWN_LINES else shown
