"""Everything the library does, against an emulator in the same process: the program that test_local_only watches.

Usage: python -m tests.contract.local_flow DIRECTORY. Writes what Python's own sockets were asked to reach to
DIRECTORY/audit.json.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

reached: list[tuple[str, Any]] = []


def _hook(event: str, arguments: tuple[Any, ...]) -> None:
    if event in {"socket.connect", "socket.sendto", "socket.sendmsg"}:
        reached.append((event, arguments[1]))
    elif event in {"socket.getaddrinfo", "socket.gethostbyname", "socket.gethostbyaddr"}:
        reached.append((event, arguments[0]))


def main(directory: Path) -> None:
    """Provision, upload, check, submit, watch, download, deploy, ask and take down."""
    from runner.emulator.server import EmulatorServer
    from runner.emulator.settings import EmulatorSettings
    from runner.gcp import storage, tuning_jobs
    from runner.gcp.session import Session
    from runner.jobs.following import watching
    from runner.jobs.outputs import checkpoints
    from runner.jobs.preflight import obstacles as preflight
    from runner.jobs.specification import TuningJobSpec
    from runner.jobs.submitting import submission
    from runner.serving import deployment, listing, prediction
    from runner.serving.plan import plan_deployment
    from tests.projects import MODEL, environment_of, upload_dataset
    from tests.provisioning import provision

    os.environ["RUNNER_STATE_DIR"] = str(directory / "state")
    with EmulatorServer(EmulatorSettings(directory=directory / "emulator", stand_in="tiny")) as server:
        environment = environment_of(provision(server.url, "local-only"))
        with Session(environment) as session:
            spec = TuningJobSpec(base_model=MODEL, training_dataset=upload_dataset(session, 8), epochs=1)
            assert preflight.preflight(session, spec) == []
            job = watching.wait(session, submission.submit(session, spec).id, 400)
            assert submission.submit(session, spec).id == job.id
            assert [item.id for item in tuning_jobs.list_jobs(session)] == [job.id]
            final = checkpoints.find_checkpoint(session, job)
            checkpoints.download(session, final, directory / "weights")
            assert storage.exists(session, f"{final.uri}/config.json")
            endpoint = deployment.deploy(session, plan_deployment(session, job.id), poll=0.5)
            assert prediction.predict(session, endpoint, [{"prompt": "Hello", "max_tokens": 2}])
            messages = [{"role": "user", "content": "Hello"}]
            assert prediction.chat(session, endpoint=endpoint, messages=messages, max_tokens=2).usage
            assert list(prediction.chat(session, messages=messages, max_tokens=2, stream=True))
            assert len(listing.list_deployments(session)) == 1
            assert deployment.undeploy(session, endpoint, delete=True)
    (directory / "audit.json").write_text(json.dumps(reached, default=str))


if __name__ == "__main__":
    sys.addaudithook(_hook)
    main(Path(sys.argv[1]))
