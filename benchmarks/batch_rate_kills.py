"""Kill a long `runner batch` several times, and check that every line has one answer, in order.

    python -m benchmarks.batch_rate_kills [--lines 10000] [--kills 5] [--concurrency 16] [--tokens 2] [--seed N]

The emulator serves a tiny model. The command is killed (SIGKILL) when its journal has a random number of answers, and
started again. At the end, the output must contain every line once, in the order of the input. For a sample of lines,
the answer must equal the model's answer to the same question alone. The emulator's count of requests must show that
answers on disk were not requested again.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.batch_rate import deploy
from runner.emulator.server import EmulatorServer
from runner.emulator.settings import EmulatorSettings
from runner.environment import Environment
from runner.gcp import prediction, usage
from runner.gcp.endpoints import Endpoint
from runner.gcp.session import Session
from tests.provisioning import provision


def answered(journal: Path) -> int:
    """Return the number of answers on disk."""
    try:
        return max(0, journal.read_bytes().count(b"\n") - 1)
    except FileNotFoundError:
        return 0


def requests_of(session: Session, endpoint: Endpoint, since: float) -> int:
    """Return the emulator's count of requests."""
    return sum(item.requests for item in usage.serving_figures(session, endpoint.id, since).values())


def run(options: argparse.Namespace, session: Session, endpoint: Endpoint, directory: Path) -> list[str]:
    """Run the command, kill it, and return the violations."""
    chance = random.Random(options.seed)
    source, output = directory / "questions.jsonl", directory / "answers.jsonl"
    journal = output.with_name(output.name + ".journal")
    questions = [f"What is {index}?" for index in range(options.lines)]
    source.write_text(
        "".join(
            json.dumps({"id": f"q{index}", "messages": [{"role": "user", "content": text}]}) + "\n"
            for index, text in enumerate(questions)
        )
    )
    variables = {
        **os.environ,
        "RUNNER_PROJECT": session.environment.project,
        "RUNNER_VERTEX_URL": str(session.environment.vertex_url),
        "RUNNER_TOKEN": "a-token",
        "RUNNER_STATE_DIR": str(directory / "state"),
    }
    command = [sys.executable, "-m", "runner", "batch", str(source), "--endpoint", endpoint.id, "-o", str(output)]
    command += ["--concurrency", str(options.concurrency), "--max-tokens", str(options.tokens), "--temperature", "0"]
    command += ["--format", "json"]
    wrong: list[str] = []
    since = time.time() - 60
    start = time.monotonic()
    kept = 0
    for stop in sorted(chance.sample(range(options.lines // 50, options.lines * 19 // 20), options.kills)):
        child = subprocess.Popen(command, env=variables, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        while answered(journal) < stop:
            if child.poll() is not None:
                raise RuntimeError(child.communicate()[1].decode())
            time.sleep(0.05)
        child.send_signal(signal.SIGKILL)
        child.communicate()
        if output.exists():
            wrong.append("the output was there before every line was answered")
        kept = answered(journal)
        print(f"killed at {kept} answers, {time.monotonic() - start:.0f} s", flush=True)
    done = subprocess.run(command, env=variables, capture_output=True, text=True, check=True)
    if json.loads(done.stdout)["asked"] != options.lines - kept:
        wrong.append(f"the last run asked {json.loads(done.stdout)['asked']}, not {options.lines - kept}")
    seconds = time.monotonic() - start
    answers = [json.loads(line) for line in output.read_text().splitlines()]
    if [answer["id"] for answer in answers] != [f"q{index}" for index in range(options.lines)]:
        wrong.append("the output has not every line once, in order")
    wrong += [f"{answer['id']} has no answer" for answer in answers if "answer" not in answer]
    asked = requests_of(session, endpoint, since)
    if not options.lines <= asked <= options.lines + options.kills * options.concurrency:
        wrong.append(f"{asked} requests for {options.lines} lines")
    for index in chance.sample(range(options.lines), min(50, options.lines)):
        question = [{"role": "user", "content": questions[index]}]
        alone = prediction.chat(session, endpoint=endpoint, messages=question, max_tokens=options.tokens, temperature=0)
        if alone.text != answers[index].get("answer"):
            wrong.append(f"q{index} has the answer {answers[index].get('answer')!r}, not {alone.text!r}")
    print(
        f"{options.lines} lines, {options.kills} kills, {options.concurrency} at once: {seconds:.0f} s, "
        f"{options.lines / seconds:.1f} answers a second with all starts; {asked} requests, "
        f"{asked - options.lines} of them answers that a kill kept from the disk"
    )
    return wrong


def main() -> int:
    """Run once; exit code 1 if there are violations."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--lines", type=int, default=10_000)
    parser.add_argument("--kills", type=int, default=5)
    parser.add_argument("--concurrency", type=int, default=16)
    parser.add_argument("--tokens", type=int, default=2)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10**6))
    options = parser.parse_args()
    print(f"seed {options.seed}")
    with tempfile.TemporaryDirectory(prefix="batch-") as name:
        directory = Path(name)
        settings = EmulatorSettings(directory=directory / "emulator", stand_in="tiny")
        with EmulatorServer(settings) as server:
            project = provision(server.url, "benchmark")
            environment = Environment(project=project.project, vertex_url=server.url, token="a-token")  # noqa: S106
            with Session(environment) as session:
                enable = f"/v1/projects/{project.project}/services:batchEnable"
                session.http.post(enable, json={"serviceIds": ["monitoring.googleapis.com"]}).raise_for_status()
                wrong = run(options, session, deploy(session), directory)
    for line in wrong[:20]:
        print(f"FAILED {line}")
    print(f"{len(wrong)} not as promised")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
