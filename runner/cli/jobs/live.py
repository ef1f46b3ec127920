"""The display of a watch: lines for a terminal that is redrawn, and lines for a log."""

from __future__ import annotations

import datetime
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from runner.cli.text import amount, duration, speaks_unicode, visible, width
from runner.wording import state_words

if TYPE_CHECKING:
    from runner.jobs.following.progress import Billed, JobProgress, Remaining

REDRAWS_PER_SECOND = 2.0
_CHARTED_JOBS = 2
"""Maximum number of jobs that are shown with their curves."""
_QUIET_SECONDS = 60.0
"""Minimum age of the last progress that is shown."""


def view(
    progress: JobProgress, *, columns: int, rows: int = 8, braille: bool = True, curve: bool = True, problem: str = ""
) -> list[str]:
    """Return the lines about one job.

    Args:
        progress: the progress of the job.
        columns: width of the terminal.
        rows: height of the chart.
        braille: whether the terminal shows braille characters.
        curve: whether to draw the losses.
        problem: why the service could not be polled.
    """
    from runner.jobs.following.chart import chart, smoothed

    job = progress.job
    ellipsis = "…" if braille else "..."
    if job is None:
        return [ellipsis]
    facts = [
        state_line(progress),
        f"stand-in: {job.stand_in}" if job.stand_in else "",
        numbers_line(progress),
        forecast_line(progress, dated=False),
    ]
    lines = [f"{job.id}  {job.display_name or job.base_model}"]
    lines += [part for fact in facts for part in _folded(fact, columns)]
    rows = max(3, rows - max(0, len(lines) - 5))
    if curve:
        line = [(float(step), loss) for step, loss in progress.losses]
        marks = [(float(step), loss) for step, loss in progress.validation]
        curve_shown = smoothed(line)
        drawn = chart(
            curve_shown, marks, width=columns - 2, height=rows, braille=braille, end=float(progress.total or 0)
        )
        lines += [f"  {text}" for text in drawn]
        if drawn:
            smooth = ", smoothed" if curve_shown != line else ""
            lines.append(f"  loss by step{smooth}" + (", o validation" if marks else ""))
    if problem:
        lines.append(f"  {problem}; still watching")
    return [_cut(visible(line), columns, ellipsis) for line in lines]


def _folded(fact: str, columns: int) -> list[str]:
    """Return a text as indented lines, so that its end is visible on a narrow terminal."""
    return textwrap.wrap(
        visible(fact),
        columns,
        initial_indent="  ",
        subsequent_indent="    ",
        break_long_words=False,
        break_on_hyphens=False,
    )


def state_line(progress: JobProgress) -> str:
    """Return the state, the detailed state, and the time of waiting or without progress."""
    job = progress.job
    if job is None:
        return ""
    state = state_words(job.state)
    detail = state_words(job.detail_state) if job.detail_state else ""
    parts = [state + (f" ({detail})" if detail and detail != state else "")]
    if progress.waited is not None and not job.ended:
        parts.append(f"{'waited' if job.start_time else 'waiting'} {duration(progress.waited)}")
    if job.start_time is not None:
        now = job.end_time or datetime.datetime.now(datetime.UTC)
        word = "took" if job.ended else "running for"
        parts.append(f"{word} {duration(max(0.0, (now - job.start_time).total_seconds()))}")
    quiet = time.monotonic() - progress.last_progress
    if not job.ended and job.start_time and "waiting" not in detail and quiet >= _QUIET_SECONDS:
        parts.append(f"no progress for {duration(quiet)}")
    return " · ".join(parts)


def numbers_line(progress: JobProgress) -> str:
    """Return step, epoch, losses and learning rate, as far as they are known."""
    job = progress.job
    parts: list[str] = []
    if progress.step is not None:
        parts.append(f"step {progress.step}" + (f"/{progress.total}" if progress.total else ""))
    if progress.epoch is not None:
        parts.append(
            f"epoch {progress.epoch:.2f}".rstrip("0").rstrip(".") + (f"/{job.epochs}" if job and job.epochs else "")
        )
    if progress.fraction is not None:
        parts.append(f"{progress.fraction:.0%}")
    if progress.losses:
        parts.append(f"loss {progress.losses[-1][1]:.4f}")
    if progress.validation:
        parts.append(f"validation {progress.validation[-1][1]:.4f}")
    if progress.learning_rate is not None:
        parts.append(f"rate {progress.learning_rate:.2g}")
    return " · ".join(parts)


def forecast_line(progress: JobProgress, *, dated: bool = True) -> str:
    """Return the forecast and the cost so far, as far as they are known; `dated` adds the date of the price."""
    parts = []
    remaining, used = progress.remaining, progress.billed
    if remaining is not None:
        parts.append(left(remaining))
    if used is not None:
        parts.append(cost(used, dated=dated))
    return " · ".join(parts)


def left(remaining: Remaining) -> str:
    """Return `about 2 min left (1 min 40 s to 3 min)`."""
    low, high = duration(remaining.low), duration(remaining.high)
    about = f"about {duration(remaining.expected)} of training left"
    return about if low == high else f"{about} ({low} to {high})"


def cost(used: Billed, *, dated: bool = True) -> str:
    """Return `$0.12 of $0.40 so far, list price of DATE`, or the tokens if there is no price."""
    if used.usd is None or used.total_usd is None:
        return f"{used.tokens} of {used.total_tokens} billed tokens so far; no price is published"
    so_far = f"{amount(used.usd)} of {amount(used.total_usd)} so far"
    if used.stand_in:
        return f"nothing charged; on Google Cloud about {so_far}, by the stand-in's tokens"
    return f"{so_far}, list price{f' of {used.price_date}' if dated else ''}"


def wanted(*, plain: bool) -> bool:
    """Return whether standard output is a terminal that can be redrawn."""
    import os

    return not plain and sys.stdout.isatty() and os.environ.get("TERM") != "dumb"


@contextmanager
def live(watched: dict[str, JobProgress], problems: dict[str, str], *, color: bool) -> Iterator[Callable[[], None]]:
    """Show jobs on the terminal within the context; the last display stays. Yields a function that redraws.

    Args:
        watched: maps full names to the progress; the caller changes it.
        problems: maps full names to the reason why the service could not be polled.
        color: whether to use styles.
    """
    from rich.console import Console
    from rich.live import Live
    from rich.text import Text

    console = Console(no_color=not color, highlight=False)
    braille = speaks_unicode(sys.stdout)

    def picture() -> Text:
        curve = len(watched) <= _CHARTED_JOBS
        rows = max(3, min(10, (console.height - 8 * len(watched)) // max(1, len(watched))))
        lines: list[str] = []
        for name, progress in list(watched.items()):
            lines += view(
                progress,
                columns=console.width - 1,
                rows=rows,
                braille=braille,
                curve=curve,
                problem=problems.get(name, ""),
            )
        return Text("\n".join(lines), no_wrap=True, overflow="ellipsis")

    # On the alternate screen, because lines that a narrower terminal has wrapped cannot be redrawn.
    try:
        with Live(get_renderable=picture, console=console, refresh_per_second=REDRAWS_PER_SECOND, screen=True) as drawn:
            yield drawn.refresh
    finally:
        console.print(picture())


def _cut(text: str, columns: int, ellipsis: str) -> str:
    if width(text) <= columns:
        return text
    while text and width(text) > columns - len(ellipsis):
        text = text[:-1]
    return text + ellipsis
