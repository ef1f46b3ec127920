"""What is known of a part of a file; parts add up, so that any number of processes can share one file.

`Totals.add` of the totals of all ranges of a file, in order, gives those of the whole file: the same findings
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
"""Number of findings kept for each code, so that memory stays bounded; all findings are counted."""
LINES_NAMED = 10
PROMPTS_KEPT = 1 << 13
"""Digests of prompts in memory: with those of the lines, nine bytes a line from 65,536 lines on."""


@dataclass(slots=True)
class Tally:
    """Numbers of the examples with images, or of those without."""

    examples: int = 0
    kept: int = 0
    """Not over-length."""
    characters: int = 0
    """Number of characters in the kept examples."""
    images: int = 0
    """Number of images in the kept examples."""
    sizes: Sizes = field(default_factory=Counter)
    """Sizes of all examples, including over-length ones.

    No more entries than the root of twice the file's bytes, with few images.
    """
    trained: int = 0
    """Tokens that are learned, of the kept; 0 where tokens are estimated."""
    turns: Counter[int] = field(default_factory=Counter)
    """Number of turns to number of examples."""
    over_length: int = 0
    longest: list[tuple[int, int]] = field(default_factory=list)
    """Line and tokens of the first over-length examples."""
    untrained: list[int] = field(default_factory=list)
    """First lines of examples without a trained token: none at all, or none within the limit."""
    first_lines: list[int] = field(default_factory=list)
    """Lines of the first examples."""

    def add(self, other: Tally, offset: int) -> None:
        """Add the tally of the next part, whose lines follow `offset` others."""
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
    """Findings of a file or a part of one."""

    findings: list[Finding] = field(default_factory=list)
    """In the order in which they were found; at most `FINDINGS_KEPT` of each code."""
    counts: Counter[str] = field(default_factory=Counter)
    """Code to number of findings, those included that were not kept."""
    error_count: int = 0

    def find(self, finding: Finding) -> None:
        """Count a finding and keep it if there is room."""
        self.counts[finding.code] = count = self.counts[finding.code] + 1
        if finding.severity == "error":
            self.error_count += 1
        if count <= FINDINGS_KEPT:
            self.findings.append(finding)


@dataclass(slots=True)
class Totals(Found):
    """A part of a file."""

    lines: int = 0
    """All lines, blank ones too."""
    rows: int = 0
    """Lines that are not blank."""
    formats: dict[Format, int] = field(default_factory=dict)
    """Format to its first line."""
    text_only: Tally = field(default_factory=Tally)
    with_images: Tally = field(default_factory=Tally)
    prompts: Column = field(default_factory=lambda: Column(kept=PROMPTS_KEPT))
    """Digest of each line's prompt; 0 for a line that is no example. Of a large file they are on the disk."""
    wholes: Column = field(default_factory=Column)
    """Digest of each line; 0 for a line that is no example."""

    nears: Column = field(default_factory=Column)
    """Digest of each line without case and punctuation; empty unless asked for."""

    @property
    def tallies(self) -> tuple[Tally, Tally]:
        """Return both tallies."""
        return self.text_only, self.with_images

    @property
    def examples(self) -> int:
        """Return the number of lines without an error."""
        return self.text_only.examples + self.with_images.examples

    def add(self, other: Totals) -> None:
        """Add the totals of the part that follows."""
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
