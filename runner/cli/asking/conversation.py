"""A conversation with a model, which can be saved and repeated."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runner import local_files
from runner.serving.messages import VERSION, image_part, read_messages, text_of

if TYPE_CHECKING:
    from runner.cli.options import Invocation
    from runner.gcp.session import Session


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
        self.base = ""
        """Base model that also answers; "" for none."""
        self.messages: list[dict[str, Any]] = [{"role": "system", "content": system}] if system else []
        self.sampling = sampling
        self.images = [image_part(image) for image in images]
        self.asked: Any = None
        """Content of the last question, for another attempt."""

    def ask(self, text: str, *, stream: bool) -> str:
        """Print the answer to one message, add both to the conversation, and return the answer."""
        content: Any = [*self.images, {"type": "text", "text": text}] if self.images else text
        self.images = []
        return self.ask_content(content, stream=stream)

    def ask_content(self, content: Any, *, stream: bool) -> str:
        """Print the answer to a message's content, and add both to the conversation."""
        self.asked = content
        asked = [*self.messages, {"role": "user", "content": content}]
        if self.base and stream:
            self._print(asked, {"model": self.base}, title="base:  ")
        said = self._print(asked, self.where, title="tuned: " if self.base else "") if stream else self._whole(asked)
        self.messages = [*asked, {"role": "assistant", "content": said}]
        return said

    def _whole(self, asked: list[dict[str, Any]]) -> str:
        """Print answers after they are complete; return that of the model."""
        from runner.serving.prediction import chat

        answer = chat(self.session, messages=asked, **self.where, **self.sampling)
        body = {
            "text": answer.text,
            "finishReason": answer.finish_reason,
            "model": answer.model,
            "usage": answer.usage,
        }
        text = answer.text
        if self.base:
            base = chat(self.session, messages=asked, model=self.base, **self.sampling)
            body["base"] = {"model": self.base, "text": base.text, "finishReason": base.finish_reason}
            text = f"base:  {base.text}\ntuned: {answer.text}"
        self.invocation.output.result(body, text, name=answer.text)
        self._explain(answer.text, answer.finish_reason)
        return str(answer.text)

    def _print(self, asked: list[dict[str, Any]], where: dict[str, Any], *, title: str) -> str:
        """Print an answer while it arrives, and return it."""
        from runner.serving.prediction import chat

        output = self.invocation.output
        pieces: list[str] = []
        reason = ""
        try:
            for chunk in chat(self.session, messages=asked, stream=True, **where, **self.sampling):
                if not pieces and title:
                    output.piece(title)
                output.piece(chunk.text)
                pieces.append(chunk.text)
                reason = chunk.finish_reason or reason
        finally:
            if pieces:
                output.piece("\n")
        said = "".join(pieces)
        self._explain(said, reason)
        return said

    def _explain(self, said: str, reason: str) -> None:
        if not said.strip():
            why = (
                "it reached --max-tokens before its first visible character"
                if reason == "length"
                else "the model ended it at once"
            )
            self.invocation.output.note(f"the answer is empty: {why}")
        elif reason == "length":
            self.invocation.output.note("the answer is cut off at the limit of tokens: --max-tokens raises it")

    def save(self, path: Path) -> None:
        """Write the conversation, readable only for this user. Raises DiskError, ConfigurationError."""
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
        """Continue a saved conversation. Raises ConfigurationError."""
        self.messages = read_messages(path)

    def replay(self, path: Path) -> int:
        """Send a saved conversation's questions again.

        Print both answers if they differ, and return the number of differences.
        """
        from runner.serving.prediction import chat

        output = self.invocation.output
        results = []
        before: list[dict[str, Any]] = []
        saved = read_messages(path)
        for message in saved:
            if message["role"] == "assistant" and before:
                # Sent with the saved answers as context, so that each answer is compared separately.
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
