"""Only the classes that are used are loaded, and packages still behave like themselves."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def python(script: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=False, timeout=240
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_production_stack_loads_few_modules_and_a_minimal_one_fewer() -> None:
    script = (
        "import sys\n"
        "from tests.infra.evaluation import MINIMAL, PRODUCTION, evaluate\n"
        "def loaded():\n"
        "    return {name for name in sys.modules if name.startswith('pulumi_gcp.') and name.count('.') == 2}\n"
        "evaluate(MINIMAL | {'open-model-tuning:idleGuard': 'false', 'open-model-tuning:endpoint': 'false'})\n"
        "few = loaded()\n"
        "evaluate(PRODUCTION)\n"
        "print(len(few), len(loaded()))\n"
        "off = ('vertex', 'monitoring', 'billing', 'cloudquota', 'kms', 'cloudfunctionsv2', 'cloudscheduler')\n"
        "assert not [name for name in few if name.split('.')[1] in off], few\n"
        "assert not [name for name in loaded() if name.split('.')[1] == 'compute']\n"
    )
    few, many = map(int, python(script).split())
    assert few <= 25
    assert many <= 70


def test_a_prepared_package_becomes_the_whole_one_when_it_is_asked_to() -> None:
    script = (
        "import infra.components, pulumi_gcp\n"
        "from pulumi_gcp.storage.bucket import Bucket\n"
        "from pulumi_gcp import storage\n"
        "assert storage.Bucket is Bucket and pulumi_gcp.storage is storage\n"
        "assert callable(storage.get_bucket) and storage.get_bucket.__name__ == 'get_bucket'\n"
        "assert storage.BucketArgs.__module__ == 'pulumi_gcp.storage.bucket'\n"
        "assert pulumi_gcp.vertex.AiDataset and pulumi_gcp.compute.Instance\n"
        "try:\n    storage.Nothing\nexcept AttributeError as error:\n    print('refused', error)\n"
    )
    assert python(script).startswith("refused")


def test_a_package_that_is_loaded_already_stays() -> None:
    script = (
        "import pulumi_gcp\n"
        "whole = pulumi_gcp.storage.Bucket\n"
        "import infra.components\n"
        "from pulumi_gcp.storage.bucket import Bucket\n"
        "assert Bucket is whole and pulumi_gcp.storage.HmacKey\n"
    )
    python(script)
