"""Which engine serves, and the adapter of vLLM.

vLLM itself runs only in the last test, which needs it and a GPU. In the others `tiny_vllm` stands in for vLLM's
`AsyncLLM`: it has the documented methods, yields objects of the documented shapes, and chooses its tokens with
the tiny model, so that the answers over HTTP must be those of the emulator's own engine.
"""

from __future__ import annotations

import asyncio
import importlib.util
import json
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import torch
import uvicorn

from runner.emulator.engine.checkpoints import ModelError
from runner.emulator.engine.launcher import Launcher
from runner.emulator.engine.loading import LoadedModel, load
from runner.emulator.engine.protocol import ModelSource, ServingSpec
from runner.emulator.engine.serving.interface import ServingEngine, engine_kind
from runner.emulator.engine.serving.parameters import SamplingParameters
from runner.emulator.engine.serving.process import ModelServer, serve
from runner.emulator.engine.serving.vllm import VllmEngine, engine_arguments, load_description, sampling_arguments
from tests.emulator.engine.serving_processes import LLAMA, chat, client_of, served
from tests.emulator.engine.tiny_vllm import (
    SAMPLING_FIELDS,
    TinyAsyncLLM,
)

pytestmark = pytest.mark.training

HAS_VLLM = importlib.util.find_spec("vllm") is not None and torch.cuda.is_available()


@pytest.fixture(scope="module")
def loaded(model_cache: Path) -> LoadedModel:
    return load(LLAMA, cache_directory=str(model_cache), threads=1)


@contextmanager
def serving(loaded: LoadedModel, engine: ServingEngine | None = None) -> Iterator[httpx.Client]:
    """Serve the HTTP application on a socket of its own."""
    with tempfile.TemporaryDirectory(prefix="vllm-") as name:
        socket = Path(name) / "s"
        spec = ServingSpec(source=LLAMA, socket=str(socket), name="tuned")
        app = ModelServer(spec, loaded, engine).app
        server = uvicorn.Server(uvicorn.Config(app, uds=str(socket), log_config=None, timeout_graceful_shutdown=2))
        thread = threading.Thread(target=server.run)
        thread.start()
        try:
            deadline = time.monotonic() + 60
            while not server.started:
                assert thread.is_alive()
                assert time.monotonic() < deadline
                time.sleep(0.01)
            with client_of(socket) as client:
                yield client
        finally:
            server.should_exit = True
            thread.join(60)
        assert not thread.is_alive()


def vllm_engine(loaded: LoadedModel, llm: TinyAsyncLLM, **limits: int) -> VllmEngine:
    def make(values: Mapping[str, Any]) -> Mapping[str, Any]:
        assert values.keys() <= SAMPLING_FIELDS
        return values

    return VllmEngine(llm, make, loaded, **{"max_length": 8192, **limits})


def wait_for(client: httpx.Client, condition: str) -> dict[str, Any]:
    deadline = time.monotonic() + 120
    while True:
        metrics: dict[str, Any] = client.get("/metrics").json()
        if eval(condition, {}, metrics):  # noqa: S307 - the tests' own expressions
            return metrics
        assert time.monotonic() < deadline, f"{condition} never held: {metrics}"
        time.sleep(0.02)


def without_chance(value: Any) -> Any:
    """Return an answer without what differs between two equal ones: ids, times and the last digits of floats."""
    if isinstance(value, dict):
        return {key: without_chance(one) for key, one in value.items() if key not in ("id", "created")}
    if isinstance(value, list):
        return [without_chance(one) for one in value]
    return round(value, 3) if isinstance(value, float) else value


QUESTIONS: list[tuple[str, dict[str, Any]]] = [
    ("/chat/completions", chat("Say something", temperature=0, max_tokens=30)),
    ("/chat/completions", chat("Say it", temperature=0, max_tokens=30, ignore_eos=True, skip_special_tokens=False)),
    ("/chat/completions", chat("Count", temperature=0, max_tokens=25, logprobs=True, top_logprobs=3)),
    ("/chat/completions", chat("Count", temperature=0, max_tokens=5, logprobs=True)),
    ("/chat/completions", chat("Likely?", temperature=0, max_tokens=2, prompt_logprobs=2)),
    ("/predict", {"instances": [{"prompt": "Once upon", "temperature": 0}, {"prompt": "x", "temperature": 0}]}),
]  # fmt: skip


