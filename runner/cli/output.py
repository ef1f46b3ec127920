"""The printer: results to standard output, everything else to standard error.

It prints text for people, JSON for programs, and only names with `--quiet`. Control characters in remote text are
escaped.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol

from runner.cli.tables import GAP, Table, fitted
from runner.cli.text import json_safe, padded, size, speaks_unicode, visible, width

if TYPE_CHECKING:
    from runner.environment.targets import Target

_BOLD, _DIM, _RED, _GREEN, _YELLOW, _PLAIN = "\x1b[1m", "\x1b[2m", "\x1b[31m", "\x1b[32m", "\x1b[33m", "\x1b[0m"
_STATES = {
    _GREEN: {"succeeded", "partially succeeded", "ok", "deployed", "ready", "sent", "better"},
    _RED: {"failed", "expired", "cancelled", "refused", "blocked", "worse"},
    _YELLOW: {"running", "pending", "queued", "waiting", "cancelling", "paused", "missing"},
}
_NARROWEST = 24
"""Minimum columns for wrapping a text."""
_FINDINGS_SHOWN = 20
"""Number of findings of an error in text output."""
_PLAIN_PROGRESS_SECONDS = 5.0
"""Minimum interval of progress lines in a log."""


class Progress(Protocol):
    """A callback for the progress of a long transfer."""

    def __call__(self, done: int, total: int | None, /) -> None:
        """Report the number of bytes so far, and the total if it is known."""


@dataclass(slots=True)
class Output:
    """Prints for one invocation."""

    format: Literal["text", "json"] = "text"
    quiet: bool = False
    color: bool | None = None
    """False: never; None: on a terminal, unless NO_COLOR or TERM=dumb is set."""

    @property
    def is_json(self) -> bool:
        """Return whether the output is for programs."""
        return self.format == "json"

    def document(self, body: Any, *, lines: bool = False) -> None:
        """Print one JSON document; with `lines`, on a single line, for streams of events (NDJSON)."""
        import json

        indent = None if lines or not _is_tty(sys.stdout) else 2
        text = json.dumps(body, ensure_ascii=not speaks_unicode(sys.stdout), indent=indent)
        print(json_safe(text), flush=lines)

    def result(self, body: Any, text: str | Sequence[tuple[str, Any]], *, name: str | Sequence[str] = "") -> None:
        """Print the result of a command.

        Args:
            body: for `--format json`.
            text: a text, or pairs of label and value, for people.
            name: for `--quiet`: only the name of the created or found resource, or several names.
        """
        if self.is_json:
            self.document(body)
        elif self.quiet:
            for one in [name] if isinstance(name, str) else name:
                if one:
                    print(visible(one))
        elif isinstance(text, str):
            self.text(text)
        else:
            self.pairs(text)

    def text(self, text: str) -> None:
        """Print lines of text."""
        print(visible(text, lines=True))

    def piece(self, text: str) -> None:
        """Print a part of a text that is still arriving, immediately."""
        print(visible(text, lines=True), end="", flush=True)

    def pairs(self, pairs: Iterable[tuple[str, Any]], *, wrap: bool = True) -> None:
        """Print labeled values, one per line; missing values are omitted, and long ones wrap with indentation."""
        known = [(label, _cell(value)) for label, value in pairs if value is not None and value != ""]
        columns = max((width(label) for label, _ in known), default=0)
        for label, value in known:
            first, *others = _wrapped(value, _columns() - columns - GAP if wrap else float("inf"))
            print(f"{self._styled(padded(label, columns), _DIM, sys.stdout)}{' ' * GAP}{first}")
            for line in others:
                print(f"{' ' * (columns + GAP)}{line}")

    def table(
        self,
        headings: Sequence[str],
        rows: Sequence[Sequence[Any]],
        *,
        body: Any,
        names: Sequence[str] = (),
        numbers: Iterable[int] = (),
        ids: Iterable[int] = (),
        states: Iterable[int] = (),
        droppable: Sequence[str] = (),
        empty: str = "",
    ) -> None:
        """Print rows as a table, without truncating values. See `tables.fitted` for tables that are too wide.

        Args:
            headings: one for each column.
            rows: the cells.
            body: the contents for `--format json`.
            names: the names for `--quiet`, one per line.
            numbers: indices of the columns to align right.
            ids: indices of the columns of IDs, which can be shortened to unique prefixes.
            states: indices of the columns of states, which get colors.
            droppable: headings of the columns that a narrow terminal can omit, in this order.
            empty: message on standard error if there are no rows.
        """
        if self.is_json:
            self.document(body)
            return
        if self.quiet:
            for name in names:
                print(visible(name))
            return
        if not rows:
            if empty:
                self.note(empty)
            return
        found = fitted(
            Table(list(headings), [[_cell(value) for value in row] for row in rows]),
            _columns(),
            ids=set(ids),
            droppable=droppable,
        )
        if found is None:
            for number, row in enumerate(rows):
                if number:
                    print()
                self.pairs(zip(headings, row, strict=True), wrap=False)
            return
        right = {headings[index] for index in numbers}
        colored = {headings[index] for index in states} if self._colored(sys.stdout) else set()
        print(self._styled(found.line(found.headings, right), _BOLD, sys.stdout))
        for cells in found.rows:
            print(found.line(cells, right, dict.fromkeys(colored, _state_style)))
        if found.dropped:
            self.note(f"not shown here: {', '.join(found.dropped)}; a wider terminal or --json shows all")

    def note(self, text: str) -> None:
        """Print a message beside the result on standard error; `--quiet` disables it."""
        if self.quiet:
            return
        if self.is_json:
            self._say_json({"note": text})
        else:
            _say(visible(text, lines=True))

    def warning(self, text: str) -> None:
        """Warn on standard error; `--quiet` does not disable it."""
        if self.is_json:
            self._say_json({"warning": text})
            return
        label = self._styled("warning:", _YELLOW, sys.stderr)
        _say(f"{label} {visible(text, lines=True)}")

    def target(self, target: Target) -> None:
        """Print the target of a command that changes or costs something on standard error."""
        if self.quiet:
            return
        if self.is_json:
            self._say_json({"target": target.to_json()})
        else:
            _say(f"{self._styled('target:', _BOLD, sys.stderr)} {visible(str(target))}")

    def record(self, body: Mapping[str, Any]) -> None:
        """Print one JSON line on standard error: the result of a command whose data went to standard output."""
        self._say_json(body)

    def _say_json(self, body: Mapping[str, Any]) -> None:
        """Print one JSON line on standard error, where errors are also JSON, so that programs can read every line."""
        import json

        _say(json_safe(json.dumps(body, ensure_ascii=not speaks_unicode(sys.stderr))))

    def failure(self, body: Mapping[str, Any], *, listed: bool = False) -> None:
        """Print an error on standard error: `{"error": …}` for programs, findings, `error:` and `hint:` for people.

        Args:
            body: JSON form of the error.
            listed: whether the command's own output already contains the findings.
        """
        if self.is_json:
            self._say_json({"error": body})
            return
        message = str(body["message"])
        if not listed:
            findings = [finding for finding in body.get("findings", ()) if _said_of(finding) not in message]
            for finding in findings[:_FINDINGS_SHOWN]:
                _say(visible(finding_line(finding), lines=True))
            if len(findings) > _FINDINGS_SHOWN:
                more = len(findings) - _FINDINGS_SHOWN
                _say(f"… and {more} more: list all with --format json")
        _say(f"{self._styled('error:', _RED, sys.stderr)} {visible(message, lines=True)}")
        if body.get("hint"):
            _say(f"{self._styled('hint:', _BOLD, sys.stderr)} {visible(body['hint'], lines=True)}")

    @contextmanager
    def progress(self, title: str) -> Iterator[Progress]:
        """Yield a callback for a transfer: a bar on a terminal, lines in a log, nothing with `--quiet`."""
        if self.quiet:
            yield _silent
        elif _is_tty(sys.stderr) and self._colored(sys.stderr):
            with _bar(visible(title)) as bar:
                yield bar
        else:
            yield _PlainProgress(self, title)

    def _colored(self, stream: Any) -> bool:
        if self.color is not None:
            return self.color
        return _is_tty(stream) and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"

    def _styled(self, text: str, style: str, stream: Any) -> str:
        return f"{style}{text}{_PLAIN}" if self._colored(stream) else text


def finding_line(finding: Mapping[str, Any]) -> str:
    """Return the text for a finding of a dataset in its JSON form."""
    fix = f"; {finding['fix']}" if finding.get("fix") else ""
    return f"{finding['severity']}: {_said_of(finding)}{fix} [{finding['code']}]"


def _said_of(finding: Mapping[str, Any]) -> str:
    """Return its position and message: `train.jsonl:6174 messages[2].content: …`."""
    line = f":{finding['line']}" if finding["line"] else ""
    path = f" {finding['path']}" if finding["path"] else ""
    return f"{finding['file']}{line}{path}: {finding['message']}"


def _say(text: str) -> None:
    """Print on standard error. A full log file neither ends the command nor changes its exit code."""
    try:
        print(text, file=sys.stderr, flush=True)
    except OSError:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stderr.fileno())
        os.close(nowhere)


def _is_tty(stream: Any) -> bool:
    return bool(stream is not None and stream.isatty())


def _columns() -> float:
    """Return the width of the output: COLUMNS, or the terminal's; a pipe has no width."""
    if os.environ.get("COLUMNS", "").isdecimal() or _is_tty(sys.stdout):
        import shutil

        return shutil.get_terminal_size().columns
    return float("inf")


