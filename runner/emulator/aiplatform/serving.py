"""A serving process for one set of weights, which is restarted when it dies and reached over a Unix socket."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import ssl
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import httpx

from runner.emulator.aiplatform import long_running
from runner.emulator.context import Emulator
from runner.emulator.engine.protocol import ModelSource, ServingSpec
from runner.emulator.errors import ApiError, engine_error

logger = logging.getLogger(__name__)

_NO_TLS = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
"""Trusts no certificates, because a local socket needs none and loading them takes 30 ms of CPU time."""
_HEALTH_SECONDS = 0.1
START_SECONDS = 300.0
"""Maximum time for a process to load its weights."""
_READY_SECONDS = 120.0
"""Maximum time that a request waits for a process that is restarting."""
_ANSWER_SECONDS = 600.0
"""Maximum time for an answer; the limit of Vertex AI for dedicated endpoints is 3600."""
_MAX_STARTS = 3
"""How often the process of a new deployment can die before the deployment fails."""
_FAILED = "failed.json"
"""File in its folder with the reason why a process could not load its model: `status`, `message` and `reason`."""
_MAX_BACKOFF = 30.0


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
        """MachineSpec of its deployment; {} for a managed model."""
        self.directory = directory
        self.socket = socket
        self.name = name
        self._source = source
        self._task: asyncio.Task[None] | None = None
        self._ready = asyncio.Event()
        self.failure: ApiError | None = None
        self.client = httpx.AsyncClient(
            transport=httpx.AsyncHTTPTransport(
                verify=_NO_TLS, uds=str(socket), limits=httpx.Limits(max_connections=None, max_keepalive_connections=64)
            ),
            base_url="http://model",
            timeout=httpx.Timeout(_ANSWER_SECONDS, connect=5),
        )

    def start(
        self, *, give_up: bool, ready: Callable[[], Awaitable[None]], failed: Callable[[ApiError], Awaitable[None]]
    ) -> None:
        """Start in the background. `ready` is awaited when it is ready; `failed` when it fails, if `give_up`."""
        self._task = asyncio.create_task(self._run(give_up, ready, failed))

    async def stop(self) -> None:
        """End the process and remove its socket; the folder stays."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        await self.client.aclose()
        self.socket.unlink(missing_ok=True)

    async def wait_ready(self, seconds: float = _READY_SECONDS) -> None:
        """Return when the process is ready. Raises ApiError UNAVAILABLE, or with the reason of the failure."""
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
        """Apply an injected fault to a deployment before it serves. Raises ApiError."""
        faults = self.emulator.faults
        await faults.hold_deployment(self.name, self.emulator.settings.time_scale)
        if (failing := faults.of_deployment("fail", self.name)) is not None:
            raise failing.deployment_failure(self.machine)

    async def _stage(self, value: str) -> None:
        """Record the stage in the operation of a deployment."""
        name, now = self._operation, self.emulator.clock.timestamp()
        with contextlib.suppress(ApiError):  # the operation was deleted
            if name:
                await self.emulator.store.write(lambda connection: long_running.stage(connection, name, now, value))

    async def _serve(self, ready: Callable[[], Awaitable[None]]) -> None:
        """Run the process once: return when it dies after it was ready. Raises ApiError if it never becomes ready."""
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
        deadline = asyncio.get_running_loop().time() + START_SECONDS
        while True:
            await asyncio.wait([ended], timeout=_HEALTH_SECONDS)
            if ended.done():
                raise self._exited(ended.result())
            if asyncio.get_running_loop().time() > deadline:
                raise ApiError("UNAVAILABLE", f"Model server did not answer within {START_SECONDS:.0f} seconds.")
            if self.socket.exists():
                with contextlib.suppress(httpx.HTTPError):
                    if (await self.client.get("/health", timeout=5)).status_code == 200:
                        return

    def _exited(self, code: int) -> ApiError:
        """Return why the process ended: its own error, which a restart would not change, or a guess.

        For UNAVAILABLE, the process is started again.
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
