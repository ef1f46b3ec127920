"""The serving process of one deployed model: HTTP over a Unix socket, as specified by `protocol.ServingSpec`."""

from __future__ import annotations

import asyncio
import contextlib
import copy
import functools
import json
import logging
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import unquote

import uvicorn
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from runner.emulator.engine.checkpoints import ModelError
from runner.emulator.engine.loading import load
from runner.emulator.engine.memory import lacking_memory
from runner.emulator.engine.protocol import ServingSpec
from runner.emulator.engine.serving.admission import dead_error
from runner.emulator.engine.serving.chat import ChatFormat, complete_chat, read_chat_request
from runner.emulator.engine.serving.completions import CompletionFormat, complete, queued, read_completion_request
from runner.emulator.engine.serving.engine import Engine
from runner.emulator.engine.serving.generation import Generation
from runner.emulator.engine.serving.interface import ServedModel, ServingEngine, engine_kind
from runner.emulator.engine.serving.predict import predict, read_instances
from runner.emulator.engine.serving.prompts import READERS, PromptEncoder
from runner.emulator.engine.serving.vllm import load_description, open_vllm
from runner.emulator.errors import ApiError, invalid

logger = logging.getLogger(__name__)

_T = TypeVar("_T")

_SHUTDOWN_SECONDS = 5
"""Maximum time for running answers after SIGTERM."""

_DEATH_SECONDS = 1
"""Interval of the checks whether the engine has failed."""

_CLIENT_CLOSED = 499


class ModelServer:
    """The HTTP application of one model.

    Args:
        spec: name and limits.
        loaded: model, tokenizer, processor.
        engine: the engine; None creates the emulator's own for the loaded model.
    """

    def __init__(self, spec: ServingSpec, loaded: ServedModel, engine: ServingEngine | None = None) -> None:
        self._name = spec.name
        self._card = loaded.card
        self.engine: ServingEngine = engine or _own_engine(spec, loaded)
        self.metrics = self.engine.metrics
        self._encoder = PromptEncoder(loaded.tokenizer, loaded.processor)
        self._readers = ThreadPoolExecutor(READERS, thread_name_prefix="reader")
        self._chat_defaults = _chat_defaults(loaded.model)
        self.app = Starlette(
            routes=[
                Route("/health", self._health, methods=["GET"]),
                Route("/metrics", self._metrics, methods=["GET"]),
                Route("/predict", self._counted(self._predict), methods=["POST"]),
                Route("/chat/completions", self._counted(self._chat), methods=["POST"]),
                Route("/completions", self._counted(self._complete), methods=["POST"]),
            ],
            exception_handlers={HTTPException: _not_routed},
            lifespan=self._lifespan,
        )

    @contextlib.asynccontextmanager
    async def _lifespan(self, _app: Starlette) -> AsyncIterator[None]:
        self.engine.start()
        yield
        self._readers.shutdown(wait=False, cancel_futures=True)
        self.engine.close()

    async def _health(self, _request: Request) -> Response:
        if (death := self.engine.death) is not None:
            return _error_response(dead_error(death))
        card = {name: self._card[name] for name in ("standIn", "weights") if name in self._card}
        return JSONResponse(
            {"status": "ok", **card, "maxModelLength": self.engine.max_length, "engine": self.engine.kind}
        )

    async def _metrics(self, _request: Request) -> Response:
        return JSONResponse(self.metrics.to_json())

    async def _predict(self, request: Request) -> Response:
        body = await _read_json(request)
        instances = await self._read(read_instances, body)
        return await _while_connected(request, predict(self._name, self.engine, instances))

    async def _chat(self, request: Request) -> Response:
        body = await _read_json(request)
        chat = await self._read(read_chat_request, body)
        # One process can have several names: the answer has the requested one.
        name = unquote(request.headers.get("x-served-name", "")) or self._name
        if not chat.stream:
            return await _while_connected(request, complete_chat(name, self.engine, chat))
        generation = Generation(self.engine, [(chat.prompt, chat.parameters)])
        return _Stream(ChatFormat(name, self.engine, chat), generation)

    async def _complete(self, request: Request) -> Response:
        asked = read_completion_request(await _read_json(request), self.engine, self._encoder)
        name = unquote(request.headers.get("x-served-name", "")) or self._name
        if not asked.stream:
            return await _while_connected(request, complete(name, self.engine, asked))
        return _Stream(CompletionFormat(name, self.engine, asked), queued(self.engine, asked))

    async def _read(self, read: Callable[..., _T], body: dict[str, Any]) -> _T:
        """Validate a request and encode its prompts, while the server continues to answer others."""
        reading = functools.partial(read, body, self.engine, self._encoder, self._chat_defaults)
        return await asyncio.get_running_loop().run_in_executor(self._readers, reading)

    def _counted(self, handler: Callable[[Request], Awaitable[Response]]) -> Callable[[Request], Awaitable[Response]]:
        """Convert errors to responses and count all responses."""

        async def handle(request: Request) -> Response:
            try:
                response = await handler(request)
            except ApiError as error:
                response = _error_response(error)
            except Exception as error:
                logger.exception("%s failed", request.url.path)
                response = _error_response(ApiError("INTERNAL", f"{type(error).__name__}: {error}"))
            self.metrics.count_request(request.url.path, response.status_code)
            return response

        return handle


