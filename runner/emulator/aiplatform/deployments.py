"""The serving processes of an emulator: one for each deployed model.

Managed open models, which need no deployment, are served in the same way: their processes start with the first request,
and the least recently used process is stopped if there are too many.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import logging
import shutil
import tempfile
from pathlib import Path
from typing import Any

from runner.catalog import Model, UnknownModelError, find_model, models
from runner.emulator import store
from runner.emulator.aiplatform import endpoints, tuning_inputs
from runner.emulator.aiplatform.serving import START_SECONDS, Serving
from runner.emulator.context import Emulator
from runner.emulator.engine import launcher
from runner.emulator.engine.protocol import ModelSource
from runner.emulator.engine.sources import choose_source
from runner.emulator.errors import ApiError

logger = logging.getLogger(__name__)

_MAX_MANAGED = 2
_MAX_SOCKET_PATH = 100
"""Maximum bytes of a Unix socket's path; the system's limit is 104 to 108."""


class Deployments:
    """All serving processes of one emulator. Call its methods on the emulator's event loop."""

    def __init__(self, emulator: Emulator) -> None:
        self.emulator = emulator
        self._servings: dict[str, Serving] = {}
        self._managed: dict[str, Serving] = {}
        self._choosing = asyncio.Lock()
        self._sockets: Path | None = None

    async def start(self) -> None:
        """Kill the processes of an earlier emulator, then start every deployment again."""
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
        """Start the process of a new deployment."""
        document = self.emulator.store.read(lambda connection: store.find(connection, endpoints.DEPLOYMENT, name))
        if document is not None and name not in self._servings:
            self.launch(name, document)

    def launch(self, name: str, document: dict[str, Any]) -> None:
        """Start the process of a stored deployment; its operation ends when the process is ready or has failed."""
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
        """Return the ready process of a deployment. Raises ApiError UNAVAILABLE."""
        serving = self._servings.get(name)
        if serving is None:
            raise ApiError("UNAVAILABLE", "The model is not being served. Please retry.")
        await serving.wait_ready()
        return serving

    async def managed(self, model: Model) -> Serving:
        """Return a ready process for a managed open model, and start it if necessary. Raises ApiError."""
        async with self._choosing:
            serving = await self._choose(model)
        await serving.wait_ready(START_SECONDS)
        return serving

    async def temporary(self, folder: str, display: str, source: dict[str, str]) -> Serving:
        """Return a ready process for a model's weights; the caller passes it to `end`. Raises ApiError."""
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
            await serving.wait_ready(START_SECONDS)
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
        self._managed[model.id] = serving  # the last one is the most recently used
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
    """Ignore the notifications for a managed model."""


def _deployed_source(emulator: Emulator, source: dict[str, str], directory: Path) -> ModelSource:
    """Return the weights of a deployment, whose checkpoint is copied beside it once. Blocks."""
    if "publisherModel" in source:
        return choose_source(find_model(source["publisherModel"]), emulator.settings, None)
    weights = directory / "weights"
    if not weights.is_dir():
        tuning_inputs.copy_checkpoint(emulator, source["artifactUri"], "artifact_uri", weights)
    return choose_source(base_model_of(weights / "config.json", source), emulator.settings, str(weights))


def base_model_of(config: Path, source: dict[str, str]) -> Model:
    """Return the base model of a checkpoint: the recorded one, or one of the family in its config.json."""
    with contextlib.suppress(UnknownModelError):
        return find_model(source.get("baseModel", ""))
    return model_of_config(config.read_bytes())


def model_of_config(config: bytes) -> Model:
    """Return a catalog model with the architecture in a config.json. Raises ApiError INVALID_ARGUMENT."""
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
