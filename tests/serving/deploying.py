"""A process that deploys, to be killed.

python -m tests.serving.deploying VERTEX-URL STORAGE-URL PROJECT SOURCE MACHINE [ENDPOINT]
"""

from __future__ import annotations

import sys

from runner.environment import Environment
from runner.gcp.session import Session
from runner.serving.deployment import deploy
from runner.serving.plan import plan_deployment


def main() -> None:
    """Deploy once, and print the endpoint's name."""
    url, storage_url, project, source, machine, *endpoint = sys.argv[1:]
    environment = Environment(
        project=project, location="us-central1", vertex_url=url, storage_url=storage_url, token="a-token"
    )
    with Session(environment) as session:
        plan = plan_deployment(
            session, source, machine_type=machine, endpoint=endpoint[0] if endpoint else None, display_name="killed"
        )
        print("planned", flush=True)
        print(deploy(session, plan, poll=0.2).name, flush=True)


if __name__ == "__main__":
    main()