class _Stream(Response):
    """A streamed completion: server-sent events until the last token, or until the client disconnects."""

    def __init__(self, form: ChatFormat | CompletionFormat, generation: Generation) -> None:
        super().__init__(media_type="text/event-stream", headers={"cache-control": "no-cache"})
        del self.headers["content-length"]
        self._form = form
        self._generation = generation
        # A full queue must still cause a 429, so the sequences are queued before the response begins.
        self._generation.__enter__()

    async def __call__(self, _scope: Scope, receive: Receive, send: Send) -> None:
        """Send the events."""
        sending = asyncio.ensure_future(self._send(send))
        try:
            await _first_of(sending, _disconnected(receive))
        finally:
            sending.cancel()
            self._generation.__exit__(None, None, None)

    async def _send(self, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
        try:
            async for chunk in self._form.chunks(self._generation):
                await send({"type": "http.response.body", "body": _event(chunk), "more_body": True})
        except ApiError as error:
            await send({"type": "http.response.body", "body": _event(_error_body(error)), "more_body": True})
        await send({"type": "http.response.body", "body": b"data: [DONE]\n\n"})


def _event(body: dict[str, Any]) -> bytes:
    return b"data: " + json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode() + b"\n\n"


def _error_body(error: ApiError) -> dict[str, Any]:
    return {"error": {"code": error.http, "status": error.status, "message": error.message}}


def _error_response(error: ApiError) -> Response:
    return JSONResponse(_error_body(error), error.http)


async def _not_routed(request: Request, error: Exception) -> Response:
    """Answer requests without a route."""
    number = error.status_code if isinstance(error, HTTPException) else 500
    status = "NOT_FOUND" if number == 404 else "UNIMPLEMENTED"
    return _error_response(ApiError(status, f"No route for {request.method} {request.url.path}.", http=number))


async def _read_json(request: Request) -> dict[str, Any]:
    try:
        body = json.loads(await request.body())
    except (ValueError, RecursionError) as error:
        raise invalid(f"The body is not JSON: {error}") from error
    if not isinstance(body, dict):
        raise invalid("The body must be a JSON object.")
    return body


async def _disconnected(receive: Receive) -> None:
    """Return when the client has closed the connection."""
    while (await receive())["type"] != "http.disconnect":
        pass


async def _first_of(main: asyncio.Future[Any], other: Awaitable[None]) -> bool:
    """Wait for `main` or `other`; return whether `main` is done, raising its error. `other` is cancelled."""
    watching = asyncio.ensure_future(other)
    try:
        await asyncio.wait([main, watching], return_when=asyncio.FIRST_COMPLETED)
    finally:
        watching.cancel()
    if not main.done():
        return False
    main.result()
    return True


async def _while_connected(request: Request, answer: Awaitable[dict[str, Any]]) -> Response:
    """Return the response; cancel it and its sequences if the client disconnects."""
    answering = asyncio.ensure_future(answer)
    try:
        if not await _first_of(answering, _disconnected(request.receive)):
            return Response(status_code=_CLIENT_CLOSED)
    finally:
        answering.cancel()
    return JSONResponse(answering.result())


def _load(spec: ServingSpec) -> tuple[ServedModel, ServingEngine]:
    loaded = load(spec.source, cache_directory=spec.cache_directory, threads=spec.threads, template=False)
    return loaded, _own_engine(spec, loaded)


def _own_engine(spec: ServingSpec, loaded: ServedModel) -> Engine:
    return Engine(
        loaded.model,
        # The engine's thread and the event loop each need a tokenizer of their own.
        copy.deepcopy(loaded.tokenizer),
        max_length=_max_length(spec, loaded),
        max_batch=spec.max_batch,
        max_queue=spec.max_queue,
    )


def _open_vllm(spec: ServingSpec, loaded: ServedModel) -> ServingEngine:
    return open_vllm(spec, loaded, max_length=_max_length(spec, loaded))


def _max_length(spec: ServingSpec, loaded: ServedModel) -> int:
    return min(spec.max_model_length, _positions(loaded.model))


def _positions(model: Any) -> int:
    return int(model.config.get_text_config().max_position_embeddings)


def _chat_defaults(model: Any) -> dict[str, Any]:
    """Return the sampling parameters in the checkpoint, which vLLM uses for chat completions."""
    configured = model.generation_config.to_diff_dict()
    names = ("temperature", "top_p", "top_k", "min_p", "repetition_penalty")
    return {name: configured[name] for name in names if configured.get(name) is not None}


class _Server(uvicorn.Server):
    """Exits with code 0 on SIGTERM, because uvicorn's own handling raises the signal again afterwards."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave signals to `serve`."""
        yield


async def serve(
    spec: ServingSpec, loaded: ServedModel, open_engine: Callable[[], ServingEngine] | None = None
) -> str | None:
    """Serve until SIGTERM or SIGINT, or until the engine fails; running answers get a few more seconds.

    Args:
        spec: name and limits.
        loaded: model, tokenizer, processor.
        open_engine: creates the engine, which loads the weights itself; None creates the emulator's own for `loaded`.

    Returns:
        Why the engine failed; None after a signal.

    Raises:
        ModelError: vLLM does not start with this model.
    """
    # vLLM belongs to the running loop, so it is started here; the socket appears after it has loaded the weights.
    model_server = ModelServer(spec, loaded, open_engine() if open_engine else None)
    config = uvicorn.Config(
        model_server.app,
        log_config=None,
        access_log=False,
        timeout_graceful_shutdown=_SHUTDOWN_SECONDS,
        timeout_keep_alive=60,
    )
    server = _Server(config)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, setattr, server, "should_exit", True)
    path = Path(spec.socket)
    with _listening_socket(path) as listening:
        watching = loop.create_task(_end_with_engine(model_server.engine, server))
        try:
            await server.serve(sockets=[listening])
        finally:
            path.unlink(missing_ok=True)
            watching.cancel()
    return watching.result() if watching.done() else None


