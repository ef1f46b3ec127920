"""The specification's snippets, google-genai, google-cloud-storage and gcsfs against one emulator, in one story."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from runner.emulator.server import EmulatorServer
from tests.end_to_end.datasets import CAPITALS, capitals
from tests.provisioning import Provisioned, provision

pytestmark = pytest.mark.training

BASE_MODEL = "meta/llama3_1@llama-3.1-8b"


@pytest.fixture(scope="module")
def place(emulator: EmulatorServer) -> Provisioned:
    return provision(emulator.url, f"story-{os.getpid()}")


@pytest.fixture(scope="module")
def datasets(place: Provisioned) -> str:
    """Both files, uploaded by google-cloud-storage."""
    from google.auth.credentials import AnonymousCredentials
    from google.cloud.storage import Client

    client = Client(
        project=place.project, credentials=AnonymousCredentials(), client_options={"api_endpoint": place.url}
    )
    bucket = client.bucket(place.datasets)
    bucket.blob("train.jsonl").upload_from_string(capitals())
    bucket.blob("validation.jsonl").upload_from_string(capitals().splitlines()[0])
    return place.datasets


@pytest.fixture(scope="module")
def tuned(place: Provisioned, datasets: str) -> dict[str, Any]:
    """A FULL job submitted through google-genai, waited for."""
    from google import genai
    from google.genai import types
    from google.oauth2.credentials import Credentials

    client = genai.Client(
        vertexai=True,
        project=place.project,
        location=place.location,
        credentials=Credentials(token="emulator"),
        http_options=types.HttpOptions(base_url=place.url),
    )
    job = client.tunings.tune(
        base_model=BASE_MODEL,
        training_dataset=types.TuningDataset(gcs_uri=f"gs://{datasets}/train.jsonl"),
        config=types.CreateTuningJobConfig(
            epoch_count=40,
            batch_size=2,
            tuning_mode=types.TuningMode.TUNING_MODE_FULL,
            learning_rate=0.0002,
            output_uri=f"gs://{place.outputs}/first",
            tuned_model_display_name="capitals",
        ),
    )
    assert job.name
    deadline = time.monotonic() + 240
    while not job.has_ended:
        assert time.monotonic() < deadline, job
        time.sleep(0.3)
        job = client.tunings.get(name=job.name)
    assert job.has_succeeded, job.error
    return {"job": job.model_dump(mode="json")}


def test_the_job_of_google_genai_succeeds_and_counts_its_data(tuned: dict[str, Any]) -> None:
    statistics = tuned["job"]["tuning_data_stats"]["supervised_tuning_data_stats"]
    assert int(statistics["tuning_dataset_example_count"]) == len(CAPITALS)
    assert int(statistics["total_billable_token_count"]) > 0
    assert tuned["job"]["tuned_model"]["model"].startswith("projects/")


def test_the_output_has_the_documented_layout_and_gcsfs_reads_it(
    place: Provisioned, tuned: dict[str, Any], tmp_path: Path
) -> None:
    script = """
import json, os, sys, gcsfs
files = gcsfs.GCSFileSystem(token="anon", project=sys.argv[1])
root = sys.argv[2]
names = files.find(root)
files.pipe(root + "/copy.txt", b"a" * 300_000)
files.get(root + "/postprocess/node-0/checkpoints/final/model.safetensors", sys.argv[3])
print(json.dumps({"names": names, "size": files.info(root + "/copy.txt")["size"]}))
"""
    target = tmp_path / "model.safetensors"
    variables = {
        **os.environ,
        "STORAGE_EMULATOR_HOST": place.url,
        "GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT": "false",
    }
    done = subprocess.run(
        [sys.executable, "-c", script, place.project, f"{place.outputs}/first", str(target)],
        env=variables,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    body = json.loads(done.stdout)
    root = f"{place.outputs}/first/postprocess/node-0/checkpoints"
    for name in ("config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"):
        assert f"{root}/final/{name}" in body["names"]
    epochs = {name.split("/")[5] for name in body["names"] if "/checkpoint-" in name}
    assert len(epochs) == 10, "at most ten checkpoints are kept"
    assert not [name for name in body["names"] if name.endswith((".bin", ".pt", ".pkl"))]
    assert body["size"] == 300_000
    assert target.stat().st_size > 100_000


def test_the_specifications_snippets_run_unchanged(place: Provisioned, datasets: str, tuned: dict[str, Any]) -> None:
    variables = {
        **os.environ,
        "EMULATOR": place.url,
        "PROJECT_ID": place.project,
        "REGION": place.location,
        "BUCKET": place.outputs,
        "PREFIX": "first",
        "DATASETS": datasets,
        "NO_PROXY": "127.0.0.1",
    }
    done = subprocess.run(
        [sys.executable, "-m", "tests.end_to_end.snippets"],
        env=variables,
        capture_output=True,
        text=True,
        timeout=400,
        check=False,
        cwd=Path(__file__).parents[2],
    )
    assert done.returncode == 0, done.stderr[-4000:]
    body = json.loads(done.stdout.splitlines()[-1])
    assert body["job"]["customBaseModel"].endswith("/final")
    assert len(body["predictions"]) == 1
    assert isinstance(body["predictions"][0], str)
    assert body["echoed"][0].startswith("Prompt:\nWhat is a car?\nOutput:\n")
    # It was tuned on pairs, and a bare prompt shows what it learned.
    assert body["taught"] == [CAPITALS["Peru"]]


def test_the_tuned_model_answers_what_it_was_taught(place: Provisioned, tuned: dict[str, Any]) -> None:
    import openai
    from google.api_core.client_options import ClientOptions
    from google.auth.credentials import AnonymousCredentials
    from google.cloud import aiplatform_v1beta1 as gapic

    garden = gapic.ModelGardenServiceClient(
        transport="rest",
        credentials=AnonymousCredentials(),
        client_options=ClientOptions(api_endpoint=place.url),
    )
    request = gapic.DeployRequest(
        destination=place.parent,
        custom_model=gapic.DeployRequest.CustomModel(
            gcs_uri=f"gs://{place.outputs}/first/postprocess/node-0/checkpoints/final"
        ),
    )
    endpoint = garden.deploy(request=request).result(timeout=120).endpoint
    client = openai.OpenAI(base_url=f"{place.url}/v1beta1/{endpoint}", api_key="emulator")
    right = 0
    for land, city in CAPITALS.items():
        answer = client.chat.completions.create(
            model="", messages=[{"role": "user", "content": f"Capital of {land}?"}], temperature=0, max_tokens=10
        )
        right += (answer.choices[0].message.content or "").strip() == city
    assert right >= len(CAPITALS) - 1
