"""The program outside the tests' monitor: addresses that are not Google's, and started by its path."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from tests.infra.evaluation import (
    MINIMAL,
    evaluate,
)


def test_the_document_names_addresses_that_are_not_googles() -> None:
    addresses = {
        "gcp:vertexAiCustomEndpoint": "http://127.0.0.1:8085/v1/",
        "gcp:storageCustomEndpoint": "http://127.0.0.1:8085/storage/v1/",
    }
    evaluation = evaluate(MINIMAL | addresses)
    assert evaluation.outputs["environment"]["apiEndpoints"] == {
        "vertex": "http://127.0.0.1:8085",
        "storage": "http://127.0.0.1:8085",
    }
    provider = evaluation.of_type("pulumi:providers:gcp")[0].inputs
    assert provider["vertexAiCustomEndpoint"] == "http://127.0.0.1:8085/v1/"
    assert provider["userProjectOverride"] in {"false", False}


def test_pulumi_can_run_the_directory_by_its_path() -> None:
    root = Path(__file__).resolve().parents[2]
    script = (
        "import pulumi, runpy\n"
        "from infra.evaluation import _Mocks\n"
        "from tests.infra.evaluation import MINIMAL\n"
        "mocks = _Mocks('demo-project', {})\n"
        "pulumi.runtime.set_mocks(mocks, project='open-model-tuning', stack='test', preview=False)\n"
        "pulumi.runtime.set_all_config(MINIMAL)\n"
        f"pulumi.runtime.test(lambda: runpy.run_path({str(root / 'infra')!r}, run_name='__main__') and None)()\n"
        "print(sorted(pulumi.runtime.get_root_resource().outputs))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=root / "infra",
        env={**os.environ, "PYTHONPATH": str(root)},
        capture_output=True,
        text=True,
        check=False,
        timeout=240,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "['environment', 'managedBuckets']"
