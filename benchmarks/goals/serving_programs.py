"""The servers that are measured, and their client."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.goals import machine, peers
from runner.emulator.engine.launcher import Launcher
from runner.emulator.engine.protocol import ModelSource, ServingSpec
from runner.emulator.engine.smollm2 import NAME

_START_SECONDS = 180


@dataclass(slots=True)
class Program:
    """A server that answers chat completions."""

    name: str
    address: str
    """Path of a Unix socket, or a port on this machine."""
    path: str
    process: int
    more: dict[str, Any]
    """Additional request fields that fix the length of the answer."""
    sampled: dict[str, Any]
    """Additional fields of requests with sampling."""
    weights: Path = Path()
    facts: dict[str, str] = field(default_factory=dict)

    def connect(self) -> http.client.HTTPConnection:
        """Return a new connection."""
        if not self.address.startswith("/"):
            return http.client.HTTPConnection("127.0.0.1", int(self.address), timeout=600)
        connection = http.client.HTTPConnection("model", timeout=600)
        connection.sock = socket.socket(socket.AF_UNIX)
        connection.sock.connect(self.address)
        return connection

    def peak_megabytes(self) -> float:
        """Return the peak memory of the process in megabytes."""
        return machine.memory(self.process)[1]


def ask(program: Program, messages: list[dict[str, str]], tokens: int, sampled: bool, text: bool = True) -> float:
    """Read one streamed answer and return the seconds to its first token.

    Args:
        program: the server.
        messages: the messages of the chat.
        tokens: the length of the answer.
        sampled: whether the server samples tokens.
        text: whether to check that the answer has text; tokens of a model with random weights may have none.
    """
    body = {"messages": messages, "max_tokens": tokens, "temperature": 0, "stream": True, **program.more}
    body |= program.sampled if sampled else {}
    connection = program.connect()
    start, first, pieces = time.perf_counter(), 0.0, 0
    connection.request("POST", program.path, json.dumps(body), {"Content-Type": "application/json"})
    answer = connection.getresponse()
    if answer.status != 200:
        raise RuntimeError(f"{program.name}: {answer.status} {answer.read()[:500]!r}")
    for line in answer:
        if line.startswith(b"data: {"):
            choices = json.loads(line[6:]).get("choices") or [{}]
            if (choices[0].get("delta") or {}).get("content"):
                first = first or time.perf_counter() - start
                pieces += 1
    connection.close()
    if text and pieces < tokens // 2:
        raise RuntimeError(f"{program.name} streamed {pieces} pieces of text for {tokens} tokens")
    return first


@contextlib.contextmanager
def emulator(folder: Path, threads: int) -> Iterator[Program]:
    """Start a serving process of the emulator."""
    models = peers.cache() / "weights"
    spec = ServingSpec(
        source=ModelSource(kind="smollm2"),
        socket=str(folder / "serving" / "model.sock"),
        name="smollm2",
        threads=threads,
        cache_directory=str(models),
    )
    with serving(spec, folder / "serving") as program:
        program.weights = models / NAME
        yield program


@contextlib.contextmanager
def serving(spec: ServingSpec, directory: Path) -> Iterator[Program]:
    """Start a serving process of the emulator from a spec."""
    launcher, path = Launcher(training_threads=spec.threads), Path(spec.socket)
    directory.mkdir(parents=True, exist_ok=True)
    spec.write(directory / "serving.json")
    try:
        worker = launcher.start_serving(directory)
        while not path.exists():
            if not worker.is_alive():
                raise RuntimeError((directory / "worker.log").read_text())
            time.sleep(0.05)
        assert worker.pid is not None
        sampled = {"temperature": 0.8, "top_p": 0.95}
        exact = {"ignore_eos": True}
        yield Program("the emulator", str(path), "/chat/completions", worker.pid, exact, sampled)
    finally:
        launcher.close()


@contextlib.contextmanager
def transformers(python: Path, weights: Path, threads: int) -> Iterator[Program]:
    """Start `transformers serve --continuous-batching`."""
    port = _free_port()
    command = [str(python.with_name("transformers")), "serve", str(weights), "--host", "127.0.0.1", "--port", port]
    # By default, its cache uses nine tenths of the memory; these options give it as many positions as the others have.
    command += ["--device", "cpu", "--continuous-batching", "--cb-block-size", "32", "--cb-num-blocks", "1024"]
    command += ["--cb-max-batch-tokens", "1024"]

    def more(**fields: Any) -> dict[str, Any]:
        exact = {"max_new_tokens": 16, "min_new_tokens": 16, **fields}
        return {"model": str(weights), "generation_config": json.dumps(exact)}

    greedy, sampled = more(do_sample=False), more(do_sample=True, temperature=0.8, top_p=0.95)
    with _process(command, threads, port, "/health") as process:
        name = "transformers serve, continuous batching"
        yield Program(name, port, "/v1/chat/completions", process, greedy, {**sampled, "temperature": 0.8})


_LLAMA_CPP = """
import json, os, sys, time
import xllamacpp
parameters = xllamacpp.CommonParams()
parameters.model.path, port, threads = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
parameters.hostnames = ["127.0.0.1"]
parameters.port = port
parameters.n_ctx = 32768
parameters.kv_unified = True
parameters.n_parallel = 64
parameters.cpuparams.n_threads = threads
parameters.cpuparams_batch.n_threads = threads
server = xllamacpp.Server(parameters)
print(json.dumps({"address": server.listening_address, "system": xllamacpp.get_system_info()}), flush=True)
time.sleep(1e9)
"""


@contextlib.contextmanager
def llama_cpp(python: Path, weights: Path, threads: int, kind: str) -> Iterator[Program]:
    """Start llama.cpp's server, from the package xllamacpp, on the same weights in `BF16` or `Q8_0`."""
    from benchmarks.goals.gguf_weights import convert

    file, port = convert(weights.parent, kind), _free_port()
    command = [str(python), "-c", _LLAMA_CPP, str(file), port, str(threads)]
    sampled = {"temperature": 0.8, "top_p": 0.95}
    with _process(command, threads, port, "/health") as process:
        exact = {"ignore_eos": True, "cache_prompt": True}
        yield Program(f"llama.cpp, {kind}", port, "/v1/chat/completions", process, exact, sampled)


@contextlib.contextmanager
def _process(command: list[str], threads: int, port: str, health: str) -> Iterator[int]:
    """Run a server during the block, which begins when the server answers `health`."""
    process = subprocess.Popen(
        command,
        env=peers.variables(threads),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        deadline = time.monotonic() + _START_SECONDS
        while not _answers(port, health):
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"{' '.join(command[:2])}… does not serve (exit code {process.poll()})")
            time.sleep(0.2)
        yield process.pid
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _answers(port: str, path: str) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", int(port), timeout=5)
    try:
        connection.request("GET", path)
        return connection.getresponse().status == 200
    except OSError:
        return False
    finally:
        connection.close()


def _free_port() -> str:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return str(probe.getsockname()[1])
