"""Google's own clients, unmodified, against the emulator: gapic, vertexai, google-genai; and the OpenAI client.

They are imported inside the tests: `vertexai` alone takes ten seconds.
"""

from __future__ import annotations

import dataclasses
import json
import time
import warnings
from typing import Any

import httpx
import pytest

from runner.cli.emulator.credentials import made_account, new_key
from runner.running_emulator import ServerInfo
from tests.gcp.flaky import Fault, FlakyProxy
from tests.provisioning import Provisioned

LLAMA = "meta/llama3_1@llama-3.1-8b"


def upload(project: Provisioned, rows: int = 16) -> str:
    lines = "".join(json.dumps({"prompt": f"say {row}", "completion": f"number {row}"}) + "\n" for row in range(rows))
    url = f"{project.url}/upload/storage/v1/b/{project.datasets}/o"
    httpx.post(
        url, params={"uploadType": "media", "name": "train.jsonl"}, content=lines.encode(), timeout=120
    ).raise_for_status()
    return f"gs://{project.datasets}/train.jsonl"


def genai_client(project: Provisioned) -> Any:
    from google import genai
    from google.genai import types
    from google.oauth2.credentials import Credentials

    return genai.Client(
        vertexai=True,
        project=project.project,
        location=project.location,
        credentials=Credentials(token="emulator"),
        http_options=types.HttpOptions(base_url=project.url),
    )


def gapic_client(project: Provisioned) -> Any:
    from google.auth.credentials import AnonymousCredentials
    from google.cloud import aiplatform_v1beta1

    return aiplatform_v1beta1.GenAiTuningServiceClient(
        transport="rest",
        client_options={"api_endpoint": project.url},
        credentials=AnonymousCredentials(),
    )


def test_gapic_and_genai_understand_each_others_jobs(project: Provisioned) -> None:
    """The first sends enums and int64 in other forms than the second; the second cannot read integers for enums."""
    from google.api_core import exceptions
    from google.cloud import aiplatform_v1beta1 as gapic
    from google.genai import errors, types

    tuning = gapic_client(project)
    sent = gapic.TuningJob(
        base_model=LLAMA,
        tuned_model_display_name="by-gapic",
        description="d",
        labels={"by": "gapic"},
        output_uri=f"gs://{project.outputs}/gapic",
        supervised_tuning_spec=gapic.SupervisedTuningSpec(
            training_dataset_uri=f"gs://{project.datasets}/none.jsonl",
            tuning_mode=gapic.SupervisedTuningSpec.TuningMode.TUNING_MODE_PEFT_ADAPTER,
            export_last_checkpoint_only=True,
            hyper_parameters=gapic.SupervisedHyperParameters(
                epoch_count=3,
                learning_rate=2e-4,
                batch_size=8,
                adapter_size=gapic.SupervisedHyperParameters.AdapterSize.ADAPTER_SIZE_SIXTEEN,
            ),
        ),
    )
    made = tuning.create_tuning_job(parent=project.parent, tuning_job=sent)
    assert made.supervised_tuning_spec == sent.supervised_tuning_spec
    assert made.state == gapic.JobState.JOB_STATE_PENDING
    client = genai_client(project)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        job = client.tunings.tune(
            base_model=LLAMA,
            training_dataset=types.TuningDataset(gcs_uri=f"gs://{project.datasets}/none.jsonl"),
            config=types.CreateTuningJobConfig(
                tuned_model_display_name="by-genai",
                description="d",
                epoch_count=3,
                learning_rate=2e-4,
                batch_size=8,
                adapter_size=types.AdapterSize.ADAPTER_SIZE_SIXTEEN,
                tuning_mode=types.TuningMode.TUNING_MODE_PEFT_ADAPTER,
                output_uri=f"gs://{project.outputs}/genai",
                labels={"by": "genai"},
                export_last_checkpoint_only=True,
            ),
        )
    listed = list(client.tunings.list(config={"page_size": 1}))
    assert [item.tuned_model_display_name for item in listed] == ["by-genai", "by-gapic"]
    for item in listed:
        spec = item.supervised_tuning_spec
        assert spec.hyper_parameters.adapter_size == types.AdapterSize.ADAPTER_SIZE_SIXTEEN
        assert (spec.hyper_parameters.epoch_count, spec.hyper_parameters.batch_size) == (3, 8)
    request = gapic.ListTuningJobsRequest(parent=project.parent, page_size=1, filter='labels.by="genai"')
    assert [item.name for item in tuning.list_tuning_jobs(request=request)] == [job.name]
    assert tuning.get_tuning_job(name=job.name).supervised_tuning_spec.hyper_parameters.learning_rate == 2e-4
    tuning.cancel_tuning_job(name=made.name)
    client.tunings.cancel(name=job.name)
    with pytest.raises(exceptions.NotFound):
        tuning.get_tuning_job(name=f"{project.parent}/tuningJobs/1")
    with pytest.raises(errors.ClientError) as caught:
        client.tunings.get(name=f"{project.parent}/tuningJobs/1")
    assert (caught.value.code, caught.value.status) == (404, "NOT_FOUND")
    sent.output_uri = ""
    with pytest.raises(exceptions.BadRequest, match="The output_uri field is required for this model"):
        tuning.create_tuning_job(parent=project.parent, tuning_job=sent)


