"""Models that are really served: deploy, ask, restart, undeploy."""

from __future__ import annotations

import base64
import io
import json
import os
import signal
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from pathlib import Path

import httpx
import pytest
from PIL import Image

from runner.emulator.server import EmulatorServer
from tests.emulator.aiplatform.vertex import Vertex
from tests.made_environments import python_with

pytestmark = pytest.mark.training

PROMPT = {"prompt": "say 3", "max_tokens": 6.0, "temperature": 0.0, "raw_response": True}


def test_the_endpoint_of_a_deployment(deployed: tuple[Vertex, str]) -> None:
    vertex, name = deployed
    endpoint = vertex.get(name)
    (model,) = endpoint["deployedModels"]
    assert endpoint["trafficSplit"] == {model["id"]: 100}
    assert model["dedicatedResources"] == {
        "machineSpec": {"machineType": "g2-standard-12", "acceleratorType": "NVIDIA_L4", "acceleratorCount": 1},
        "minReplicaCount": 1,
        "maxReplicaCount": 1,
    }
    assert (model["displayName"], model["systemLabels"], endpoint["displayName"]) == ("shown", {"a": "b"}, "asked")
    registered = vertex.get(model["model"])
    assert registered["deployedModels"] == [{"endpoint": name, "deployedModelId": model["id"]}]
    vertex.error(vertex.client.delete(f"/v1/{name}"), 400, "FAILED_PRECONDITION")
    vertex.error(vertex.client.delete(f"/v1/{model['model']}"), 400, "FAILED_PRECONDITION")


def test_predict(deployed: tuple[Vertex, str]) -> None:
    vertex, name = deployed
    answer = vertex.post(f"{name}:predict", {"instances": [PROMPT, PROMPT]}, "v1").json()
    (model,) = vertex.get(name)["deployedModels"]
    assert len(answer["predictions"]) == 2
    assert answer["predictions"][0] == answer["predictions"][1]  # greedy
    about = ("deployedModelId", "model", "modelDisplayName", "modelVersionId")
    assert [answer[key] for key in about] == [model["id"], model["model"], "shown", "1"]
    plain = vertex.post(f"{name}:predict", {"instances": [{**PROMPT, "raw_response": False}]}).json()
    assert plain["predictions"][0].startswith("Prompt:\nsay 3\nOutput:\n")


def test_raw_predict_and_chat(deployed: tuple[Vertex, str]) -> None:
    vertex, name = deployed
    raw = vertex.post(f"{name}:rawPredict", {"instances": [PROMPT]})
    assert raw.json()["predictions"]
    assert raw.headers["x-vertex-ai-deployed-model-id"] == vertex.get(name)["deployedModels"][0]["id"]
    chat = {"model": "", "messages": [{"role": "user", "content": "say 3"}], "max_tokens": 4, "temperature": 0}
    deployed_id = vertex.get(name)["deployedModels"][0]["id"]
    answers = [
        vertex.post(f"{name}{path}", chat).json()["choices"][0]["message"]["content"]
        for path in (
            "/chat/completions",
            ":rawPredict",
            "/invoke/v1/chat/completions",
            f"/deployedModels/{deployed_id}/invoke/v1/chat/completions",
        )
    ]
    assert len(set(answers)) == 1
    # Generated clients wrap it in a google.api.HttpBody, whole or as the body.
    wrapped = {"contentType": "application/json", "data": base64.urlsafe_b64encode(json.dumps(chat).encode()).decode()}
    for path, body in ((":rawPredict", {"httpBody": wrapped}), ("/chat/completions", wrapped)):
        assert vertex.post(f"{name}{path}", body).json()["choices"][0]["message"]["content"] == answers[0]
    broken = vertex.post(f"{name}:rawPredict", {"httpBody": {"data": "?"}})
    assert "Base64" in vertex.error(broken, 400, "INVALID_ARGUMENT")


