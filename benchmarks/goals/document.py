"""The record of the last full run, and the section of docs/performance.md that is generated from it."""

from __future__ import annotations

import json
import subprocess
import textwrap
from pathlib import Path
from typing import Any

from benchmarks.goals.figures import Figure, Spread, number

NOT_QUIET = "A `~` marks values that were measured while the machine was not idle; they are less reliable."

ROOT = Path(__file__).parents[2]
RECORD = ROOT / "benchmarks" / "results.json"
DOCUMENT = ROOT / "docs" / "performance.md"
BEGIN = "<!-- Start of the section that `python -m benchmarks --write` generates from benchmarks/results.json. -->"
END = "<!-- End of the generated section. -->"


def commit() -> str:
    """Return the measured commit, with a plus sign if files of `runner` differ from it."""

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
        f"Measured on {record['date']} at commit `{record['commit']}` with `{record['command']}` "
        f"({record['size']} size, {record['minutes']:g} minutes) on {machine['cores']} cores of {machine['processor']} "
        f"({machine['instructions']}), {machine['memoryGigabytes']} GB of memory, Python {machine['python']}.",
        _quietness(record),
        f"Peers: {peers or 'none'}.",
        f"Goals: {len(goals) - len(missed)} of {len(goals)} met, {len(missed)} missed.",
        "",
        "Each value is the median of several rounds, followed by the minimum and maximum in parentheses. This project "
        "and the peer run alternately.",
        "The ratio is this project's value divided by the peer's, calculated for each round. *CPU s* and *CPU ms* are "
        "seconds and milliseconds of CPU time.",
        *(() if all(one.quiet for one in figures) else (NOT_QUIET,)),
    ]
    for subject in dict.fromkeys(one.subject for one in figures):
        earlier = record.get("kept", {}).get(subject)
        lines += ["", f"### {subject}", *(["", f"Measured on {earlier}."] if earlier else [])]
        lines += [
            "",
            "| measurement | peer | this project | value of the peer | ratio | goal | result |",
            "|---|---|---|---|---|---|---|",
        ]
        lines += [_row(one) for one in figures if one.subject == subject]
        notes = record["notes"].get(subject, [])
        lines += ["", *(_item(note) for note in notes)] if notes else []
    return "\n".join(lines) + "\n"


def write(record: dict[str, Any]) -> None:
    """Store a record, complete it with the subjects of the previous record, and update the document's section."""
    if RECORD.exists():
        record = merged(json.loads(RECORD.read_text()), record)
    RECORD.write_text(json.dumps(record, indent=1, ensure_ascii=False) + "\n")
    DOCUMENT.write_text(replaced(DOCUMENT.read_text(), render(record)))


def merged(before: dict[str, Any], record: dict[str, Any]) -> dict[str, Any]:
    """Return a record, completed with the other subjects of a previous record, in the order of the latter.

    For each of these subjects, `kept` says when it was measured.
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
        ValueError: the document does not have the markers.
    """
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"{DOCUMENT.name} does not have the markers of the generated section")
    return f"{before}{begin}\n{section}{end}{after}"


def _quietness(record: dict[str, Any]) -> str:
    looks = record["looks"]
    if all(look["quiet"] for look in looks):
        return "The machine was idle before and after every subject."
    loud = [look for look in looks if not look["quiet"]]
    most = max(look["busyCores"] for look in loud)
    others = sorted({name for look in loud for name in look["busiest"]})
    return (
        f"**The machine was not idle** in {len(loud)} of {len(looks)} checks (up to {most:g} cores busy: "
        f"{', '.join(others) or 'unknown'}). No value of this run is reliable, those with a `~` least of all."
    )


def _item(note: str) -> str:
    """Return a note as a list item, wrapped at 120 characters."""
    return textwrap.fill(note, 120, initial_indent="* ", subsequent_indent="  ", break_on_hyphens=False)


def _row(figure: Figure) -> str:
    goal = "" if figure.goal is None else f"{figure.goal.direction} {number(figure.goal.bound)}"
    if figure.goal is not None:
        goal += _unit("x" if figure.ratio else figure.unit)
    verdict = "" if figure.met is None else "met" if figure.met else "**missed**"
    cells = [
        figure.name + ("" if figure.quiet else " ~"),
        figure.peer,
        _spread(figure.ours, figure.unit),
        _spread(figure.theirs, figure.unit),
        _spread(figure.ratio, "x"),
        goal,
        verdict,
    ]
    return f"| {' | '.join(cells)} |".replace("|  |", "| |").replace("|  |", "| |")


def _unit(unit: str) -> str:
    """Return a unit as it follows a number: a percent sign without a space, as Google's style guide has it."""
    return unit if unit == "%" else f" {unit}"


def _spread(spread: Spread | None, unit: str) -> str:
    if spread is None:
        return ""
    if spread.rounds == 1:
        return number(spread.median) + _unit(unit)
    return f"{number(spread.median)}{_unit(unit)} ({number(spread.least)} to {number(spread.greatest)})"
