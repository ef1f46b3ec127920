"""Runs batch prediction jobs. A job that the end of the emulator interrupts starts again with the emulator."""

from __future__ import annotations

import asyncio
import json
import logging
from typing import Any

from runner.emulator.aiplatform import access, models
from runner.emulator.aiplatform.batch import jobs
from runner.emulator.aiplatform.deployments import Deployments
from runner.emulator.aiplatform.forwarding import ask
from runner.emulator.aiplatform.serving import Serving
from runner.emulator.aiplatform.tuning_validation import split_uri
from runner.emulator.context import Emulator
from runner.emulator.errors import ApiError, disk_error
from runner.emulator.iam import agents
from runner.emulator.storage import objects

logger = logging.getLogger(__name__)

_AT_ONCE = 8
"""Number of concurrent instances: the model answers them as one batch."""


class BatchExecutor:
    """All unfinished batch prediction jobs of one emulator. Call its methods on the emulator's event loop."""

    def __init__(self, emulator: Emulator, deployments: Deployments) -> None:
        self.emulator = emulator
        self.deployments = deployments
        self._tasks: dict[str, asyncio.Task[None]] = {}
        # Each loads its own model.
        self._room = asyncio.Semaphore(1)

    def start(self) -> None:
        """Start every unfinished job."""
        for name in self.emulator.store.read(jobs.unfinished):
            self.launch(name)

    async def stop(self) -> None:
        """Stop all jobs without changing their state."""
        tasks, self._tasks = list(self._tasks.values()), {}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def launch(self, name: str) -> None:
        """Run a job in the background."""
        task = asyncio.create_task(self._run(name))
        self._tasks[name] = task
        task.add_done_callback(lambda done: self._tasks.pop(name, None) if self._tasks.get(name) is done else None)

    async def cancel(self, name: str) -> None:
        """Cancel a job; a job that has ended stays unchanged."""
        task = self._tasks.pop(name, None)
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        await self._end(name, "JOB_STATE_CANCELLED")

    async def _run(self, name: str) -> None:
        try:
            async with self._room:
                await self._predict(name)
        except ApiError as error:
            await self._end(name, "JOB_STATE_FAILED", error=error.to_status())
        except Exception as error:
            full = disk_error(error, self.emulator.settings.directory)
            if full is None:
                logger.exception("bug in %s", name)
            failure = full or ApiError("INTERNAL", "Internal error encountered.")
            await self._end(name, "JOB_STATE_FAILED", error=failure.to_status())

    async def _end(self, name: str, state: str, **fields: Any) -> None:
        await self._change(name, state=state, endTime=self.emulator.clock.timestamp(), **fields)

    async def _change(self, name: str, **fields: Any) -> dict[str, Any]:
        now = self.emulator.clock.timestamp()
        return await self.emulator.store.write(lambda connection: jobs.change(connection, name, now, **fields))

    async def _predict(self, name: str) -> None:
        """Read the instances, send each to the model, and write the answers. Raises ApiError."""
        job = await self._change(name, state="JOB_STATE_RUNNING", startTime=self.emulator.clock.timestamp())
        instances = await asyncio.to_thread(self._instances, job)
        model = self.emulator.store.read(
            lambda connection: models.get(connection, f"{job['model']}@{job['modelVersionId']}")
        )
        source, _ = models.weights(model)
        serving = await self.deployments.temporary(f"batch-{name.rpartition('/')[2]}", model["displayName"], source)
        try:
            key = (job.get("instanceConfig") or {}).get("keyField", "")
            answers = await self._ask_all(serving, _without(instances, key), job.get("modelParameters"))
        finally:
            await self.deployments.end(serving)
        directory = await self._write(job, model["displayName"], instances, answers)
        failed = sum(isinstance(answer, ApiError) for answer in answers)
        stats = {"successfulCount": str(len(answers) - failed)} | ({"failedCount": str(failed)} if failed else {})
        if failed and failed == len(answers):
            raise ApiError("INVALID_ARGUMENT", f"All {failed} instances failed: {answers[0]}")
        await self._end(
            name, "JOB_STATE_SUCCEEDED", outputInfo={"gcsOutputDirectory": directory}, completionStats=stats
        )

    def _instances(self, job: dict[str, Any]) -> list[Any]:
        """Return the instances of all files. Blocks. Raises ApiError for a bucket, a file or a line."""
        number = job["name"].split("/")[1]
        account = job.get("serviceAccount") or agents.aiplatform_agent(number)
        out, prefix = split_uri(job["outputConfig"]["gcsDestination"]["outputUriPrefix"], "output_uri_prefix")
        needs = [access.Need(out, prefix, access.WRITE)]
        found: list[tuple[str, str]] = []
        for uri in job["inputConfig"]["gcsSource"]["uris"]:
            bucket, pattern = split_uri(uri, "gcs_source.uris")
            needs.append(access.Need(bucket, pattern.partition("*")[0], access.READ))
            self.emulator.store.read(lambda connection: access.require(connection, [account], needs))
            found += [(bucket, name) for name in self._matching(bucket, pattern)]
        return [
            self._instance(f"gs://{bucket}/{name}:{number}", line)
            for bucket, name in found
            for number, line in enumerate(objects.read_bytes(self.emulator, bucket, name).splitlines(), 1)
            if line.strip()
        ]

    def _matching(self, bucket: str, pattern: str) -> list[str]:
        stem, star, end = pattern.partition("*")
        names = self.emulator.store.read(lambda connection: objects.list_names(connection, bucket, stem))
        fitting = [name for name in names if (name.endswith(end) if star else name == pattern)]
        if not fitting:
            raise ApiError("NOT_FOUND", f"No object matches gs://{bucket}/{pattern}.")
        return fitting

    def _instance(self, place: str, line: bytes) -> Any:
        try:
            return json.loads(line)
        except ValueError as error:
            raise ApiError("INVALID_ARGUMENT", f"{place} is no JSON: {error}") from error

    async def _ask_all(self, serving: Serving, instances: list[Any], parameters: Any) -> list[Any]:
        """Return a prediction or an ApiError for each instance, in order."""
        room = asyncio.Semaphore(_AT_ONCE)

        async def one(instance: Any) -> Any:
            body = {"instances": [instance]} | ({"parameters": parameters} if parameters is not None else {})
            async with room:
                try:
                    return (await ask(serving, "/predict", json.dumps(body).encode())).json()["predictions"][0]
                except ApiError as error:
                    return error

        return list(await asyncio.gather(*map(one, instances)))

    async def _write(self, job: dict[str, Any], display: str, instances: list[Any], answers: list[Any]) -> str:
        """Write predictions and errors to a new folder; return it."""
        bucket, prefix = split_uri(job["outputConfig"]["gcsDestination"]["outputUriPrefix"], "output_uri_prefix")
        moment = job["createTime"][:23].replace("-", "_").replace(":", "_").replace(".", "_")
        folder = f"{prefix.rstrip('/')}/prediction-{display}-{moment}Z".lstrip("/")
        pairs = list(zip(instances, answers, strict=True))
        key = (job.get("instanceConfig") or {}).get("keyField", "")

        def named(instance: Any) -> dict[str, Any]:
            """Return the part of a line that identifies it: the key if there is one, otherwise the instance."""
            return {"key": instance.get(key)} if key and isinstance(instance, dict) else {"instance": instance}

        good = [{**named(one), "prediction": answer} for one, answer in pairs if not isinstance(answer, ApiError)]
        bad = [{**named(one), "error": answer.to_status()} for one, answer in pairs if isinstance(answer, ApiError)]
        for kind, lines in (("results", good), ("errors_stats", bad)):
            content = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines).encode()
            target = f"{folder}/prediction.{kind}-00000-of-00001"
            await objects.put_bytes(self.emulator, bucket, target, content, "application/jsonl")
        return f"gs://{bucket}/{folder}"


def _without(instances: list[Any], key: str) -> list[Any]:
    """Return instances without the field that only identifies them."""
    if not key:
        return instances
    return [
        {name: value for name, value in one.items() if name != key} if isinstance(one, dict) else one
        for one in instances
    ]
