"""Serving processes: one a deployed model, started again whenever it dies, reached over a Unix socket.

Managed open models, which need no deployment, are served in the same way: started at the first request, the least
recently asked one stopped when there are too many.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import logging
import shutil
import tempfile
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import httpx

from runner.catalog import Model, UnknownModelError, find_model, models
from runner.emulator import store
from runner.emulator.aiplatform import endpoints, long_running, tuning_inputs
from runner.emulator.context import Emulator
from runner.emulator.engine import launcher
from runner.emulator.engine.protocol import ModelSource, ServingSpec
from runner.emulator.engine.sources import choose_source
from runner.emulator.errors import ApiError, engine_error

logger = logging.getLogger(__name__)

_HEALTH_SECONDS = 0.1
_START_SECONDS = 300.0
"""How long a process may take to load its weights."""
_READY_SECONDS = 120.0
"""How long a request waits for a process that is being started again."""
_ANSWER_SECONDS = 600.0
"""How long a process may take to answer; Vertex AI's own limit on dedicated endpoints is 3600."""
_MAX_STARTS = 3
"""How often a new deployment's process may die before the deployment fails."""
_FAILED = "failed.json"
"""What a process that cannot load its model leaves in its folder: `status`, `message` and `reason`."""
_MAX_BACKOFF = 30.0
_MAX_MANAGED = 2
_MAX_SOCKET_PATH = 100
"""Bytes of a Unix socket's path; the system's limit is 104 to 108."""


