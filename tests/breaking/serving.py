"""A model server that answers at once, in this process, where the emulator would start one of its own."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socketserver
import threading
from pathlib import Path
from typing import Any

from tests.local_server import Handler


class _Answering(Handler):
    disable_nagle_algorithm = False  # a Unix socket has none

    def address_string(self) -> str:
        return "local"

    def answer_get(self) -> None:
        self.send_json(200, {})

    def answer_post(self) -> None:
        asked = json.loads(self.body())
        if "instances" in asked:
            self.send_json(200, {"predictions": [answer_to(str(item.get("prompt"))) for item in asked["instances"]]})
            return
        if asked.get("logprobs") or asked.get("stream") or "messages" not in asked:
            error = {"code": 400, "message": "not here", "status": "INVALID_ARGUMENT"}
            self.send_json(400, {"error": error})
            return
        message = {"role": "assistant", "content": answer_to(str(asked["messages"][-1]["content"]))}
        usage = {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}
        choice = {"index": 0, "message": message, "finish_reason": "stop"}
        self.send_json(200, {"model": "quick", "choices": [choice], "usage": usage})


def answer_to(question: str) -> str:
    """Return what every model here answers."""
    return f"answer to {question}"


class _Server(socketserver.ThreadingUnixStreamServer):
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Whoever asked has gone."""


class QuickProcess:
    """Answers on the socket that the emulator chose."""

    def __init__(self, directory: Path) -> None:
        self._server = _Server(json.loads((directory / "serving.json").read_text())["socket"], _Answering)
        # Hundreds stay deployed during a sweep: none of them looks around while nobody asks it.
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 5.0}, daemon=True)
        self._thread.start()
        self._ended = threading.Event()
        self._waiting: list[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = []

    def is_alive(self) -> bool:
        """Tell whether it runs."""
        return not self._ended.is_set()

    def kill(self) -> None:
        """End it."""
        if self._ended.is_set():
            return
        self._ended.set()
        for loop, event in self._waiting:
            loop.call_soon_threadsafe(event.set)
        threading.Thread(target=self._end, daemon=True).start()  # the event loop does not wait for it

    def _end(self) -> None:
        self._server.shutdown()
        with contextlib.suppress(OSError):
            self._server.server_close()

    async def wait(self) -> int:
        """Return its exit code."""
        event = asyncio.Event()
        self._waiting.append((asyncio.get_running_loop(), event))
        if not self._ended.is_set():
            await event.wait()
        return 0


class QuickLauncher:
    """Starts `QuickProcess`es for deployments, and what another launcher starts for everything else."""

    def __init__(self, other: Any) -> None:
        self._other = other

    def available(self) -> None:
        """Nothing is missing."""

    def start_serving(self, directory: Path) -> QuickProcess:
        """Start one."""
        return QuickProcess(directory)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._other, name)
