"""Number of small objects that the emulator stores and returns per second.

    python -m benchmarks.storage_rate [--seconds 10] [--clients 32] [--size 4096]

Starts a server as a separate process with a new state directory. Each client has one connection and repeats: put an
object with a new name (multipart, like Google's library), get it, compare. Both count as one operation. Every put is on
disk when it is acknowledged. The reference is the in-memory backend of fake-gcs-server 1.56.1, which stores nothing on
disk: 785 operations per second with 32 clients and 4 KiB objects, measured on two shared cores. Clients and server
share the machine, so only compare measurements on an idle machine.
"""

from __future__ import annotations

import argparse
import http.client
import json
import multiprocessing
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path

REFERENCE = 785
"""Operations per second of the reference."""
_PROCESSES = 4
_BUCKET = "rate-bucket"
_SERVER = """
import sys
from pathlib import Path
from runner.emulator.server import serve
from runner.emulator.settings import EmulatorSettings
serve(EmulatorSettings(directory=Path(sys.argv[1])), ready_file=Path(sys.argv[2]))
"""


@dataclass(slots=True)
class Outcome:
    """The measurements of the clients: seconds of every operation, and the errors."""

    puts: list[float] = field(default_factory=list)
    gets: list[float] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    cpu: float | None = None
    """CPU seconds of the server during the run; None if the system does not report them (this needs /proc)."""


def _client(port: int, name: str, size: int, until: float, outcome: Outcome) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    data = os.urandom(size)
    number = 0
    try:
        while time.monotonic() < until:
            number += 1
            key = f"{name}-{number}"
            head = json.dumps({"name": key}).encode()
            body = b"--b\r\nContent-Type: application/json\r\n\r\n" + head
            body += b"\r\n--b\r\nContent-Type: application/octet-stream\r\n\r\n" + data + b"\r\n--b--"
            began = time.perf_counter()
            connection.request(
                "POST",
                f"/upload/storage/v1/b/{_BUCKET}/o?uploadType=multipart",
                body,
                {"Content-Type": "multipart/related; boundary=b"},
            )
            answer = connection.getresponse()
            answer.read()
            stored = time.perf_counter()
            outcome.puts.append(stored - began)
            connection.request("GET", f"/download/storage/v1/b/{_BUCKET}/o/{key}?alt=media")
            media = connection.getresponse()
            received = media.read()
            outcome.gets.append(time.perf_counter() - stored)
            if answer.status != 200 or media.status != 200 or received != data:
                outcome.errors.append(f"{key}: {answer.status}, {media.status}, {len(received)} bytes")
    except (OSError, http.client.HTTPException) as error:
        outcome.errors.append(f"{name}: {error!r}")


def _process(port: int, index: int, clients: int, size: int, seconds: float, pipe: Connection) -> None:
    """Run some of the clients as threads; send their result."""
    outcome = Outcome()
    pipe.send("ready")
    pipe.recv()
    until = time.monotonic() + seconds
    threads = [
        threading.Thread(target=_client, args=(port, f"p{index}c{number}", size, until, outcome))
        for number in range(clients)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    pipe.send(outcome)


def _start_server(directory: Path) -> tuple[subprocess.Popen[bytes], int]:
    ready = directory / "url"
    server = subprocess.Popen([sys.executable, "-c", _SERVER, str(directory / "state"), str(ready)])
    while not ready.exists():
        if server.poll() is not None:
            raise SystemExit("the server did not start")
        time.sleep(0.05)
    return server, int(ready.read_text().rpartition(":")[2])


def _cpu_seconds(process: int) -> float | None:
    try:
        fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _make_bucket(port: int) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    connection.request("POST", "/storage/v1/b?project=rate", json.dumps({"name": _BUCKET, "location": "us-central1"}))
    answer = connection.getresponse()
    text = answer.read()
    assert answer.status == 200, text
    connection.close()


def measure(*, clients: int, size: int, seconds: float) -> Outcome:
    """Run the clients against a new server; return their measurements."""
    total = Outcome()
    context = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory() as directory:
        server, port = _start_server(Path(directory))
        try:
            _make_bucket(port)
            shares = [clients // _PROCESSES + (index < clients % _PROCESSES) for index in range(_PROCESSES)]
            pipes, workers = [], []
            for index, share in enumerate(share for share in shares if share):
                ours, theirs = context.Pipe()
                worker = context.Process(target=_process, args=(port, index, share, size, seconds, theirs))
                worker.start()
                pipes.append(ours)
                workers.append(worker)
            for pipe in pipes:
                pipe.recv()
            before = _cpu_seconds(server.pid)
            for pipe in pipes:
                pipe.send("go")
            for pipe in pipes:
                outcome: Outcome = pipe.recv()
                total.puts += outcome.puts
                total.gets += outcome.gets
                total.errors += outcome.errors
            after = _cpu_seconds(server.pid)
            total.cpu = after - before if before is not None and after is not None else None
            for worker in workers:
                worker.join()
        finally:
            server.terminate()
            server.wait(30)
    return total


def _line(name: str, times: list[float]) -> str:
    cuts = statistics.quantiles(times, n=100)
    return f"{name}: median {cuts[49] * 1000:.1f} ms, p99 {cuts[98] * 1000:.1f} ms"


def main() -> int:
    """Print the rate; exit 1 if anything failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--clients", type=int, default=32)
    parser.add_argument("--size", type=int, default=4096, help="bytes of an object")
    arguments = parser.parse_args()
    outcome = measure(clients=arguments.clients, size=arguments.size, seconds=arguments.seconds)
    rate = (len(outcome.puts) + len(outcome.gets)) / arguments.seconds
    print(f"{arguments.clients} clients, {arguments.size} bytes, {arguments.seconds:g} s")
    print(f"{rate:.0f} operations/s, {rate / REFERENCE:.2f} times the reference's {REFERENCE}")
    print(_line("put", outcome.puts))
    print(_line("get", outcome.gets))
    if outcome.cpu is not None:
        # Unlike the rate, this hardly depends on other load on the machine.
        operations = len(outcome.puts) + len(outcome.gets)
        print(f"server: {outcome.cpu / operations * 1e6:.0f} µs of CPU per operation")
    print(f"{len(outcome.errors)} errors")
    for error in outcome.errors[:10]:
        print(f"  {error}")
    return 1 if outcome.errors else 0


if __name__ == "__main__":
    raise SystemExit(main())