def test_completions_of_plain_prompts(deployed: tuple[Vertex, str]) -> None:
    vertex, name = deployed
    deployed_id = vertex.get(name)["deployedModels"][0]["id"]
    body = {"model": "", "prompt": "say 3", "max_tokens": 4, "temperature": 0}
    answers = [
        vertex.post(f"{name}{path}", body).json()["choices"][0]["text"]
        for path in ("/invoke/v1/completions", f"/deployedModels/{deployed_id}/invoke/v1/completions")
    ]
    raw = vertex.post(f"{name}:rawPredict", {"instances": [{**body, "raw_response": True}]})
    assert len(set(answers)) == 1
    assert raw.status_code == 400  # an instance has no model
    parent = name.rsplit("/", 1)[0]
    managed = vertex.post(f"{parent}/openapi/completions", {**body, "model": "meta/llama-3.1-8b-instruct-maas"}).json()
    assert managed["object"] == "text_completion"
    assert managed["model"] == "meta/llama-3.1-8b-instruct-maas"


def test_streams_arrive_piece_by_piece(deployed: tuple[Vertex, str]) -> None:
    vertex, name = deployed
    chat = {"messages": [{"role": "user", "content": "say 3"}], "max_tokens": 24, "stream": True, "ignore_eos": True}
    for path in ("/chat/completions", ":streamRawPredict"):
        pieces = 0
        with vertex.client.stream("POST", f"/v1beta1/{name}{path}", json=chat) as response:
            assert response.headers["content-type"].startswith("text/event-stream")
            lines = []
            for piece in response.iter_text():
                pieces += 1
                lines += [line for line in piece.splitlines() if line]
        assert lines[-1] == "data: [DONE]"
        assert pieces > 1
        assert all(json.loads(line.removeprefix("data: "))["object"] for line in lines[:-1])


def test_wrong_questions(deployed: tuple[Vertex, str]) -> None:
    vertex, name = deployed
    bodies: list[dict[str, object]] = [{}, {"instances": []}, {"instances": "x"}, {"instances": [{"max_tokens": 3}]}]
    for body in bodies:
        vertex.error(vertex.post(f"{name}:predict", body), 400, "INVALID_ARGUMENT")
    vertex.error(vertex.post(f"{name}/chat/completions", {"messages": []}), 400, "INVALID_ARGUMENT")
    for content in (b"{", b"[]"):
        assert vertex.client.post(f"/v1/{name}/chat/completions", content=content).status_code == 400
    vertex.error(vertex.post(f"{name}:predict", {"instances": ["x" * (33 * 1024 * 1024)]}), 400, "INVALID_ARGUMENT")
    vertex.error(vertex.post(f"{name}/deployedModels/1/invoke/v1/chat/completions", {}), 404, "NOT_FOUND")


def test_many_at_once(deployed: tuple[Vertex, str]) -> None:
    vertex, name = deployed
    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(lambda _: vertex.post(f"{name}:predict", {"instances": [PROMPT]}), range(32)))
    assert {answer.status_code for answer in answers} == {200}
    assert len({answer.json()["predictions"][0] for answer in answers}) == 1


def test_a_dead_process_is_started_again(deployed: tuple[Vertex, str], emulator: EmulatorServer) -> None:
    vertex, name = deployed
    before = vertex.post(f"{name}:predict", {"instances": [PROMPT]}).json()["predictions"]
    workers = list(Path(emulator.settings.directory, "deployments").glob("*/worker.json"))
    for worker in workers:
        os.kill(json.loads(worker.read_text())["pid"], signal.SIGKILL)
    assert workers
    deadline = time.monotonic() + 60
    while True:
        answer = vertex.post(f"{name}:predict", {"instances": [PROMPT]})
        if answer.status_code == 200:
            break
        # The one request that meets the dying process is told to come again.
        vertex.error(answer, 503, "UNAVAILABLE")
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert answer.json()["predictions"] == before


