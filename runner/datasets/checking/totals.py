"""The results for a part of a file; parts can be added up, so any number of processes can share one file.

Adding the totals of all ranges of a file in order gives the totals of the whole file: the same findings
with the same line numbers in the same order.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from msgspec import structs

from runner.datasets.checking.columns import Column
from runner.datasets.examples import Finding, Format
from runner.datasets.tokens.counters import Sizes

FINDINGS_KEPT = 1000
"""Number of findings kept for each code, to limit memory; all findings are counted."""
LINES_NAMED = 10
PROMPTS_KEPT = 1 << 13
"""Number of prompt digests in memory: with the lines' digests, nine bytes per line from 65,536 lines on."""


@dataclass(slots=True)
class Tally:
    """Numbers for the examples with images, or for those without."""

    examples: int = 0
    kept: int = 0
    """Number of examples that are not over-length."""
    characters: int = 0
    """Number of characters in the kept examples."""
    images: int = 0
    """Number of images in the kept examples."""
    sizes: Sizes = field(default_factory=Counter)
    """Sizes of all examples, including over-length ones.

    It has at most the square root of twice the file's bytes as number of entries, if there are few images.
    """
    trained: int = 0
    """Number of trained tokens in the kept examples; 0 if tokens are estimated."""
    turns: Counter[int] = field(default_factory=Counter)
    """Maps the number of turns to the number of examples."""
    over_length: int = 0
    longest: list[tuple[int, int]] = field(default_factory=list)
    """Line and tokens of the first over-length examples."""
    untrained: list[int] = field(default_factory=list)
    """First lines of examples without a trained token: without any, or without any inside the limit."""
    first_lines: list[int] = field(default_factory=list)
    """Lines of the first examples."""

    def add(self, other: Tally, offset: int) -> None:
        """Add the tally of the next part, which comes after `offset` lines."""
        self.examples += other.examples
        self.kept += other.kept
        self.characters += other.characters
        self.images += other.images
        self.sizes.update(other.sizes)
        self.trained += other.trained
        self.turns.update(other.turns)
        self.over_length += other.over_length
        room = FINDINGS_KEPT - len(self.longest)
        self.longest += [(line + offset, tokens) for line, tokens in other.longest[:room]]
        self.untrained += [line + offset for line in other.untrained[: FINDINGS_KEPT - len(self.untrained)]]
        self.first_lines += [line + offset for line in other.first_lines[: LINES_NAMED - len(self.first_lines)]]


@dataclass(slots=True)
class Found:
    """Findings of a file or a part of it."""

    findings: list[Finding] = field(default_factory=list)
    """In the order of discovery; at most `FINDINGS_KEPT` for each code."""
    counts: Counter[str] = field(default_factory=Counter)
    """Maps each code to its number of findings, including findings that were not kept."""
    error_count: int = 0

    def find(self, finding: Finding) -> None:
        """Count a finding and keep it if there is space."""
        self.counts[finding.code] = count = self.counts[finding.code] + 1
        if finding.severity == "error":
            self.error_count += 1
        if count <= FINDINGS_KEPT:
            self.findings.append(finding)


@dataclass(slots=True)
class Totals(Found):
    """A part of a file."""

    lines: int = 0
    """Number of all lines, including blank ones."""
    rows: int = 0
    """Number of lines that are not blank."""
    formats: dict[Format, int] = field(default_factory=dict)
    """Maps each format to its first line."""
    text_only: Tally = field(default_factory=Tally)
    with_images: Tally = field(default_factory=Tally)
    prompts: Column = field(default_factory=lambda: Column(kept=PROMPTS_KEPT))
    """Digest of each line's prompt; 0 for a line that is not an example. Those of a large file are on disk."""
    wholes: Column = field(default_factory=Column)
    """Digest of each line; 0 for a line that is not an example."""

    nears: Column = field(default_factory=Column)
    """Digest of each line without case and punctuation; empty unless requested."""

    @property
    def tallies(self) -> tuple[Tally, Tally]:
        """Return both tallies."""
        return self.text_only, self.with_images

    @property
    def examples(self) -> int:
        """Return the number of lines without an error."""
        return self.text_only.examples + self.with_images.examples

    def add(self, other: Totals) -> None:
        """Add the totals of the next part."""
        offset = self.lines
        self.lines += other.lines
        self.rows += other.rows
        kept = Counter(finding.code for finding in self.findings)
        for finding in other.findings:
            kept[finding.code] += 1
            if kept[finding.code] <= FINDINGS_KEPT:
                self.findings.append(structs.replace(finding, line=finding.line + offset) if offset else finding)
        self.counts.update(other.counts)
        self.error_count += other.error_count
        for name, line in other.formats.items():
            self.formats.setdefault(name, line + offset)
        for mine, added in zip(self.tallies, other.tallies, strict=True):
            mine.add(added, offset)
        self.prompts.extend(other.prompts)
        self.wholes.extend(other.wholes)
        self.nears.extend(other.nears)
