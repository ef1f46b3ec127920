"""Change one setting of a whole stack, then destroy it: is anything left?"""

from __future__ import annotations

import itertools
import os
from pathlib import Path
from typing import Any

import httpx

from infra.embedded import apply, destroy
from runner.errors import RunnerError
from tests.infra.setting_changes import BASE, REGION
from tests.infra.stack_sweep import inventory, perimeter
from tests.loopback import NO_TLS

KEY = ("keys", REGION, "r", "k")
_numbers = itertools.count(1)


def left_after(url: str, folder: Path, setting: str, change: dict[str, str]) -> tuple[Any, str]:
    """Return what a project has after a stack was made, changed and destroyed; and why the change was refused, or "".

    What is protected goes once it is not any more.
    """
    project, state = f"setting-{os.getpid()}-{next(_numbers)}", folder / f"{setting}.json"
    _make_others(url, project)
    there = perimeter(url) if "PERIMETER" in str(change) else ""
    changed = {key: value.replace("PERIMETER", there).replace("PROJECT", project) for key, value in change.items()}

    def up(**more: str) -> None:
        config = {**BASE, "namePrefix": project, "forceDestroy": "true", **more}
        apply(url, project=project, location=REGION, config=config, state=state)

    up()
    refused = ""
    try:
        up(**changed)
    except RunnerError as error:
        refused = error.message
    if destroy(state, project=project).protected:
        up(protect="false")
        destroy(state, project=project)
    if state.exists():
        refused += f"; {state.name} is left"
    found = inventory(url, project)
    return {key: value for key, value in found.items() if not key.startswith("PROJECT-elsewhere")}, refused


def _make_others(url: str, project: str) -> None:
    """Make what others make: a bucket, and a key that several projects use."""
    owner, region, ring, key = KEY
    with httpx.Client(base_url=url, trust_env=False, timeout=60, verify=NO_TLS) as client:
        client.post(f"/v1/projects/{owner}/services/cloudkms.googleapis.com:enable", json={})
        rings = f"/kms/v1/projects/{owner}/locations/{region}/keyRings"
        client.post(f"{rings}?keyRingId={ring}", json={})
        client.post(f"{rings}/{ring}/cryptoKeys?cryptoKeyId={key}", json={"purpose": "ENCRYPT_DECRYPT"})
        client.post("/storage/v1/b?project=elsewhere", json={"name": f"{project}-elsewhere", "location": REGION})