def test_the_stable_gapic_client_cannot_tune_open_models(project: Provisioned) -> None:
    """Its TuningJob has no output_uri: the service says so, and so do we."""
    from google.api_core import exceptions
    from google.auth.credentials import AnonymousCredentials
    from google.cloud import aiplatform_v1

    tuning = aiplatform_v1.GenAiTuningServiceClient(
        transport="rest",
        client_options={"api_endpoint": project.url},
        credentials=AnonymousCredentials(),
    )
    spec = aiplatform_v1.SupervisedTuningSpec(training_dataset_uri=f"gs://{project.datasets}/t.jsonl")
    job = aiplatform_v1.TuningJob(base_model=LLAMA, supervised_tuning_spec=spec)
    with pytest.raises(exceptions.BadRequest, match="output_uri"):
        tuning.create_tuning_job(parent=project.parent, tuning_job=job)


def test_gapic_signs_in_with_a_key(project: Provisioned) -> None:
    """It sends tokens that the key has signed: the account may what its roles say."""
    from google.api_core import exceptions
    from google.cloud import aiplatform_v1beta1
    from google.oauth2 import service_account

    info = ServerInfo(url=project.url, pid=0, started="")
    account = made_account(info, project.project, "worker", [])
    tuning = aiplatform_v1beta1.GenAiTuningServiceClient(
        transport="rest",
        client_options={"api_endpoint": project.url},
        credentials=service_account.Credentials.from_service_account_info(json.loads(new_key(info, account))),
    )
    with pytest.raises(exceptions.Forbidden, match=r"aiplatform\.tuningJobs\.list"):
        list(tuning.list_tuning_jobs(parent=project.parent))
    made_account(info, project.project, account, ["roles/aiplatform.viewer"])
    assert list(tuning.list_tuning_jobs(parent=project.parent)) == []


def test_genai_reports_a_failed_job(project: Provisioned) -> None:
    from google.genai import types

    client = genai_client(project)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        job = client.tunings.tune(
            base_model=LLAMA,
            training_dataset=types.TuningDataset(gcs_uri=f"gs://{project.datasets}/none.jsonl"),
            config=types.CreateTuningJobConfig(output_uri=f"gs://{project.outputs}/x"),
        )
    deadline = time.monotonic() + 120
    while not job.has_ended:
        assert time.monotonic() < deadline
        time.sleep(0.1)
        job = client.tunings.get(name=job.name)
    assert job.state == types.JobState.JOB_STATE_FAILED
    assert "none.jsonl" in job.error.message