def test_answers_over_http_are_those_of_the_own_engine(loaded: LoadedModel) -> None:
    llm = TinyAsyncLLM(loaded.model)
    with serving(loaded) as own, serving(loaded, vllm_engine(loaded, llm)) as adapted:
        assert own.get("/health").json()["engine"] == "torch"
        assert adapted.get("/health").json()["engine"] == "vllm"
        going_on = chat("Go on", temperature=0, max_tokens=40, ignore_eos=True)
        text = own.post("/chat/completions", json=going_on).json()["choices"][0]["message"]["content"]
        assert len(text) > 12
        cut = {**going_on, "stop": ["never written", text[6:9]]}
        assert own.post("/chat/completions", json=cut).json()["choices"][0]["finish_reason"] == "stop"
        for path, body in [*QUESTIONS, ("/chat/completions", going_on), ("/chat/completions", cut)]:
            expected, found = own.post(path, json=body), adapted.post(path, json=body)
            assert expected.status_code == found.status_code == 200, found.text
            assert without_chance(found.json()) == without_chance(expected.json())
            if path == "/chat/completions" and "prompt_logprobs" not in body:
                streamed = adapted.post(path, json={**body, "stream": True}).text.split("\n\n")
                chunks = [json.loads(one.removeprefix("data: ")) for one in streamed[:-2]]
                streamed_text = "".join(one["choices"][0]["delta"].get("content") or "" for one in chunks)
                assert streamed_text == expected.json()["choices"][0]["message"]["content"]
        metrics = wait_for(adapted, "runningSequences == 0")
        assert metrics["finishedSequences"]["cancelled"] == metrics["finishedSequences"]["error"] == 0
        assert metrics["promptTokens"] > metrics["firstTokenCount"] == sum(metrics["finishedSequences"].values())
        assert len(llm.aborted) == 2  # the stop string, which vLLM is not told: in the whole answer and in the stream
    assert llm.is_shut_down


def test_what_vllm_would_not_take_is_refused(loaded: LoadedModel) -> None:
    llm = TinyAsyncLLM(loaded.model)
    with serving(loaded, vllm_engine(loaded, llm)) as client:
        hot = client.post("/chat/completions", json=chat("x", temperature=2.5, max_tokens=2))
        assert (hot.status_code, hot.json()["error"]["status"]) == (400, "INVALID_ARGUMENT")
        assert "vLLM takes at most 2" in hot.json()["error"]["message"]
        unknown = client.post("/chat/completions", json=chat("x", logit_bias={"5000": 1}, max_tokens=5))
        assert "Token id 5000 is not in the vocabulary" in unknown.json()["error"]["message"]
        llm.failing = True
        failed = client.post("/chat/completions", json=chat("x", max_tokens=2))
        assert (failed.status_code, failed.json()["error"]["status"]) == (500, "INTERNAL")
        assert "EngineCore encountered an issue" in failed.json()["error"]["message"]
        llm.failing = False
        assert client.post("/chat/completions", json=chat("x", max_tokens=2)).status_code == 200


def test_the_queue_is_bounded_and_who_leaves_frees_a_place(loaded: LoadedModel) -> None:
    llm = TinyAsyncLLM(loaded.model, delay_seconds=0.01)
    endless = chat("go on", stream=True, ignore_eos=True)
    short = chat("x", max_tokens=3, ignore_eos=True)
    with serving(loaded, vllm_engine(loaded, llm, max_batch=1, max_queue=1)) as client:
        with client.stream("POST", "/chat/completions", json=endless) as answer, ThreadPoolExecutor(1) as pool:
            events = answer.iter_raw()
            next(events)
            wait_for(client, "runningSequences == 1 and queueDepth == 0")
            second = pool.submit(client.post, "/chat/completions", json=short)
            wait_for(client, "queueDepth == 1")
            refused = client.post("/chat/completions", json=short)
            assert (refused.status_code, refused.json()["error"]["status"]) == (429, "RESOURCE_EXHAUSTED")
            answer.close()
            assert second.result(120).json()["usage"]["completion_tokens"] == 3
        metrics = wait_for(client, "runningSequences == 0")
        assert metrics["finishedSequences"]["cancelled"] == len(llm.aborted) == 1
        assert metrics["rejectedRequests"] == 1
        assert llm.most_at_once == 1


