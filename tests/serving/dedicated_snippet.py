"""The specification's deploy and predict, and OpenAI's client, against a dedicated endpoint.

Run as `python -m tests.serving.dedicated_snippet`, with the values in the environment: a process of its own, as a
user's notebook is. What comes before the specification's first line is the address of the emulator. The certificate of
the endpoint's own host is checked against REQUESTS_CA_BUNDLE and SSL_CERT_FILE, as for every Python program.
"""

from __future__ import annotations

import json
import os
import warnings
from typing import Any

warnings.simplefilter("ignore")


def main() -> None:
    """Deploy, ask in four ways, take down; print what came of it as JSON."""
    PROJECT_ID, REGION = os.environ["PROJECT_ID"], os.environ["REGION"]  # noqa: N806 - the specification's names
    import vertexai
    from google.auth.credentials import AnonymousCredentials

    vertexai.init(api_endpoint=os.environ["EMULATOR"], api_transport="rest", credentials=AnonymousCredentials())

    # --- specification ------------------------------------------------------------------------------------------
    vertexai.init(project=PROJECT_ID, location=REGION)

    from google.cloud import aiplatform
    from vertexai.preview import model_garden

    MODEL_ARTIFACTS_STORAGE_URI = os.environ["WEIGHTS"]  # noqa: N806

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
    again = endpoint.predict(instances=instances, use_dedicated_endpoint=True)
    dns = endpoint.gca_resource.dedicated_endpoint_dns
    raw = endpoint.raw_predict(
        body=json.dumps({"instances": [{"prompt": "What is 3?", "max_tokens": 2}]}).encode(),
        headers={"Content-Type": "application/json"},
    )

    import openai

    client = openai.OpenAI(
        base_url=f"https://{dns}/v1beta1/{endpoint.gca_resource.name}", api_key="emulator", max_retries=0
    )
    question: Any = [{"role": "user", "content": "What is 3?"}]
    whole = client.chat.completions.create(model="", messages=question, temperature=0, max_tokens=6)
    pieces = [
        piece.choices[0].delta.content or ""
        for piece in client.chat.completions.create(
            model="", messages=question, temperature=0, max_tokens=6, stream=True
        )
        if piece.choices
    ]
    shared = openai.OpenAI(
        base_url=f"{os.environ['EMULATOR']}/v1beta1/{endpoint.gca_resource.name}", api_key="x", max_retries=0
    )
    try:
        shared.chat.completions.create(model="", messages=question)
        refused = ""
    except openai.BadRequestError as error:
        refused = str(error)
    endpoint.undeploy_all()
    endpoint.delete(force=True)
    print(
        json.dumps(
            {
                "dns": dns,
                "predictions": predictions,
                "again": list(again.predictions),
                "raw": raw.status_code,
                "whole": whole.choices[0].message.content,
                "streamed": "".join(pieces),
                "refused": refused,
            }
        )
    )


if __name__ == "__main__":
    main()
