"""`runner chat`: one question, or a conversation at a terminal."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from runner.cli import commands
from runner.cli.options import Invocation, endpoint_option, sampling_options
from runner.cli.stand_ins import tell_of_answers
from runner.cli.text import require_one_dash, said, standard_input
from runner.cli.values import FILE, INPUT, Picture
from runner.errors import ConfigurationError, require_sound


def _mistakes(invocation: Invocation, given: Mapping[str, Any]) -> list[str]:
    """Return contradictory options."""
    problems = []
    if given.get("endpoint") and given.get("model"):
        problems.append("give either --endpoint or --model")
    if given.get("replay") and (given.get("message") is not None or given.get("resume")):
        problems.append("--replay reads its questions from the file: omit MESSAGE and --resume")
    return problems


@commands.command(
    name="chat",
    checks=_mistakes,
    examples=(
        "runner chat --endpoint 1234567890",
        'runner chat "Define: laptop" --endpoint 1234567890',
        "runner chat < question.txt",
        'runner chat "Define: laptop" --format json',
        'runner chat "Define: laptop" --compare',
        'runner chat "What is on it?" --image photo.jpg --endpoint scout',
        "runner chat --save talk.json && runner chat --resume talk.json",
        "runner chat --replay talk.json --endpoint newer --temperature 0",
    ),
)
@click.argument("message", required=False)
@endpoint_option
@click.option("--model", metavar="ID", help="Ask a Google-managed model instead of an endpoint.")
@click.option("--system", metavar="TEXT", help="System message.")
@click.option(
    "--image",
    "images",
    type=Picture(),
    multiple=True,
    metavar="FILE",
    help="Image for the first message: a file or a gs:// object.",
)
@click.option("--save", type=FILE, help="Save the conversation to this file.")
@click.option("--resume", type=INPUT, help="Continue a saved conversation.")
@click.option("--replay", type=INPUT, help="Ask the questions of a saved conversation again and compare the answers.")
@click.option("--no-stream", is_flag=True, help="Print the answer only when it is complete.")
@click.option(
    "--compare",
    is_flag=False,
    flag_value="base",
    metavar="[ID]",
    help="Also ask the base model, or the Google-managed model ID, and print both answers.",
)
@sampling_options
@click.pass_obj
def command(
    invocation: Invocation,
    /,
    message: str | None,
    endpoint: str | None,
    model: str | None,
    system: str | None,
    images: tuple[str, ...],
    save: Path | None,
    resume: Path | None,
    replay: Path | None,
    no_stream: bool,
    compare: str | None,
    **sampling: Any,
) -> None:
    """Send MESSAGE, or standard input (-), to a tuned model; without either, start a conversation at the terminal."""
    given = {"message": message, "endpoint": endpoint, "model": model, "resume": resume, "replay": replay}
    require_sound(_mistakes(invocation, given))
    require_one_dash((message, system))
    message, system = (text if text is None else said(text).strip() for text in (message, system))
    interactive = message is None and replay is None and sys.stdin.isatty()
    if interactive and invocation.output.is_json:
        raise ConfigurationError("--format json needs a MESSAGE, or text on standard input")
    if message is None and not interactive and replay is None:
        message = standard_input().strip()
    if message == "":
        raise ConfigurationError("the message is empty", hint='run `runner chat "MESSAGE"`')
    from runner.cli.asking.conversation import Conversation
    from runner.cli.asking.talking import Talk, base_of
    from runner.serving.prediction import resolve_endpoint

    with invocation.session() as session:
        where = {"model": model} if model else {"endpoint": resolve_endpoint(session, endpoint)}
        conversation = Conversation(invocation, session, where, system, sampling, images)
        if compare is not None:
            conversation.base = compare if compare != "base" else base_of(conversation)
        if resume is not None:
            conversation.resume(resume)
        if replay is not None:
            conversation.replay(replay)
            return
        try:
            if message is not None:
                tell_of_answers(invocation, session, where.get("endpoint"), model)
                conversation.ask(message, stream=not (no_stream or invocation.output.is_json))
            else:
                Talk(conversation, stream=not no_stream).run()
        finally:
            if save is not None and conversation.messages:
                conversation.save(save)
