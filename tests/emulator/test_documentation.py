"""docs/emulator.md lists exactly the methods that there are.

`python -m tests.emulator.test_documentation` rewrites it.
"""

from __future__ import annotations

from pathlib import Path

from runner.emulator import services
from runner.emulator.coverage import markdown_table

DOCUMENT = Path(__file__).parents[2] / "docs" / "emulator.md"
BEGIN, END = "<!-- methods:begin -->\n", "<!-- methods:end -->"


def _parts() -> tuple[str, str, str]:
    before, rest = DOCUMENT.read_text("utf-8").split(BEGIN)
    table, after = rest.split(END)
    return before, table, after


def test_the_table_of_methods_is_current() -> None:
    assert _parts()[1] == markdown_table(services.all_methods())


if __name__ == "__main__":
    before, _, after = _parts()
    DOCUMENT.write_text(before + BEGIN + markdown_table(services.all_methods()) + END + after, "utf-8")