def test_images_are_read_from_cloud_storage(vertex: Vertex) -> None:
    agreement = {"publisherModel": "publishers/meta/models/llama4@llama-4-scout-17b-16e-instruct"}
    vertex.post(f"projects/{vertex.project.project}/modelGardenEula:accept", agreement).raise_for_status()
    body = {"publisherModelName": agreement["publisherModel"]}
    name = vertex.finished(vertex.post(f"{vertex.project.parent}:deploy", body))["response"]["endpoint"]
    buffer = io.BytesIO()
    Image.new("RGB", (100, 60), "red").save(buffer, "PNG")
    upload = f"/upload/storage/v1/b/{vertex.project.images}/o"
    vertex.client.post(upload, params={"uploadType": "media", "name": "red.png"}, content=buffer.getvalue())
    inline = f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}"

    def asked(url: str) -> httpx.Response:
        parts = [{"type": "image_url", "image_url": {"url": url}}, {"type": "text", "text": "What is this?"}]
        chat = {"messages": [{"role": "user", "content": parts}], "max_tokens": 4, "temperature": 0}
        return vertex.post(f"{name}/chat/completions", chat)

    stored = f"gs://{vertex.project.images}/red.png"
    by_address, by_bytes = asked(stored).json(), asked(inline).json()
    assert by_address["choices"] == by_bytes["choices"]
    assert by_address["usage"]["prompt_tokens"] > 10
    gemini = {"contents": [{"role": "user", "parts": [{"fileData": {"fileUri": stored, "mimeType": "image/png"}}]}]}
    answer = vertex.post(f"{name}:generateContent", {**gemini, "generationConfig": {"maxOutputTokens": 4}})
    assert answer.json()["candidates"]
    for url in (f"gs://{vertex.project.images}/absent.png", "gs://nowhere-at-all/x.png"):
        assert url in vertex.error(asked(url), 400, "INVALID_ARGUMENT")


def test_managed_models_answer_by_name(vertex: Vertex) -> None:
    path = f"{vertex.project.parent}/endpoints/openapi/chat/completions"
    chat = {
        "model": "meta/llama-3.3-70b-instruct-maas",
        "messages": [{"role": "user", "content": "hi"}],
        "max_tokens": 3,
    }
    answer = vertex.post(path, chat).json()
    assert (answer["model"], answer["choices"][0]["message"]["role"]) == (chat["model"], "assistant")
    unknown = vertex.post(path, {**chat, "model": "meta/llama-9-maas"})
    assert "meta/llama-9-maas" in vertex.error(unknown, 404, "NOT_FOUND")
    vertex.error(vertex.post(path, {"messages": []}), 400, "INVALID_ARGUMENT")
    # Google's definitions have no list of models beside it, and OpenAI's client says so.
    vertex.error(vertex.client.get(f"/v1beta1/{vertex.project.parent}/endpoints/openapi/models"), 404, "NOT_FOUND")


