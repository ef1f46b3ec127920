"""The specification's own Python, with project, region, buckets and endpoint filled in and nothing else changed.

Run as `python -m tests.end_to_end.snippets`, with the values in the environment: a process of its own, as a user's
notebook is, since the SDK keeps global state. What comes before the specification's first line is the address of the
emulator, which the SDK takes from no environment variable.
"""

from __future__ import annotations

import json
import os
import time
import warnings
from typing import Any

warnings.simplefilter("ignore")


def main() -> None:
    """Tune, wait, deploy, predict; print what came of it as JSON."""
    bucket, prefix = os.environ["BUCKET"], os.environ["PREFIX"]
    PROJECT_ID, REGION = os.environ["PROJECT_ID"], os.environ["REGION"]  # noqa: N806 - the specification's names
    import vertexai
    from google.auth.credentials import AnonymousCredentials

    vertexai.init(api_endpoint=os.environ["EMULATOR"], api_transport="rest", credentials=AnonymousCredentials())

    # --- specification ------------------------------------------------------------------------------------------
    vertexai.init(project=PROJECT_ID, location=REGION)

    from google.cloud import aiplatform
    from vertexai.tuning import SourceModel, sft

    sft_tuning_job = sft.train(
        source_model=SourceModel(
            base_model="meta/llama3_1@llama-3.1-8b",
            # Optional, folder that is either a custom model checkpoint or previously tuned model
            custom_base_model=f"gs://{bucket}/{prefix}/postprocess/node-0/checkpoints/final",
        ),
        tuning_mode="FULL",  # FULL or PEFT_ADAPTER
        epochs=3,
        train_dataset=f"gs://{os.environ['DATASETS']}/train.jsonl",  # JSONL file
        validation_dataset=f"gs://{os.environ['DATASETS']}/validation.jsonl",  # JSONL file
        output_uri=f"gs://{bucket}/again",
    )
    # ------------------------------------------------------------------------------------------------------------
    while not sft_tuning_job.has_ended:
        time.sleep(0.5)
        sft_tuning_job.refresh()
    assert sft_tuning_job.has_succeeded, sft_tuning_job.to_dict()

    # --- specification ------------------------------------------------------------------------------------------
    from vertexai.preview import model_garden

    MODEL_ARTIFACTS_STORAGE_URI = f"gs://{bucket}/again/postprocess/node-0/checkpoints/final"  # noqa: N806

    model = model_garden.CustomModel(
        gcs_uri=MODEL_ARTIFACTS_STORAGE_URI,
    )

    # deploy the model to an endpoint using GPUs. Cost will incur for the deployment
    endpoint = model.deploy(
        machine_type="g2-standard-12",
        accelerator_type="NVIDIA_L4",
        accelerator_count=1,
    )
    # ------------------------------------------------------------------------------------------------------------
    endpoint_name = endpoint.name

    # --- specification ------------------------------------------------------------------------------------------
    # Loads the deployed endpoint
    endpoint = aiplatform.Endpoint(f"projects/{PROJECT_ID}/locations/{REGION}/endpoints/{endpoint_name}")

    # Define input to the prediction call
    instances = [
        {
            "prompt": "What is a car?",
            "max_tokens": 200,
            "temperature": 1.0,
            "top_p": 1.0,
            "top_k": 1,
            "raw_response": True,
        },
    ]

    # Request the prediction
    response = endpoint.predict(instances=instances)

    predictions: list[Any] = []
    for prediction in response.predictions:
        predictions.append(prediction)
    # ------------------------------------------------------------------------------------------------------------
    echoed = endpoint.predict(instances=[{"prompt": "What is a car?", "max_tokens": 5}]).predictions
    # A question of the training data, as bare as the specification asks.
    taught = endpoint.predict(
        instances=[{"prompt": "Capital of Peru?", "max_tokens": 8, "temperature": 0.0, "raw_response": True}]
    ).predictions
    endpoint.undeploy_all()
    endpoint.delete(force=True)
    print(
        json.dumps(
            {
                "job": sft_tuning_job.to_dict(),
                "predictions": predictions,
                "echoed": list(echoed),
                "taught": list(taught),
            },
            default=str,
        )
    )


if __name__ == "__main__":
    main()