@pytest.mark.parametrize(("kind", "asked"), [("vllm", False), ("vllm", True), ("torch", True)])
def test_a_dead_engine_ends_its_process_and_all_that_waits(loaded: LoadedModel, kind: str, asked: bool) -> None:
    """Whoever waits is told, health says so, and `serve` returns, also when nobody asks for anything."""
    llm = TinyAsyncLLM(loaded.model, delay_seconds=0.01)
    dying = threading.Event()

    def forward(*_: Any) -> None:
        if kind == "torch" and dying.is_set():
            raise SystemExit("no more")  # no Exception, so that it ends the engine's thread

    def use(socket: Path) -> httpx.Response | None:
        deadline = time.monotonic() + 60
        while not socket.exists():
            assert time.monotonic() < deadline
            time.sleep(0.01)
        with client_of(socket) as client, ThreadPoolExecutor(1) as pool:
            assert client.get("/health").status_code == 200
            endless = chat("go on", ignore_eos=True, max_tokens=8000)
            waiting = pool.submit(client.post, "/chat/completions", json=endless) if asked else None
            if asked:
                wait_for(client, "runningSequences == 1")
            llm.errored = True
            dying.set()
            return None if waiting is None else waiting.result(60)

    hook = loaded.model.register_forward_pre_hook(forward)
    try:
        with tempfile.TemporaryDirectory(prefix="vllm-") as name, ThreadPoolExecutor(1) as pool:
            spec = ServingSpec(source=LLAMA, socket=str(Path(name) / "s"), name="tuned")
            using = pool.submit(use, Path(spec.socket))
            opened = (lambda: vllm_engine(loaded, llm)) if kind == "vllm" else None
            death = asyncio.run(serve(spec, loaded, opened))
            answer = using.result(60)
            assert not Path(spec.socket).exists()
    finally:
        hook.remove()
    assert death is not None
    assert ("EngineDeadError: EngineCore encountered an issue" if kind == "vllm" else "SystemExit: no more") in death
    if asked:
        assert answer is not None
        assert (answer.status_code, answer.json()["error"]["status"]) == (500, "INTERNAL")
        assert death in answer.json()["error"]["message"]


def test_a_dead_engine_is_no_longer_healthy_and_refuses_at_once(loaded: LoadedModel) -> None:
    llm = TinyAsyncLLM(loaded.model)
    with serving(loaded, vllm_engine(loaded, llm)) as client:
        llm.errored = True
        for answer in (client.get("/health"), client.post("/chat/completions", json=chat("x", max_tokens=2))):
            assert (answer.status_code, answer.json()["error"]["status"]) == (503, "UNAVAILABLE")
            assert "EngineDeadError" in answer.json()["error"]["message"]