class Serving:
    """One process that serves one set of weights."""

    def __init__(
        self,
        emulator: Emulator,
        directory: Path,
        socket: Path,
        name: str,
        source: Callable[[], ModelSource],
        machine: dict[str, Any] | None = None,
        operation: str = "",
    ) -> None:
        self.emulator = emulator
        self._operation = operation
        self.machine = machine or {}
        """MachineSpec that it is deployed on; {} for a managed model."""
        self.directory = directory
        self.socket = socket
        self.name = name
        self._source = source
        self._task: asyncio.Task[None] | None = None
        self._ready = asyncio.Event()
        self.failure: ApiError | None = None
        self.client = httpx.AsyncClient(
            transport=httpx.AsyncHTTPTransport(
                uds=str(socket), limits=httpx.Limits(max_connections=None, max_keepalive_connections=64)
            ),
            base_url="http://model",
            timeout=httpx.Timeout(_ANSWER_SECONDS, connect=5),
        )

    def start(
        self, *, give_up: bool, ready: Callable[[], Awaitable[None]], failed: Callable[[ApiError], Awaitable[None]]
    ) -> None:
        """Start in the background. `ready` is awaited at an answer; `failed` when none comes, if `give_up`."""
        self._task = asyncio.create_task(self._run(give_up, ready, failed))

    async def stop(self) -> None:
        """End the process and forget its socket; the folder stays."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        await self.client.aclose()
        self.socket.unlink(missing_ok=True)

    async def wait_ready(self, seconds: float = _READY_SECONDS) -> None:
        """Return once the process answers. Raises ApiError UNAVAILABLE, or why it cannot."""
        if not self._ready.is_set():
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._ready.wait(), seconds)
        if self.failure is not None:
            raise self.failure
        if not self._ready.is_set():
            raise ApiError("UNAVAILABLE", "The model is not ready yet. Please retry.")

    async def _run(
        self, give_up: bool, ready: Callable[[], Awaitable[None]], failed: Callable[[ApiError], Awaitable[None]]
    ) -> None:
        starts = 0
        while True:
            starts += 1
            try:
                if give_up and self.machine:
                    await self._befall()
                await self._serve(ready)
                starts = 0  # it served until it died
            except ApiError as error:
                if give_up and (starts >= _MAX_STARTS or error.status != "UNAVAILABLE"):
                    self.failure = error
                    self._ready.set()
                    await failed(error)
                    return
                logger.warning("%s: %s", self.name, error.message)
            except Exception:
                logger.exception("bug while serving %s", self.name)
            give_up = give_up and starts > 0
            await asyncio.sleep(min(_MAX_BACKOFF, 0.5 * 2 ** min(starts, 6)) if starts else 0)

    async def _befall(self) -> None:
        """Let an armed fault strike a deployment before it serves. Raises ApiError."""
        faults = self.emulator.faults
        await faults.hold_deployment(self.name, self.emulator.settings.time_scale)
        if (failing := faults.of_deployment("fail", self.name)) is not None:
            raise failing.deployment_failure(self.machine)

    async def _stage(self, value: str) -> None:
        """Say in the operation of a deployment how far it is."""
        name, now = self._operation, self.emulator.clock.timestamp()
        with contextlib.suppress(ApiError):  # the operation was deleted
            if name:
                await self.emulator.store.write(lambda connection: long_running.stage(connection, name, now, value))

    async def _serve(self, ready: Callable[[], Awaitable[None]]) -> None:
        """Run the process once: return when it dies after having answered. Raises ApiError when it never answers."""
        reason = self.emulator.launcher.available()
        if reason is not None:
            raise ApiError("FAILED_PRECONDITION", reason)
        self.directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        await self._stage("PREPARING_MODEL")
        source = await asyncio.to_thread(self._source)
        await self._stage("STARTING_MODEL_SERVER")
        self.socket.unlink(missing_ok=True)
        (self.directory / _FAILED).unlink(missing_ok=True)
        settings = self.emulator.settings
        ServingSpec(
            source=source,
            socket=str(self.socket),
            name=self.name,
            threads=settings.training_threads,
            cache_directory=str(settings.model_cache),
        ).write(self.directory / "serving.json")
        worker = self.emulator.launcher.start_serving(self.directory)
        try:
            ended = asyncio.ensure_future(worker.wait())
            await self._until_healthy(ended)
            await ready()
            self._ready.set()
            code = await ended
            logger.warning("the process serving %s ended with %d; starting it again", self.name, code)
        finally:
            self._ready.clear()
            if worker.is_alive():
                worker.kill()
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(worker.wait(), 5)

    async def _until_healthy(self, ended: asyncio.Future[int]) -> None:
        deadline = asyncio.get_running_loop().time() + _START_SECONDS
        while True:
            await asyncio.wait([ended], timeout=_HEALTH_SECONDS)
            if ended.done():
                raise self._exited(ended.result())
            if asyncio.get_running_loop().time() > deadline:
                raise ApiError("UNAVAILABLE", f"Model server did not answer within {_START_SECONDS:.0f} seconds.")
            if self.socket.exists():
                with contextlib.suppress(httpx.HTTPError):
                    if (await self.client.get("/health", timeout=5)).status_code == 200:
                        return

    def _exited(self, code: int) -> ApiError:
        """Return why the process ended: what it wrote down itself, which another start would not change; else a guess.

        UNAVAILABLE is worth another start.
        """
        said = f"Model server exited unexpectedly with code {code}"
        try:
            failure = json.loads((self.directory / _FAILED).read_bytes())
            status, message = str(failure["status"]), str(failure["message"])
        except (OSError, ValueError, KeyError, TypeError):
            return ApiError("UNAVAILABLE", f"{said}{self._last_words()}.")
        return engine_error(status, f"{said}: {message}", str(failure.get("reason", "")))

    def _last_words(self) -> str:
        for log in sorted(self.directory.glob("*.log")):
            lines = [line for line in log.read_text(errors="replace").splitlines() if line.strip()]
            if lines:
                return f": {lines[-1][:500]}"
        return ""


class Deployments:
    """All serving processes of one emulator. Its methods are called on the emulator's event loop."""

    def __init__(self, emulator: Emulator) -> None:
        self.emulator = emulator
        self._servings: dict[str, Serving] = {}
        self._managed: dict[str, Serving] = {}
        self._choosing = asyncio.Lock()
        self._sockets: Path | None = None

    async def start(self) -> None:
        """Kill what an earlier emulator left running, then start every deployment again."""
        documents = self.emulator.store.read(lambda connection: list(store.scan(connection, endpoints.DEPLOYMENT)))
        wanted = {document["directory"] for _, document in documents}
        for directory in self.emulator.deployments.iterdir():
            if directory.is_dir():
                await asyncio.to_thread(launcher.kill_stale, directory)
                if directory.name not in wanted:
                    shutil.rmtree(directory, ignore_errors=True)
        for name, document in documents:
            self.launch(name, document)

    async def stop(self) -> None:
        """End all processes; deployments start again with the emulator."""
        await asyncio.gather(*(serving.stop() for serving in (*self._servings.values(), *self._managed.values())))
        await asyncio.sleep(0)  # transports close their sockets in the loop's next round
        if self._sockets is not None:
            shutil.rmtree(self._sockets, ignore_errors=True)

    @property
    def running(self) -> list[str]:
        """Return the names of the deployments, ready or not."""
        return sorted(self._servings)

    def launch_stored(self, name: str) -> None:
        """Start the process of a deployment that has just been stored."""
        document = self.emulator.store.read(lambda connection: store.find(connection, endpoints.DEPLOYMENT, name))
        if document is not None and name not in self._servings:
            self.launch(name, document)

    def launch(self, name: str, document: dict[str, Any]) -> None:
        """Start the process of a stored deployment; its operation ends when it answers or cannot."""
        directory = self.emulator.deployments / document["directory"]
        serving = Serving(
            self.emulator,
            directory,
            self._socket(directory),
            document["deployedModel"]["displayName"],
            lambda: _deployed_source(self.emulator, document["source"], directory),
            document["deployedModel"].get("dedicatedResources", {}).get("machineSpec"),
            document["operation"],
        )
        clock, state = self.emulator.clock, self.emulator.store

        async def ready() -> None:
            await state.write(lambda connection: endpoints.deployed_ok(connection, name, clock.timestamp()))

        async def failed(error: ApiError) -> None:
            await state.write(lambda connection: endpoints.deployed_badly(connection, name, clock.timestamp(), error))
            self._servings.pop(name, None)
            await serving.client.aclose()
            await asyncio.to_thread(shutil.rmtree, directory, True)

        self._servings[name] = serving
        serving.start(give_up=bool(document["operation"]), ready=ready, failed=failed)

    async def remove(self, name: str) -> None:
        """End the process of a deployment and delete its folder."""
        serving = self._servings.pop(name, None)
        if serving is not None:
            await serving.stop()
            await asyncio.to_thread(shutil.rmtree, serving.directory, True)

    async def deployed(self, name: str) -> Serving:
        """Return the answering process of a deployment. Raises ApiError UNAVAILABLE."""
        serving = self._servings.get(name)
        if serving is None:
            raise ApiError("UNAVAILABLE", "The model is not being served. Please retry.")
        await serving.wait_ready()
        return serving

    async def managed(self, model: Model) -> Serving:
        """Return an answering process for a managed open model, started if need be. Raises ApiError."""
        async with self._choosing:
            serving = await self._choose(model)
        await serving.wait_ready(_START_SECONDS)
        return serving

    async def temporary(self, folder: str, display: str, source: dict[str, str]) -> Serving:
        """Return an answering process for a model's weights, which the caller hands to `end`. Raises ApiError."""
        directory = self.emulator.deployments / folder
        serving = Serving(
            self.emulator,
            directory,
            self._socket(directory),
            display,
            lambda: _deployed_source(self.emulator, source, directory),
        )
        serving.start(give_up=True, ready=_nothing, failed=_nothing)
        try:
            await serving.wait_ready(_START_SECONDS)
        except BaseException:
            await self.end(serving)
            raise
        return serving

    async def end(self, serving: Serving) -> None:
        """End a temporary process and delete its folder."""
        await serving.stop()
        await asyncio.to_thread(shutil.rmtree, serving.directory, True)

    async def _choose(self, model: Model) -> Serving:
        serving = self._managed.pop(model.id, None)
        if serving is not None and serving.failure is not None:
            await serving.stop()
            serving = None
        if serving is None:
            while len(self._managed) >= _MAX_MANAGED:
                oldest = next(iter(self._managed))
                await self._managed.pop(oldest).stop()
            directory = self.emulator.deployments / f"managed-{hashlib.sha256(model.id.encode()).hexdigest()[:12]}"
            settings = self.emulator.settings
            serving = Serving(
                self.emulator,
                directory,
                self._socket(directory),
                model.id,
                lambda: choose_source(model, settings, None),
            )
            serving.start(give_up=True, ready=_nothing, failed=_nothing)
        self._managed[model.id] = serving  # the last one is the most recently asked
        return serving

    def _socket(self, directory: Path) -> Path:
        inside = directory / "model.sock"
        if len(str(inside).encode()) <= _MAX_SOCKET_PATH:
            return inside
        name = f"{directory.name[:24]}.sock"
        if self._sockets is None:
            # The temporary directory may be as deep as the state directory; /tmp never is.
            fits = len(f"{tempfile.gettempdir()}/omt-12345678/{name}".encode()) <= _MAX_SOCKET_PATH
            self._sockets = Path(tempfile.mkdtemp(prefix="omt-", dir=None if fits else "/tmp"))  # noqa: S108
        return self._sockets / name


