"""A conversation with a model: what was said, kept, saved and said again."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runner import local_files
from runner.errors import RunnerError
from runner.serving.messages import VERSION, image_part, read_messages, text_of

if TYPE_CHECKING:
    from runner.cli.options import Invocation
    from runner.gcp.session import Session

_HELP = """/history shows the conversation, /reset clears it, /system TEXT sets the system message,
/image FILE sends an image with the next message, /save FILE saves the conversation,
/exit or Ctrl-D quits, Ctrl-C stops an answer."""


class Conversation:
    """Messages to one model and its answers."""

    def __init__(
        self,
        invocation: Invocation,
        session: Session,
        where: dict[str, Any],
        system: str | None,
        sampling: dict[str, Any],
        images: tuple[str, ...] = (),
    ) -> None:
        self.invocation = invocation
        self.session = session
        self.where = where
        self.messages: list[dict[str, Any]] = [{"role": "system", "content": system}] if system else []
        self.sampling = sampling
        self.images = [image_part(image) for image in images]

    def ask(self, text: str, *, stream: bool) -> str:
        """Print the answer to one message, remember both, and return the answer."""
        from runner.serving.prediction import chat

        output = self.invocation.output
        content: Any = [*self.images, {"type": "text", "text": text}] if self.images else text
        asked = [*self.messages, {"role": "user", "content": content}]
        if stream:
            pieces: list[str] = []
            try:
                for chunk in chat(self.session, messages=asked, stream=True, **self.where, **self.sampling):
                    output.piece(chunk.text)
                    pieces.append(chunk.text)
            finally:
                if pieces:
                    output.piece("\n")
            said = "".join(pieces)
        else:
            answer = chat(self.session, messages=asked, **self.where, **self.sampling)
            said = answer.text
            body = {"text": said, "finishReason": answer.finish_reason, "model": answer.model, "usage": answer.usage}
            output.result(body, said, name=said)
        self.images = []
        self.messages = [*asked, {"role": "assistant", "content": said}]
        return said

    def converse(self, *, stream: bool) -> None:
        """Read messages from the terminal until its end."""
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
            try:
                if line.startswith("/"):
                    self._command(line)
                elif line:
                    self.ask(line, stream=stream)
            except RunnerError as error:
                # Neither a failure nor Ctrl-C ends the conversation.
                self.invocation.output.failure(error.to_json())
            except KeyboardInterrupt:
                self.invocation.output.note("stopped")

    def _command(self, line: str) -> None:
        name, _, rest = line.partition(" ")
        rest = rest.strip()
        note = self.invocation.output.note
        if name == "/reset":
            self.messages = [message for message in self.messages if message["role"] == "system"]
            self.images = []
        elif name == "/history":
            for message in self.messages:
                note(f"{message['role']}: {text_of(message)}")
        elif name == "/system":
            others = [message for message in self.messages if message["role"] != "system"]
            self.messages = [*([{"role": "system", "content": rest}] if rest else []), *others]
        elif name == "/image" and rest:
            self.images.append(image_part(rest))
            note("it is sent with the next message")
        elif name == "/save" and rest:
            self.save(Path(rest))
            note(f"saved to {rest}")
        else:
            note(_HELP)

    def save(self, path: Path) -> None:
        """Write the conversation, for this user only. Raises DiskError, ConfigurationError."""
        endpoint = self.where.get("endpoint")
        body = {
            "version": VERSION,
            "endpoint": endpoint.name if endpoint is not None else None,
            "model": self.where.get("model"),
            "sampling": {key: value for key, value in self.sampling.items() if value is not None},
            "messages": self.messages,
        }
        local_files.replace(path, json.dumps(body, ensure_ascii=False, indent=1) + "\n", private=True)

    def resume(self, path: Path) -> None:
        """Go on with a saved conversation. Raises ConfigurationError."""
        self.messages = read_messages(path)

    def replay(self, path: Path) -> int:
        """Ask a saved conversation's questions again; print both answers where they differ, return how many do."""
        from runner.serving.prediction import chat

        output = self.invocation.output
        results = []
        before: list[dict[str, Any]] = []
        saved = read_messages(path)
        for message in saved:
            if message["role"] == "assistant" and before:
                # Asked after what was answered then, so that each answer is compared on its own.
                now = chat(self.session, messages=before, **self.where, **self.sampling)
                then = text_of(message)
                results.append(
                    {"question": text_of(before[-1]), "then": then, "now": now.text, "same": then == now.text}
                )
            before.append(message)
        different = [result for result in results if not result["same"]]
        lines = [f"> {item['question']}\nthen: {item['then']}\nnow:  {item['now']}" for item in different]
        summary = f"{len(results) - len(different)} of {len(results)} answers are the same"
        output.result({"answers": results, "different": len(different)}, "\n\n".join([*lines, summary]), name=summary)
        return len(different)
