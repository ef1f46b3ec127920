"""`runner quickstart`: all steps on this machine."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import click

from runner.cli import commands
from runner.cli.options import Invocation
from runner.cli.values import Count

if TYPE_CHECKING:
    from runner.cli.output import Output
    from runner.jobs.following.watching import JobUpdate
    from runner.quickstart.run import QuickstartResult

_SECONDS_BETWEEN_LINES = 8.0


@commands.command(
    name="quickstart",
    examples=("runner quickstart", "runner quickstart --fast", "runner quickstart --keep --port 9000"),
)
@click.option("--fast", is_flag=True, help="Tune a tiny untrained model, which only demonstrates the steps.")
@click.option("--keep", is_flag=True, help="Keep the emulator, job and endpoint.")
@click.option("--port", type=Count(0, 65535), help="Port of the emulator [default: a free port].")
@click.option("--questions", type=Count(1, 32), default=5, show_default=True, help="Number of questions to ask.")
@click.pass_obj
def command(invocation: Invocation, fast: bool, keep: bool, port: int | None, questions: int) -> None:
    """Run every step on this machine: start the emulator, provision it, check data, tune, deploy, compare answers.

    Nothing leaves this machine, and everything is free.
    """
    from runner.quickstart.run import QuickstartOptions, run

    invocation.interrupted = "stopped; removing what was created" if not keep else "stopped: `runner emulator status`"
    options = QuickstartOptions(keep=keep, fast=fast, port=port, questions=questions)
    result = run(options, _Narrator(invocation.output))
    if invocation.output.is_json:
        invocation.output.document(result.to_json())
    else:
        _print_answers(invocation.output, result)


class _Narrator:
    """Reports on standard error."""

    def __init__(self, output: Output) -> None:
        self.output = output
        self.number = 0
        self.told = 0.0

    def step(self, title: str) -> None:
        """Start a step."""
        self.number += 1
        self.output.note(f"{self.number}. {title}")

    def say(self, text: str) -> None:
        """Print a message about the current step."""
        self.output.note(f"   {text}")

    def training(self, update: JobUpdate) -> None:
        """Print states and, regularly, the loss."""
        from runner.cli.jobs.follow import watched_line
        from runner.wording import state_words

        if update.state_changed:
            self.say(state_words(update.job.detail_state or update.job.state))
        step = ""
        for event in update.events:
            line = watched_line(event)
            if event.kind == "step":
                step = line
            elif line:
                if event.kind == "checkpoint" and step:
                    self.say(step)
                    step = ""
                self.say(line)
        now = time.monotonic()
        if step and now - self.told >= _SECONDS_BETWEEN_LINES:
            self.told = now
            self.say(step)


def _print_answers(output: Output, result: QuickstartResult) -> None:
    for answer in result.answers:
        output.pairs(
            [
                ("question", answer.question),
                ("base model", answer.base or "(nothing)"),
                ("tuned model", answer.tuned or "(nothing)"),
                ("bare prompt", "(nothing)" if answer.completed == "" else answer.completed),
                ("dataset", answer.reference),
            ]
        )
        output.text("")
    if any(answer.completed is not None for answer in result.answers):
        output.note(
            "the model is asked by chat completions, which apply its template, and by a bare prompt (`runner predict`)"
        )
    if result.weights:
        output.note(f"model: {result.weights}")
    parts = ", ".join(f"{name} {seconds:.0f}" for name, seconds in result.seconds.items() if name != "total")
    output.note(f"done in {result.seconds.get('total', 0):.0f} s ({parts}). Next:")
    for line in result.next_commands:
        output.note(f"  {line}")
