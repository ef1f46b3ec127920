"""Images all the way: a Llama 4 job with pictures in a bucket of their own, deployed and asked."""

from __future__ import annotations

from pathlib import Path

import httpx
import pytest

from runner.emulator.server import EmulatorServer
from runner.environment import resolve
from runner.errors import JobFailedError
from runner.gcp import prediction, uploads
from runner.gcp.session import Session
from runner.jobs.following import watching
from runner.jobs.specification import TuningJobSpec
from runner.jobs.submitting import submission
from runner.serving import deployment
from runner.serving.plan import plan_deployment
from tests.cli.invocation import process
from tests.end_to_end.datasets import COLOURS, colours, data_url, picture
from tests.provisioning import Provisioned

pytestmark = [pytest.mark.training, pytest.mark.usefixtures("state_directory")]

BASE_MODEL = "meta/llama4@llama-4-scout-17b-16e-instruct"


def session_for(place: Provisioned) -> Session:
    return Session(
        resolve(
            {
                "project": place.project,
                "location": place.location,
                "datasets_bucket": place.datasets,
                "images_bucket": place.images,
                "outputs_bucket": place.outputs,
                "vertex_url": place.url,
                "storage_url": place.url,
            }
        )
    )


def spec_for(session: Session, place: Provisioned, *, epochs: int, batch_size: int | None = None) -> TuningJobSpec:
    urls = {name: f"gs://{place.images}/pictures/{name}.png" for name in COLOURS}
    for name, url in urls.items():
        uploads.upload_bytes(session, picture(name), url)
    training = f"gs://{place.datasets}/colours.jsonl"
    uploads.upload_bytes(session, colours(urls, text_only=2).encode(), training)
    return TuningJobSpec(
        base_model=BASE_MODEL,
        mode="PEFT_ADAPTER",
        training_dataset=training,
        learning_rate=0.0002,
        adapter_size=16,
        epochs=epochs,
        batch_size=batch_size,
    )


def test_a_model_learns_to_see(emulator: EmulatorServer, project: Provisioned, tmp_path: Path) -> None:
    with session_for(project) as session:
        job = submission.submit(session, spec_for(session, project, epochs=60, batch_size=4))
        job = watching.wait(session, job.name, timeout=400, poll=0.5)
        statistics = job.data_stats
        assert int(statistics["totalTruncatedExampleCount"]) == 2, "text-only examples are dropped, and counted"
        endpoint = deployment.deploy(session, plan_deployment(session, job.name), poll=0.3)
        right = 0
        for name in COLOURS:
            image = {"type": "image_url", "image_url": {"url": data_url(name)}}
            turns = [{"role": "user", "content": [image, {"type": "text", "text": "Which colour?"}]}]
            answer = prediction.chat(session, endpoint=endpoint, messages=turns, temperature=0, max_tokens=6)
            right += answer.text.strip() == name
        assert right >= len(COLOURS) - 1
        file = tmp_path / f"{name}.png"
        file.write_bytes(picture(name))
        predicted = process(
            *("predict", "Which colour?", "--image", str(file), "--endpoint", endpoint.id),
            *("--temperature", "0", "--max-tokens", "6"),
            RUNNER_PROJECT=project.project,
            RUNNER_VERTEX_URL=project.url,
            RUNNER_TOKEN="t",
        )
        assert predicted.out.strip() == answer.text.strip(), predicted.err
        deployment.undeploy(session, endpoint, delete=True)


def test_the_images_bucket_needs_its_grants_too(emulator: EmulatorServer, project: Provisioned) -> None:
    with session_for(project) as session:
        spec = spec_for(session, project, epochs=1)
        policy = httpx.get(f"{project.url}/storage/v1/b/{project.images}/iam", timeout=120).json()
        tuning = f"serviceAccount:service-{project.number}@gcp-sa-vertex-moss-ft.iam.gserviceaccount.com"
        for binding in policy["bindings"]:
            binding["members"] = [member for member in binding["members"] if member != tuning]
        httpx.put(f"{project.url}/storage/v1/b/{project.images}/iam", json=policy, timeout=120).raise_for_status()
        job = submission.submit(session, spec)
        with pytest.raises(JobFailedError) as caught:
            watching.wait(session, job.name, timeout=120, poll=0.3)
        for part in ("vertex-moss-ft", "storage.objects.get", project.images):
            assert part in caught.value.message