@pytest.mark.training
def test_the_page_of_the_product_step_by_step(project: Provisioned) -> None:
    """Tune, deploy and ask with the documentation's own code; then over OpenAI's client; then take everything down."""
    import openai
    import vertexai
    from google.auth.credentials import AnonymousCredentials
    from google.cloud import aiplatform
    from vertexai.preview import model_garden
    from vertexai.tuning import SourceModel, sft

    vertexai.init(
        project=project.project,
        location=project.location,
        api_endpoint=project.url,
        api_transport="rest",
        credentials=AnonymousCredentials(),
    )
    training = upload(project)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        job = sft.train(
            source_model=SourceModel(base_model=LLAMA),
            tuning_mode="FULL",
            epochs=1,
            train_dataset=training,
            output_uri=f"gs://{project.outputs}",
            labels={"k": "v"},
        )
        deadline = time.monotonic() + 180
        while not job.refresh().has_ended:
            assert time.monotonic() < deadline
            time.sleep(0.2)
        assert job.has_succeeded, job.error
        assert job.tuned_model_name.startswith(f"projects/{project.number}/locations/us-central1/models/")
        assert [item.name for item in sft.SupervisedTuningJob.list(filter='labels.k="v"')] == [job.name]
    artifacts = f"gs://{project.outputs}/postprocess/node-0/checkpoints/final"
    model = model_garden.CustomModel(gcs_uri=artifacts)
    assert "g2-standard-12" in str(model.list_deploy_options())
    endpoint = model.deploy(machine_type="g2-standard-12", accelerator_type="NVIDIA_L4", accelerator_count=1)
    instances = [
        {
            "prompt": "What is a car?",
            "max_tokens": 8,
            "temperature": 1.0,
            "top_p": 1.0,
            "top_k": 1,
            "raw_response": True,
        }
    ]
    answer = aiplatform.Endpoint(endpoint.resource_name).predict(instances=instances)
    assert len(answer.predictions) == 1
    assert isinstance(answer.predictions[0], str)
    assert answer.deployed_model_id == endpoint.list_models()[0].id
    chat = openai.OpenAI(base_url=f"{project.url}/v1beta1/{endpoint.resource_name}", api_key="emulator")
    messages: Any = [{"role": "user", "content": "What is a car?"}]
    whole = chat.chat.completions.create(model="", messages=messages, max_tokens=5, temperature=0)
    pieces = chat.chat.completions.create(model="", messages=messages, max_tokens=5, temperature=0, stream=True)
    streamed = "".join(piece.choices[0].delta.content or "" for piece in pieces if piece.choices)
    assert streamed == whole.choices[0].message.content
    endpoint.undeploy_all()
    endpoint.delete()
    assert httpx.get(f"{project.url}/v1/{endpoint.resource_name}", timeout=120).status_code == 404


def test_a_job_is_created_with_the_request_that_genai_sends(project: Provisioned) -> None:
    from google.genai import errors, types

    from runner.gcp.tuning_jobs import request_body

    fields = {
        "base_model": LLAMA,
        "training_dataset": "gs://b/t.jsonl",
        "validation_dataset": "gs://b/v.jsonl",
        "mode": "PEFT_ADAPTER",
        "epochs": 3,
        "learning_rate": 0.0002,
        "adapter_size": 4,
        "batch_size": 8,
        "display_name": "name",
        "description": "what for",
        "labels": {"team": "search"},
        "output_uri": "gs://b/o",
        "custom_base_model": "gs://b/c",
        "export_last_checkpoint_only": True,
        "service_account": "a@b",
    }
    config = types.CreateTuningJobConfig(
        validation_dataset=types.TuningValidationDataset(gcs_uri="gs://b/v.jsonl"),
        tuning_mode=types.TuningMode.TUNING_MODE_PEFT_ADAPTER,
        epoch_count=3,
        learning_rate=0.0002,
        adapter_size=types.AdapterSize.ADAPTER_SIZE_FOUR,
        batch_size=8,
        tuned_model_display_name="name",
        description="what for",
        labels={"team": "search"},
        output_uri="gs://b/o",
        custom_base_model="gs://b/c",
        export_last_checkpoint_only=True,
        http_options=types.HttpOptions(extra_body={"serviceAccount": "a@b"}),
    )
    least = types.CreateTuningJobConfig()
    with FlakyProxy(project.url) as proxy:
        client = genai_client(dataclasses.replace(project, url=proxy.url))
        for given, sent in ((fields, config), ({name: fields[name] for name in list(fields)[:2]}, least)):
            proxy.faults.append(Fault("POST", "/tuningJobs$", 403))
            dataset = types.TuningDataset(gcs_uri="gs://b/t.jsonl")
            with pytest.raises(errors.ClientError, match="403"):
                client.tunings.tune(base_model=LLAMA, training_dataset=dataset, config=sent)
            assert json.loads(proxy.bodies[-1][1]) == request_body(given)
