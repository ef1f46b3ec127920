"""`runner infra` with a real engine, whatever its plugins: what it plans, makes, retries, protects and names."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from infra.embedded import apply, destroy
from runner.emulator.server import EmulatorServer
from runner.emulator.settings import EmulatorSettings
from tests.infra.test_engine_failures import ROOT, Real, needs_engine

OWN = "open-model-tuning:"
PROJECT = "engine-project"


def plugins(folder: Path) -> str:
    """Return a PATH with the plugins of `tests.infra.engine_plugins`, and the engine."""
    folder.mkdir()
    for name, module in (("pulumi-language-python", "language"), ("pulumi-resource-gcp", "provider")):
        file = folder / name
        line = f'exec "{sys.executable}" -m tests.infra.engine_plugins.{module} "$@"'
        file.write_text(f'#!/bin/sh\nexport PYTHONPATH="{ROOT}"\n{line}\n')
        file.chmod(0o755)
    engine = shutil.which("pulumi")
    assert engine is not None
    return f"{folder}:{Path(engine).parent}:/usr/bin:/bin"


def changed(real: Real, **settings: Any) -> None:
    """Change the stack's file, as the engine keeps it."""
    file = real.folder / "Pulumi.local.yaml"
    body = yaml.safe_load(file.read_text())
    for key, value in settings.items():
        body["config"].pop(f"{OWN}{key}", None)
        if value is not None:
            body["config"][f"{OWN}{key}"] = value
    file.write_text(yaml.safe_dump(body))


def inventory(url: str) -> Any:
    """Return the project's buckets, policies and accounts, without what differs between any two."""

    def get(path: str) -> Any:
        return httpx.get(f"{url}{path}", trust_env=False, timeout=120).raise_for_status().json()

    found: dict[str, Any] = {}
    for item in get(f"/storage/v1/b?project={PROJECT}").get("items", []):
        kept = ("labels", "lifecycle", "location", "softDeletePolicy", "storageClass", "versioning")
        body = {key: item.get(key) for key in kept}
        body["softDeletePolicy"].pop("effectiveTime", None)
        policy = get(f"/storage/v1/b/{item['name']}/iam")
        body["iam"] = sorted((one["role"], sorted(one["members"])) for one in policy.get("bindings", []))
        found[item["name"]] = body
    policy = httpx.post(f"{url}/v1/projects/{PROJECT}:getIamPolicy", json={}, trust_env=False, timeout=120).json()
    found["iam"] = sorted((one["role"], sorted(one["members"])) for one in policy["bindings"])
    accounts = get(f"/v1/projects/{PROJECT}/serviceAccounts").get("accounts", [])
    found["accounts"] = sorted((one["email"], one["displayName"]) for one in accounts)
    return json.loads(json.dumps(found))


@pytest.mark.engine
@needs_engine
def test_the_engine_makes_what_is_made_without_it_and_names_what_it_keeps(tmp_path: Path) -> None:
    settings = EmulatorSettings(directory=tmp_path / "emulator", stand_in="tiny")
    with EmulatorServer(settings) as server:
        apply(server.url, project=PROJECT, state=tmp_path / "state.json")
        without = inventory(server.url)
        destroy(tmp_path / "state.json", project=PROJECT)
        (tmp_path / "checkout").mkdir()
        real = Real(tmp_path / "checkout")
        real.variables["PATH"] = plugins(tmp_path / "bin")
        file = real.folder / "Pulumi.local.yaml"
        text = file.read_text().replace("http://127.0.0.1:8085", server.url)
        file.write_text(text.replace("local-project", PROJECT))

        # The tuning agent is withheld at first: the program's hook has the engine try again.
        faults = f"{server.url}/_emulator/faults"
        withheld = ["storage.buckets.setIamPolicy:agent-missing,times=3"]
        httpx.post(faults, json={"faults": withheld}, trust_env=False, timeout=120).raise_for_status()
        answer = real.run("up", "--confirmed")
        assert "result" in answer, answer
        made = answer["result"]
        assert set(made["summary"]) == {"create"}
        assert [fault["hits"] for fault in httpx.get(faults, trust_env=False, timeout=120).json()["faults"]] == [3]
        assert inventory(server.url) == without
        assert real.run("outputs")["result"]["outputs"] == made["outputs"]
        unchanged = real.run("preview", "--expect-no-changes")
        assert "result" in unchanged, unchanged
        assert set(real.run("refresh", "--confirmed", "--expect-no-changes")["result"]["summary"]) == {"same"}

        changed(real, softDeleteDays=14)
        preview = real.run("preview")["result"]
        assert (preview["changes"], preview["summary"]["update"]) == (4, 4)
        assert "604800 => 1209600" in preview["diff"]
        assert real.run("preview", "--expect-no-changes")["error"]["code"] == "changes"

        changed(real, forceDestroy=None, protect=True)
        assert real.run("up", "--confirmed")["result"]["summary"]["update"] == 4
        left = real.run("destroy", "--confirmed")["result"]
        assert left["protected"] == [f"Bucket {kind}" for kind in ("contract", "datasets", "images", "outputs")]
        assert "protected: Bucket outputs" in left["text"]
        assert {name for name in inventory(server.url) if name.startswith(PROJECT)} == {
            f"{PROJECT}-{kind}" for kind in ("contract", "datasets", "images", "outputs")
        }
        changed(real, forceDestroy=True, protect=None)
        real.run("up", "--confirmed")
        gone = real.run("destroy", "--confirmed")["result"]
        assert (gone["protected"], set(gone["summary"])) == ([], {"delete"})
        assert not [name for name in inventory(server.url) if name.startswith(PROJECT)]