@pytest.mark.skipif(find_spec("llguidance") is None, reason="needs llguidance")
def test_langchain_gets_structured_answers_and_calls_of_tools(vertex: Vertex) -> None:
    python = python_with("langchain", ["langchain-openai>=1,<2"])
    route = f"{str(vertex.client.base_url).rstrip(chr(47))}/v1beta1/{vertex.project.parent}/endpoints/openapi"
    program = Path(__file__).parents[2] / "clients" / "langchain" / "day.py"
    done = subprocess.run(
        [python, "-I", program, route, "meta/llama-3.1-8b-instruct-maas"],
        capture_output=True, text=True, timeout=240, check=False, env={"HOME": "/nonexistent"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads(done.stdout)
    for method in ("json_schema", "function_calling", "streamed"):
        assert set(found[method]) == {"maker", "doors"}, method
        assert 2 <= found[method]["doors"] <= 5
    json.loads(found["json_mode"]) if isinstance(found["json_mode"], str) else None
    assert found["call"] == ["paint", ["colour"]]
    assert (found["after"], found["streamed_call"], found["any"]) == ("ai", ["paint"], ["paint"])


def test_a_model_is_exported_as_it_is(tuned: tuple[Vertex, str]) -> None:
    vertex, job = tuned
    model = vertex.get(job)["tunedModel"]["model"].partition("@")[0]
    source = vertex.get(model)["artifactUri"]
    place = f"gs://{vertex.project.outputs}/exported"
    config = {"exportFormatId": "custom-trained", "artifactDestination": {"outputUriPrefix": place}}
    done = vertex.finished(vertex.post(f"{model}:export", {"outputConfig": config}))
    target = done["metadata"]["outputInfo"]["artifactOutputUri"]
    assert target.startswith(f"{place}/model-{model.rpartition('/')[2]}/custom-trained/")

    def content(uri: str) -> dict[str, str]:
        bucket, _, prefix = uri.removeprefix("gs://").partition("/")
        found = vertex.client.get(f"/storage/v1/b/{bucket}/o", params={"prefix": f"{prefix}/"}).json()["items"]
        return {item["name"][len(prefix) :]: item["md5Hash"] for item in found}

    assert content(target) == content(source)
    assert "/config.json" in content(target)
    for wrong in ({}, {"exportFormatId": "tflite", "artifactDestination": {"outputUriPrefix": place}}):
        vertex.error(vertex.post(f"{model}:export", {"outputConfig": wrong}), 400, "INVALID_ARGUMENT")
    nowhere = {"artifactDestination": {"outputUriPrefix": "gs://nowhere-at-all/x"}}
    vertex.error(vertex.post(f"{model}:export", {"outputConfig": nowhere}), 404, "NOT_FOUND")


def test_a_second_model_on_one_endpoint_and_a_publishers_model(tuned: tuple[Vertex, str]) -> None:
    vertex, job = tuned
    body = {
        "publisherModelName": "publishers/meta/models/llama3-2@llama-3.2-1b-instruct",
        "endpointConfig": {"endpointUserId": "4242"},
        "modelConfig": {"acceptEula": True},
    }
    unasked = vertex.post(f"{vertex.project.parent}:deploy", {**body, "modelConfig": {}})
    assert "has not been accepted" in vertex.error(unasked, 400, "FAILED_PRECONDITION")
    operation = vertex.finished(vertex.post(f"{vertex.project.parent}:deploy", body))
    name = operation["response"]["endpoint"]
    assert name.endswith("/endpoints/4242")
    assert operation["response"]["publisherModel"] == body["publisherModelName"]
    (first,) = vertex.get(name)["deployedModels"]
    assert first["dedicatedResources"]["machineSpec"]["machineType"] == "g2-standard-8"
    model = vertex.get(job)["tunedModel"]["model"]
    second = {"deployedModel": {"model": model, "id": "77"}, "trafficSplit": {"0": 30, first["id"]: 70}}
    done = vertex.finished(vertex.post(f"{name}:deployModel", second))
    assert done["response"]["deployedModel"]["id"] == "77"
    assert vertex.get(name)["trafficSplit"] == {"77": 30, first["id"]: 70}
    asked = {vertex.post(f"{name}:predict", {"instances": [PROMPT]}).json()["deployedModelId"] for _ in range(40)}
    assert asked == {"77", first["id"]}
    again = vertex.post(f"{name}:deployModel", second)
    vertex.error(again, 409, "ALREADY_EXISTS")
    undeploy = f"{name}:undeployModel"
    refused = vertex.post(undeploy, {"deployedModelId": "77"})
    vertex.error(refused, 400, "INVALID_ARGUMENT")  # its share of the traffic would go nowhere
    vertex.finished(vertex.post(undeploy, {"deployed_model_id": "77", "trafficSplit": {first["id"]: 100}}))
    vertex.finished(vertex.post(undeploy, {"deployedModelId": first["id"]}))
    vertex.error(vertex.post(undeploy, {"deployedModelId": first["id"]}), 404, "NOT_FOUND")
    assert not {"deployedModels", "trafficSplit"} & set(vertex.get(name))
    vertex.finished(vertex.client.delete(f"/v1/{name}"))
