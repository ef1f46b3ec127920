"""A conversation at the terminal: its prompt, its banner and its commands."""

from __future__ import annotations

import contextlib
import difflib
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from runner import local_files
from runner.errors import ConfigurationError, RunnerError
from runner.serving.messages import image_part, text_of

if TYPE_CHECKING:
    from runner.cli.asking.conversation import Conversation

_PROMPT, _MORE = "> ", ". "
_BLOCK = '"""'


class Talk:
    """Reads messages and commands until the end of the input."""

    def __init__(self, conversation: Conversation, *, stream: bool) -> None:
        self.conversation = conversation
        self.stream = stream
        self.note = conversation.invocation.output.note
        self.commands: dict[str, tuple[str, str, Callable[[str], None]]] = {
            "/help": ("", "show this list", self._help),
            "/model": (
                "[ID]",
                "show or change what is asked: an endpoint, or a Google-managed PUBLISHER/MODEL",
                self._model,
            ),
            "/compare": ("[ID|off]", "also ask the base model, or ID, and print both answers", self._compare),
            "/system": ("[TEXT]", "set the system message, or remove it", self._system),
            "/temp": ("[X]", "set the temperature, or return to the model's", self._temperature),
            "/retry": ("", "ask the last question again", self._retry),
            "/image": ("FILE", "send an image with the next message", self._image),
            "/history": ("", "show the conversation", self._history),
            "/reset": ("", "forget the conversation, but not the system message", self._reset),
            "/save": ("FILE", "save the conversation", self._save),
            "/exit": ("", "quit, as Ctrl-D does", self._exit),
        }

    def run(self) -> None:
        """Run until Ctrl-D, /exit, or two Ctrl-C at the prompt."""
        with contextlib.suppress(ImportError):
            import readline

            # A paste arrives as one message, even with line breaks.
            with contextlib.suppress(Exception):  # libedit does not support this setting
                readline.parse_and_bind("set enable-bracketed-paste on")
        self.banner()
        interrupted = False
        while True:
            try:
                text = self._read()
            except EOFError:
                self.conversation.invocation.output.piece("\n")
                return
            except KeyboardInterrupt:
                if interrupted:
                    raise
                interrupted = True
                self.note("\nCtrl-C again, Ctrl-D or /exit quits")
                continue
            interrupted = False
            try:
                if text.startswith("/"):
                    self._command(text)
                elif text:
                    self.conversation.ask(text, stream=self.stream)
            except _EndError:
                return
            except RunnerError as error:
                # Neither a failure nor Ctrl-C ends the conversation.
                self.conversation.invocation.output.failure(error.to_json())
            except KeyboardInterrupt:
                self.note("\nstopped; /retry asks again")

    def banner(self) -> None:
        """Print which model answers, where, and how to continue."""
        from runner.serving.origins import origin_of
        from runner.serving.stand_ins import of_endpoint

        conversation = self.conversation
        endpoint, model = conversation.where.get("endpoint"), conversation.where.get("model")
        session = conversation.session
        lines = [f"{model}, in {session.environment.target}"] if model else []
        if endpoint is not None:
            base = origin_of(session, endpoint).base_model
            lines = [f"{endpoint.display_name or endpoint.id}, in {session.environment.target}"]
            lines += [f"tuned from {base}"] if base else []
            found = of_endpoint(session, endpoint)
            lines += [f"stand-in: {found} answers, not {base or 'the base model'}"] if found else []
        for line in lines:
            self.note(line)
        self.note(
            '/help lists commands; a \\ at the end of a line, or """, begins a message of several lines; Ctrl-D quits'
        )

    def _read(self) -> str:
        """Return one message: a line, a paste, lines that end with a backslash, or text in triple quotes."""
        text = input(_PROMPT)
        if text.strip().startswith(_BLOCK):
            lines = [text.strip()[len(_BLOCK) :]]
            while not lines[-1].rstrip().endswith(_BLOCK) or (len(lines) == 1 and not lines[0].strip(_BLOCK)):
                lines.append(input(_MORE))
            return "\n".join(lines).strip().removesuffix(_BLOCK).strip()
        while text.endswith("\\"):
            text = f"{text[:-1]}\n{input(_MORE)}"
        return text.strip()

    def _command(self, line: str) -> None:
        name, _, rest = line.partition(" ")
        known = {"/quit": "/exit", "/temperature": "/temp", "/base": "/compare", "/clear": "/reset"}
        found = self.commands.get(known.get(name, name))
        if found is None:
            near = difflib.get_close_matches(name, list(self.commands), n=1)
            meant = f"did you mean {near[0]}? " if near else ""
            self.note(
                f"there is no command {name}: {meant}/help lists them; a space before the / sends it as a message"
            )
            return
        arguments, _, act = found
        if arguments and not arguments.startswith("[") and not rest.strip():
            self.note(f"{name} needs {arguments}")
            return
        act(rest.strip())

    def _help(self, rest: str) -> None:
        for name, (arguments, text, _) in self.commands.items():
            self.note(f"{f'{name} {arguments}'.strip():<20} {text}")
        self.note(f"{'Ctrl-C':<20} stop an answer; the conversation continues")

    def _model(self, rest: str) -> None:
        from runner.serving.prediction import resolve_endpoint

        conversation = self.conversation
        if rest:
            managed = "/" in rest and not rest.startswith("projects/")
            conversation.where = (
                {"model": rest} if managed else {"endpoint": resolve_endpoint(conversation.session, rest)}
            )
        self.banner()

    def _compare(self, rest: str) -> None:
        conversation = self.conversation
        if rest == "off":
            conversation.base = ""
            self.note("only the tuned model is asked")
            return
        conversation.base = rest or base_of(conversation)
        self.note(f"{conversation.base} is asked too")

    def _system(self, rest: str) -> None:
        others = [message for message in self.conversation.messages if message["role"] != "system"]
        self.conversation.messages = [*([{"role": "system", "content": rest}] if rest else []), *others]
        self.note("system message set" if rest else "no system message")

    def _temperature(self, rest: str) -> None:
        try:
            value = float(rest) if rest else None
        except ValueError:
            value = -1.0
        if value is not None and not 0 <= value <= 2:
            self.note(f"{rest!r} is not a temperature: 0 to 2")
            return
        self.conversation.sampling["temperature"] = value
        self.note("the model's temperature" if value is None else f"temperature {value:g}")

    def _retry(self, rest: str) -> None:
        conversation = self.conversation
        if conversation.asked is None:
            self.note("there is no question yet")
            return
        if len(conversation.messages) >= 2 and conversation.messages[-2].get("content") == conversation.asked:
            conversation.messages = conversation.messages[:-2]
        conversation.ask_content(conversation.asked, stream=self.stream)

    def _image(self, rest: str) -> None:
        self.conversation.images.append(image_part(rest))
        self.note("it is sent with the next message")

    def _history(self, rest: str) -> None:
        for message in self.conversation.messages:
            self.note(f"{message['role']}: {text_of(message)}")

    def _reset(self, rest: str) -> None:
        conversation = self.conversation
        conversation.messages = [message for message in conversation.messages if message["role"] == "system"]
        conversation.images = []
        self.note("the conversation is forgotten")

    def _save(self, rest: str) -> None:
        self.conversation.save(local_files.expanded(rest))
        self.note(f"saved to {rest}")

    def _exit(self, rest: str) -> None:
        raise _EndError


class _EndError(Exception):
    """The user ended the conversation."""


def base_of(conversation: Conversation) -> str:
    """Return the base model of an endpoint. Raises ConfigurationError if it is unknown."""
    from runner.serving.origins import origin_of

    endpoint: Any = conversation.where.get("endpoint")
    base = origin_of(conversation.session, endpoint).base_model if endpoint is not None else ""
    if not base:
        raise ConfigurationError("the base model is not known", hint="name a Google-managed PUBLISHER/MODEL")
    return base