async def _end_with_engine(engine: ServingEngine, server: uvicorn.Server) -> str:
    """End the server after its engine has failed, even without requests; return the reason."""
    while (death := engine.death) is None:
        await asyncio.sleep(_DEATH_SECONDS)
    logger.error("the engine is dead: %s", death)
    server.should_exit = True
    return death


def _listening_socket(path: Path) -> socket.socket:
    """Listen on a Unix socket that only this user can connect to, and replace an old one.

    The path appears when connections are accepted, so that waiting clients are not refused.
    """
    listening = socket.socket(socket.AF_UNIX)
    unfinished = path.with_name(path.name + "~")
    unfinished.unlink(missing_ok=True)
    before = os.umask(0o177)
    try:
        listening.bind(str(unfinished))
    finally:
        os.umask(before)
    listening.listen(1024)
    unfinished.rename(path)
    return listening


def main(directory: Path) -> int:
    """Load the model in the folder's `serving.json` and serve it until SIGTERM.

    Returns:
        0; 1 if the model cannot be loaded: `failed.json` in the folder then contains `status`, `message` and `reason`;
        2 if the engine failed.
    """
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    spec = ServingSpec.read(directory / "serving.json")
    try:
        vllm = engine_kind() == "vllm"
        loaded: ServedModel
        open_engine: Callable[[], ServingEngine]
        if vllm:
            loaded = load_description(spec.source, cache_directory=spec.cache_directory)
            open_engine = functools.partial(_open_vllm, spec, loaded)
        else:
            # In a thread that ends: OpenMP keeps a team for each thread that has computed. With more of their threads
            # than processors, it sleeps between all operations, regardless of GOMP_SPINCOUNT.
            with ThreadPoolExecutor(1) as loading:
                loaded, engine = loading.submit(_load, spec).result()
            open_engine = lambda: engine  # noqa: E731
        logger.info("serving %s", loaded.card.get("weights", spec.name))
        death = asyncio.run(serve(spec, loaded, open_engine))
    except ModelError as error:
        failure = {"status": error.status, "message": error.message, "reason": error.reason}
        (directory / "failed.json").write_text(json.dumps(failure))
        logger.error("the model cannot be loaded: %s", error.message)
        return 1
    except Exception as error:
        if (lacking := lacking_memory(error)) is None:
            raise
        message = f"The model does not fit into {lacking}; serve a smaller one, or undeploy others first."
        (directory / "failed.json").write_text(json.dumps({"status": "RESOURCE_EXHAUSTED", "message": message}))
        logger.exception("the model cannot be loaded")
        return 1
    return 0 if death is None else 2


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