async def _nothing(error: ApiError | None = None) -> None:
    """Stand for a managed model's notices, which nobody waits for."""


def _deployed_source(emulator: Emulator, source: dict[str, str], directory: Path) -> ModelSource:
    """Return the weights of a deployment, its checkpoint copied beside it once. Blocks."""
    if "publisherModel" in source:
        return choose_source(find_model(source["publisherModel"]), emulator.settings, None)
    weights = directory / "weights"
    if not weights.is_dir():
        tuning_inputs.copy_checkpoint(emulator, source["artifactUri"], "artifact_uri", weights)
    return choose_source(base_model_of(weights / "config.json", source), emulator.settings, str(weights))


def base_model_of(config: Path, source: dict[str, str]) -> Model:
    """Return the base model of a checkpoint: as recorded, else one of the family that its config.json names."""
    with contextlib.suppress(UnknownModelError):
        return find_model(source.get("baseModel", ""))
    return model_of_config(config.read_bytes())


def model_of_config(config: bytes) -> Model:
    """Return a catalogue model of the architecture in a config.json. Raises ApiError INVALID_ARGUMENT."""
    try:
        kind = str(json.loads(config).get("model_type", ""))
    except (ValueError, AttributeError) as error:
        raise ApiError("INVALID_ARGUMENT", "The config.json of the model is not valid JSON.") from error
    family = {"llama": "llama3"}.get(kind) or next(
        (name for name in ("llama4", "gemma3", "qwen3") if kind.startswith(name)), None
    )
    for model in models():
        if model.family == family:
            return model
    raise ApiError("INVALID_ARGUMENT", f"The model architecture {kind!r} is not supported.")