def test_sampling_parameters_become_vllms() -> None:
    plain = sampling_arguments(SamplingParameters(), index=0, end_tokens=frozenset({7, 2}), room=100)
    assert plain.keys() <= SAMPLING_FIELDS
    assert plain == {
        "n": 1, "max_tokens": 16, "min_tokens": 0, "temperature": 1.0, "top_p": 1.0, "top_k": 0, "min_p": 0.0,
        "presence_penalty": 0.0, "frequency_penalty": 0.0, "repetition_penalty": 1.0, "logit_bias": None, "seed": None,
        "stop_token_ids": [2, 7], "ignore_eos": False, "logprobs": None, "prompt_logprobs": None, "detokenize": False,
    }  # fmt: skip
    asked = SamplingParameters(
        max_tokens=50, min_tokens=20, temperature=1e-6, top_p=0.5, top_k=3, min_p=0.1, seed=-1, n=2, logprobs=4,
        prompt_logprobs=0, logit_bias={3: -1.0}, ignore_eos=True, stop=("never told",), repetition_penalty=1.5,
    )  # fmt: skip
    first = sampling_arguments(asked, index=0, end_tokens=frozenset(), room=10)
    second = sampling_arguments(asked, index=1, end_tokens=frozenset(), room=10)
    assert (first["max_tokens"], first["min_tokens"], first["temperature"]) == (10, 10, 0.0)
    assert (first["seed"], second["seed"]) == (2**63 - 1, 0)
    assert (first["prompt_logprobs"], second["prompt_logprobs"]) == (0, None)
    assert first["logit_bias"] == {3: -1.0}
    assert "stop" not in first


def test_a_description_says_what_the_loaded_model_does(loaded: LoadedModel, model_cache: Path) -> None:
    described = load_description(LLAMA, cache_directory=str(model_cache))
    assert described.card == loaded.card
    assert described.model.config.to_dict().keys() == loaded.model.config.to_dict().keys()
    ours, theirs = vllm_engine(described, TinyAsyncLLM(loaded.model)), ModelServer(
        ServingSpec(source=LLAMA, socket="", name="m"), loaded
    ).engine  # fmt: skip
    assert (ours.end_tokens, ours.vocabulary_size) == (theirs.end_tokens, theirs.vocabulary_size)  # type: ignore[attr-defined]
    spec = ServingSpec(source=LLAMA, socket="", name="m", max_batch=3)
    assert engine_arguments(spec, described, 512) == {
        "model": described.card["directory"], "max_model_len": 512, "max_num_seqs": 3, "trust_remote_code": False,
        "disable_log_stats": True,
    }  # fmt: skip


def test_the_engine_is_chosen_by_what_is_there_and_by_the_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RUNNER_SERVING_ENGINE", raising=False)
    assert engine_kind() == ("vllm" if HAS_VLLM else "torch")
    monkeypatch.setenv("RUNNER_SERVING_ENGINE", "torch")
    assert engine_kind() == "torch"
    monkeypatch.setenv("RUNNER_SERVING_ENGINE", "tgi")
    with pytest.raises(ModelError, match="must be torch or vllm, got 'tgi'"):
        engine_kind()


@pytest.mark.skipif(HAS_VLLM, reason="vLLM can serve here")
def test_vllm_asked_for_and_missing_is_an_error_that_says_what_to_do(
    model_cache: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("RUNNER_SERVING_ENGINE", "vllm")
    launcher = Launcher(preload=False)
    try:
        spec = ServingSpec(source=LLAMA, socket=str(tmp_path / "s"), name="m", cache_directory=str(model_cache))
        spec.write(tmp_path / "serving.json")
        assert launcher.start_serving(tmp_path).join(120) == 1
    finally:
        launcher.close()
    failure = json.loads((tmp_path / "failed.json").read_text())
    assert failure["status"] == "FAILED_PRECONDITION"
    assert "pip install vllm" in failure["message"] or "nvidia-smi" in failure["message"]
    assert "export RUNNER_SERVING_ENGINE=torch" in failure["message"]


@pytest.mark.skipif(not HAS_VLLM, reason="needs vllm and a CUDA device")
def test_vllm_itself_gives_the_own_engines_greedy_answers(model_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = ModelSource(kind="tiny", family="llama3")
    answers = {}
    for kind in ("torch", "vllm"):
        monkeypatch.setenv("RUNNER_SERVING_ENGINE", kind)
        launcher = Launcher()
        try:
            with served(launcher, source, model_cache) as server:
                assert server.client.get("/health").json()["engine"] == kind
                answers[kind] = [
                    without_chance(server.post(path, {**body}).json()["choices"][0]["message"])
                    for path, body in QUESTIONS
                    if path == "/chat/completions"
                ]
        finally:
            launcher.close()
    assert answers["vllm"] == answers["torch"]