def _wrapped(text: str, columns: float) -> list[str]:
    """Return the lines of a text that is wrapped only at spaces, so that commands and names can be copied."""
    if len(text) <= columns or columns < _NARROWEST:
        return [text]
    import textwrap

    return textwrap.wrap(text, int(columns), break_long_words=False, break_on_hyphens=False) or [text]


def _state_style(text: str) -> str:
    style = next((style for style, words in _STATES.items() if text.strip() in words), "")
    return f"{style}{text}{_PLAIN}" if style else text


def _cell(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return visible(str(value))


def _silent(done: int, total: int | None, /) -> None:
    pass


class _PlainProgress:
    """Progress as lines: at the start, every few seconds, at the end."""

    def __init__(self, output: Output, title: str) -> None:
        self.output = output
        self.title = title
        self.last = 0.0

    def __call__(self, done: int, total: int | None, /) -> None:
        now = time.monotonic()
        if done != total and now - self.last < _PLAIN_PROGRESS_SECONDS:
            return
        self.last = now
        self.output.note(f"{self.title}: {size(done)}" + (f" of {size(total)}" if total else ""))


@contextmanager
def _bar(title: str) -> Iterator[Progress]:
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as RichProgress

    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=None),
        DownloadColumn(binary_units=True),
        TimeRemainingColumn(),
    )
    with RichProgress(*columns, console=Console(stderr=True), transient=True) as bars:
        task = bars.add_task(title, total=None)

        def report(done: int, total: int | None, /) -> None:
            bars.update(task, completed=done, total=total)

        yield report
