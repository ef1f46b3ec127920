"""The record of the last full run, and the section of docs/performance.md that is made of it."""

from __future__ import annotations

import json
import subprocess
import textwrap
from pathlib import Path
from typing import Any

from benchmarks.goals.figures import Figure, Spread, number

ROOT = Path(__file__).parents[2]
RECORD = ROOT / "benchmarks" / "results.json"
DOCUMENT = ROOT / "docs" / "performance.md"
BEGIN = "<!-- Made by `python -m benchmarks` from benchmarks/results.json. -->"
END = "<!-- End of what is made. -->"


def commit() -> str:
    """Return the commit that is measured, with a plus sign if files differ from it."""

    def git(*words: str) -> str:
        return subprocess.run(["git", "-C", str(ROOT), *words], capture_output=True, text=True).stdout.strip()

    return git("rev-parse", "--short=12", "HEAD") + ("+" if git("status", "--porcelain", "--", "runner") else "")


def render(record: dict[str, Any]) -> str:
    """Return the section, without its markers."""
    machine = record["machine"]
    figures = [Figure.from_json(one) for one in record["figures"]]
    goals = [one for one in figures if one.goal is not None]
    missed = [one for one in goals if not one.met]
    peers = ", ".join(f"{name} {version}" for name, version in record["peers"].items())
    lines = [
        f"Measured on {record['date']} at commit `{record['commit']}` by `{record['command']}` ({record['size']} form, "
        f"{record['minutes']:g} minutes) on {machine['cores']} cores of {machine['processor']} "
        f"({machine['instructions']}), {machine['memoryGigabytes']} GB, Python {machine['python']}.",
        _quietness(record),
        f"Peers: {peers or 'none'}.",
        f"Of {len(goals)} goals {len(goals) - len(missed)} are met and {len(missed)} are missed.",
        "",
        "A figure is the median of its rounds, with the least and the greatest in brackets. What is compared runs by "
        "turns; a ratio is taken in each round.",
    ]
    for subject in dict.fromkeys(one.subject for one in figures):
        earlier = record.get("kept", {}).get(subject)
        lines += ["", f"### {subject}", *(["", f"Measured on {earlier}."] if earlier else [])]
        lines += ["", "| | here | the peer | ratio | goal | |", "|---|---|---|---|---|---|"]
        lines += [_row(one) for one in figures if one.subject == subject]
        notes = record["notes"].get(subject, [])
        lines += ["", *(_item(note) for note in notes)] if notes else []
    return "\n".join(lines) + "\n"


def write(record: dict[str, Any]) -> None:
    """Keep a record, with the subjects that it lacks as they were, and make the document's section of it."""
    if RECORD.exists():
        record = merged(json.loads(RECORD.read_text()), record)
    RECORD.write_text(json.dumps(record, indent=1, ensure_ascii=False) + "\n")
    DOCUMENT.write_text(replaced(DOCUMENT.read_text(), render(record)))


def merged(before: dict[str, Any], record: dict[str, Any]) -> dict[str, Any]:
    """Return a record with what an earlier one has of other subjects, in the earlier one's order.

    Its `kept` says of each of those when it was measured.
    """
    measured = {one["subject"] for one in record["figures"]}
    old = {one["subject"] for one in before["figures"]} - measured
    figures = [one for one in before["figures"] if one["subject"] in old] + record["figures"]
    order = list(dict.fromkeys(one["subject"] for one in before["figures"] + record["figures"]))
    earlier = f"{before['date']} at commit `{before['commit']}`"
    return {
        **record,
        "peers": {**before["peers"], **record["peers"]} if old else record["peers"],
        "figures": sorted(figures, key=lambda one: order.index(one["subject"])),
        "notes": {name: notes for name, notes in before["notes"].items() if name in old} | record["notes"],
        "kept": {name: before.get("kept", {}).get(name, earlier) for name in order if name in old},
    }


def replaced(text: str, section: str) -> str:
    """Return a document with its section replaced.

    Raises:
        ValueError: it lacks the markers.
    """
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"{DOCUMENT.name} lacks the markers of the section")
    return f"{before}{begin}\n{section}{end}{after}"


def _quietness(record: dict[str, Any]) -> str:
    looks = record["looks"]
    if all(look["quiet"] for look in looks):
        return "The machine was quiet before and after every subject."
    loud = [look for look in looks if not look["quiet"]]
    most = max(look["busyCores"] for look in loud)
    others = sorted({name for look in loud for name in look["busiest"]})
    return (
        f"**The machine was not quiet** at {len(loud)} of {len(looks)} looks (up to {most:g} cores busy: "
        f"{', '.join(others) or 'unknown'}): figures marked ~ say little, and those of others little more."
    )


def _item(note: str) -> str:
    """Return a note as an item of a list, in lines as long as the document's."""
    return textwrap.fill(note, 120, initial_indent="* ", subsequent_indent="  ", break_on_hyphens=False)


def _row(figure: Figure) -> str:
    goal = "" if figure.goal is None else f"{figure.goal.direction} {number(figure.goal.bound)}"
    if figure.goal is not None:
        goal += " x" if figure.ratio else f" {figure.unit}"
    verdict = "" if figure.met is None else "met" if figure.met else "**missed**"
    name = figure.name + (f", to {figure.peer}" if figure.peer else "") + ("" if figure.quiet else " ~")
    cells = [
        name,
        _spread(figure.ours, figure.unit),
        _spread(figure.theirs, figure.unit),
        _spread(figure.ratio, "x"),
        goal,
        verdict,
    ]
    return f"| {' | '.join(cells)} |".replace("|  |", "| |").replace("|  |", "| |")


def _spread(spread: Spread | None, unit: str) -> str:
    if spread is None:
        return ""
    if spread.rounds == 1:
        return f"{number(spread.median)} {unit}"
    return f"{number(spread.median)} {unit} ({number(spread.least)} to {number(spread.greatest)})"
