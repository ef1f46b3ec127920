"""Compare the answers per second of `runner batch` with sending the same questions one after another.

    python -m benchmarks.batch_rate [--lines 400] [--concurrency 8] [--tokens 16] [--repeats 3]

The emulator serves a tiny model. Both methods alternate, because the speed of a shared machine drifts, and medians and
spreads are printed. The batch includes an fsync of the journal for every answer.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from pathlib import Path

from runner.emulator.server import EmulatorServer
from runner.emulator.settings import EmulatorSettings
from runner.environment import Environment
from runner.gcp import endpoints, operations, prediction
from runner.gcp.endpoints import Endpoint
from runner.gcp.session import Session
from runner.serving.batches.online import run_batch
from tests.provisioning import provision

MODEL = "publishers/meta/models/llama3_1@llama-3.1-8b-instruct"


def deploy(session: Session) -> Endpoint:
    """Deploy the base model to a new endpoint."""
    answer = session.http.post(
        f"/v1beta1/{session.environment.parent}:deploy",
        json={"publisherModelName": MODEL, "endpointConfig": {"endpointDisplayName": "benchmark"}},
    )
    made = operations.wait(session, answer.raise_for_status().json()["name"], timeout=300, poll=0.5)
    return endpoints.get_endpoint(session, made["endpoint"])


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--lines", type=int, default=400)
    parser.add_argument("--concurrency", type=int, default=8)
    parser.add_argument("--tokens", type=int, default=16)
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="batch-") as name:
        directory = Path(name)
        questions = directory / "questions.jsonl"
        messages = [[{"role": "user", "content": f"What is {index}?"}] for index in range(options.lines)]
        questions.write_text("".join(json.dumps({"messages": item}) + "\n" for item in messages))
        sampling = {"max_tokens": options.tokens, "temperature": 0.0, "ignore_eos": True}
        settings = EmulatorSettings(directory=directory / "emulator", stand_in="tiny")
        with EmulatorServer(settings) as server:
            project = provision(server.url, "benchmark")
            environment = Environment(project=project.project, vertex_url=server.url, token="a-token")  # noqa: S106
            with Session(environment) as session:
                endpoint = deploy(session)
                together: list[float] = []
                alone: list[float] = []
                for number in range(options.repeats):
                    output = directory / f"answers-{number}.jsonl"
                    done = run_batch(
                        session, endpoint, questions, output, concurrency=options.concurrency, sampling=sampling
                    )
                    together.append(done.per_second)
                    few = messages[: max(10, options.lines // 4)]
                    start = time.perf_counter()
                    for one in few:
                        prediction.chat(session, endpoint=endpoint, messages=one, **sampling)
                    alone.append(len(few) / (time.perf_counter() - start))
    for title, rates in ((f"batch, {options.concurrency} at once", together), ("one after the other", alone)):
        spread = f"{min(rates):.1f} to {max(rates):.1f}"
        print(f"{title}: {statistics.median(rates):.1f} answers a second ({spread})")
    print(f"ratio {statistics.median(together) / statistics.median(alone):.2f}")


if __name__ == "__main__":
    main()
