"""The life of a serving process: a bounded queue, clients that leave, its end, weights that cannot be loaded."""

from __future__ import annotations

import json
import shutil
import socket
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from runner.emulator.engine.launcher import Launcher
from runner.emulator.engine.protocol import ModelSource, ServingSpec
from runner.emulator.engine.tiny import prepare_tiny
from tests.emulator.engine.serving_processes import LLAMA, chat, client_of, served

pytestmark = pytest.mark.training


def _ask(place: Path, path: str, body: dict[str, Any]) -> socket.socket:
    """Send a request and return its connection, unread."""
    content = json.dumps(body).encode()
    head = f"POST {path} HTTP/1.1\r\nHost: model\r\nContent-Type: application/json\r\nContent-Length: {len(content)}"
    connection = socket.socket(socket.AF_UNIX)
    connection.connect(str(place))
    connection.sendall(f"{head}\r\n\r\n".encode() + content)
    return connection


def test_a_full_queue_answers_429_and_a_disconnect_frees_its_place(launcher: Launcher, model_cache: Path) -> None:
    endless = chat("go on", stream=True, ignore_eos=True, temperature=1.0)
    with served(launcher, LLAMA, model_cache, max_batch=1, max_queue=1) as server:
        with client_of(server.socket) as streaming, client_of(server.socket) as waiting:
            with streaming.stream("POST", "/chat/completions", json=endless) as answer:
                events = answer.iter_raw()
                next(events)
                server.wait_for("runningSequences == 1 and queueDepth == 0")
                with ThreadPoolExecutor(1) as pool:
                    request = {"instances": [{"prompt": "x", "raw_response": True, "ignore_eos": True}]}
                    second = pool.submit(waiting.post, "/predict", json=request)
                    server.wait_for("queueDepth == 1")
                    for path, body in (("/predict", request), ("/chat/completions", endless)):
                        refused = server.post(path, body)
                        assert refused.status_code == 429
                        assert refused.json()["error"]["status"] == "RESOURCE_EXHAUSTED"
                    answer.close()  # the stream's client goes away, and the one that waits gets its place
                    assert second.result(120).json()["output_token_counts"] == [16]
            metrics = server.wait_for("runningSequences == 0")
            assert metrics["finishedSequences"]["cancelled"] == 1
            assert metrics["rejectedRequests"] == 2
        # The same for an answer that is not streamed.
        leaving = _ask(server.socket, "/chat/completions", {**endless, "stream": False})
        server.wait_for("runningSequences == 1")
        leaving.close()
        server.wait_for("runningSequences == 0 and finishedSequences['cancelled'] == 2")
        # Asked to end, it answers what has begun, within limits, and exits cleanly.
        with ThreadPoolExecutor(1) as pool:
            last = pool.submit(
                server.post, "/predict", {"instances": [{"prompt": "x", "max_tokens": 300, "ignore_eos": True}]}
            )
            server.wait_for("runningSequences == 1")
            server.process.terminate()
            assert last.result(120).status_code == 200
        assert server.process.join(30) == 0
        assert not server.socket.exists()


def test_weights_that_cannot_be_loaded_are_explained(launcher: Launcher, tmp_path: Path) -> None:
    (tmp_path / "weights").mkdir()
    source = ModelSource(kind="custom", directory=str(tmp_path / "weights"))
    spec = ServingSpec(source=source, socket=str(tmp_path / "s"), name="m", cache_directory=str(tmp_path))
    spec.write(tmp_path / "serving.json")
    assert launcher.start_serving(tmp_path).join(60) == 1
    failure = json.loads((tmp_path / "failed.json").read_text())
    assert failure.keys() == {"status", "message", "reason"}
    assert "config.json" in failure["message"]


def test_without_a_chat_template_there_is_no_chat_as_with_vllm(
    launcher: Launcher, model_cache: Path, tmp_path: Path
) -> None:
    bare = shutil.copytree(prepare_tiny("llama3", model_cache), tmp_path / "bare")
    (bare / "chat_template.jinja").unlink(missing_ok=True)
    configuration = json.loads((bare / "tokenizer_config.json").read_text())
    configuration.pop("chat_template", None)
    (bare / "tokenizer_config.json").write_text(json.dumps(configuration))
    source = ModelSource(kind="custom", family="llama3", directory=str(bare))
    with served(launcher, source, model_cache) as server:
        refused = server.post("/chat/completions", chat("x"))
        assert (refused.status_code, "chat template" in refused.json()["error"]["message"]) == (400, True)
        assert server.predict({"prompt": "x", "max_tokens": 2})["predictions"]
