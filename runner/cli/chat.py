"""`runner chat`: one question, or a conversation at a terminal."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import click

from runner.cli import commands
from runner.cli.options import Invocation, sampling_options
from runner.errors import ConfigurationError, RunnerError

if TYPE_CHECKING:
    from runner.gcp.session import Session

_HELP = "/reset forgets the conversation, /exit or Ctrl-D leaves, Ctrl-C stops an answer."


@commands.command(
    name="chat",
    examples=(
        "runner chat --endpoint 1234567890",
        'runner chat "Define: laptop" --endpoint 1234567890',
        "runner chat < question.txt",
        'runner chat "Define: laptop" --format json',
    ),
)
@click.argument("message", required=False)
@click.option("--endpoint", metavar="ID", help="Endpoint: id, name or full name [the environment's, or the only one].")
@click.option("--model", metavar="ID", help="A model that Google manages, instead of an endpoint.")
@click.option("--system", metavar="TEXT", help="System message.")
@click.option("--no-stream", is_flag=True, help="Print the answer when it is whole.")
@sampling_options
@click.pass_obj
def command(
    invocation: Invocation,
    /,
    message: str | None,
    endpoint: str | None,
    model: str | None,
    system: str | None,
    no_stream: bool,
    **sampling: Any,
) -> None:
    """Send MESSAGE, or standard input, to a tuned model; without either, converse at the terminal."""
    if endpoint and model:
        problem = "give either --endpoint or --model"
        raise ConfigurationError(problem, problems=[problem])
    interactive = message is None and sys.stdin.isatty()
    if interactive and invocation.output.is_json:
        problem = "--format json needs a MESSAGE, or one on standard input"
        raise ConfigurationError(problem, problems=[problem])
    if message is None and not interactive:
        message = sys.stdin.read().strip()
    if message == "":
        problem = "the message is empty"
        raise ConfigurationError(problem, problems=[problem], hint='`runner chat "MESSAGE"`')
    from runner.serving.prediction import resolve_endpoint

    with invocation.session() as session:
        where = {"model": model} if model else {"endpoint": resolve_endpoint(session, endpoint)}
        conversation = _Conversation(invocation, session, where, system, sampling)
        if message is not None:
            conversation.ask(message, stream=not (no_stream or invocation.output.is_json))
        else:
            conversation.converse(stream=not no_stream)


class _Conversation:
    def __init__(
        self,
        invocation: Invocation,
        session: Session,
        where: dict[str, Any],
        system: str | None,
        sampling: dict[str, Any],
    ) -> None:
        self.invocation = invocation
        self.session = session
        self.where = where
        self.start: list[dict[str, str]] = [{"role": "system", "content": system}] if system else []
        self.messages = list(self.start)
        self.sampling = sampling

    def ask(self, text: str, *, stream: bool) -> None:
        """Print the answer to one message and remember both."""
        from runner.serving.prediction import chat

        output = self.invocation.output
        asked = [*self.messages, {"role": "user", "content": text}]
        if not stream:
            answer = chat(self.session, messages=asked, **self.where, **self.sampling)
            body = {
                "text": answer.text,
                "finishReason": answer.finish_reason,
                "model": answer.model,
                "usage": answer.usage,
            }
            output.result(body, answer.text, name=answer.text)
            self.messages = [*asked, {"role": "assistant", "content": answer.text}]
            return
        pieces: list[str] = []
        try:
            for chunk in chat(self.session, messages=asked, stream=True, **self.where, **self.sampling):
                output.piece(chunk.text)
                pieces.append(chunk.text)
        finally:
            output.piece("\n")
        self.messages = [*asked, {"role": "assistant", "content": "".join(pieces)}]

    def converse(self, *, stream: bool) -> None:
        """Read messages from the terminal until its end."""
        import contextlib

        with contextlib.suppress(ImportError):
            import readline  # noqa: F401 - gives input() its line editing
        self.invocation.output.note(_HELP)
        while True:
            try:
                line = input("> ").strip()
            except EOFError:
                self.invocation.output.piece("\n")
                return
            if line in {"/exit", "/quit"}:
                return
            if line == "/reset":
                self.messages = list(self.start)
            elif line.startswith("/"):
                self.invocation.output.note(_HELP)
            elif line:
                self._answer(line, stream=stream)

    def _answer(self, line: str, *, stream: bool) -> None:
        """Answer one line; neither a failure nor Ctrl-C ends the conversation."""
        try:
            self.ask(line, stream=stream)
        except RunnerError as error:
            self.invocation.output.failure(error.to_json())
        except KeyboardInterrupt:
            self.invocation.output.note("stopped")
