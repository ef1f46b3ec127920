"""Writes a repaired copy of a dataset, with an account of every line."""

from __future__ import annotations

from pathlib import Path

from runner.datasets.reading.lines import raw_lines
from runner.datasets.reading.sources import Source, name_of
from runner.datasets.records.lines import LineMaker
from runner.datasets.records.local_images import image_reader
from runner.datasets.records.recognising import open_examples
from runner.datasets.rewriting.outcome import Outcome, Place, Progress
from runner.datasets.rewriting.targets import open_target, refuse_existing
from runner.datasets.rules import contents


def fix_file(path: Source, output: Path, *, duplicates: bool = True, progress: Progress | None = None) -> Outcome:
    """Write the repaired copy of a dataset.

    Repaired: encodings, byte order marks, blank lines, several objects on one line, misspelled keys and roles, keys
    that the service does not know, system texts and images beside the messages, control characters, turns after the
    last answer. Lines that are still broken are omitted, and so are repeats. All lines are written in the format of
    the first line.

    Args:
        path: JSON Lines of a documented format, possibly compressed or in a bucket.
        output: path of the output; must not exist, so that nothing is ever overwritten. Compressed if its name says so.
        duplicates: omit examples that occurred before.
        progress: see `Progress`; called repeatedly.

    Raises:
        ConfigurationError: the output exists, or the input does not.
        DatasetError: the file must be converted first, cannot be read, or nothing would be written.
    """
    refuse_existing(output)
    seen: dict[int, int] = {}
    with open_examples(path) as opened, open_target(output) as target:
        maker = LineMaker(None, image_reader(path), mend=True)
        outcome = Outcome(output=output, description=opened.description, notes=opened.notes)
        for raw in outcome.watched(raw_lines(opened.lines()), opened, progress):
            place = Place(raw.number, raw.number)
            found = maker.of_text(raw)
            if not found and not raw.too_long:
                outcome.counts["blank lines left out"] += 1
            for made in found:
                first = raw.number
                if duplicates and made.example is not None:
                    first = seen.setdefault(contents.of_example(made.example)[1], raw.number)
                if first != raw.number:
                    outcome.drop(place, f"the same example as line {first}")
                else:
                    outcome.write(place, made, target, "split" if len(found) > 1 else "changed")
        outcome.finish(name_of(path))
        outcome.format = maker.form
    return outcome
