"""What the documentation does not show: data frames, a cancelled watch, a refused deployment; and the notebook."""

from __future__ import annotations

import asyncio
import importlib.util
import json
import pickle
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

import runner
from runner.api.jobs import COLUMNS
from runner.errors import ConfigurationError, EngineMissingError, NotFoundError
from tests.api.conftest import MODEL
from tests.provisioning import Provisioned

ROOT = Path(__file__).parents[2]
NOTEBOOK = ROOT / "examples" / "tuning.ipynb"

pytestmark = pytest.mark.training


def test_metrics_are_rows_and_a_data_frame(here: Provisioned) -> None:
    job = runner.tune("train.jsonl", base_model=MODEL, validation_dataset=None, epochs=1, max_cost=1).wait(300)
    rows = job.log_history()
    assert rows
    assert all(tuple(row) == COLUMNS and row["loss"] > 0 for row in rows)
    if importlib.util.find_spec("pandas") is None:
        with pytest.raises(EngineMissingError, match="pandas"):
            job.metrics()
    else:
        frame: Any = job.metrics()
        assert list(frame["loss"]) == [row["loss"] for row in rows]
        assert frame.index.name == "step"
    with pytest.raises(runner.CostRefusedError) as refusal:
        job.deploy()
    assert str(refusal.value.hint).startswith("approve it with max_cost_per_hour=")
    assert runner.list_endpoints(only_ours=False) == []


def test_a_cancelled_watch_ends_soon_and_the_job_goes_on(here: Provisioned, work: Path) -> None:
    lines = (f'{{"prompt": "What is number {i}?", "completion": "It is {i}."}}\n' for i in range(1000))
    (work / "train.jsonl").write_text("".join(lines))
    job = runner.tune("train.jsonl", base_model=MODEL, epochs=90, max_cost=100)

    async def look() -> str:
        asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(thread_name_prefix="look"))
        seen = asyncio.Event()

        async def watch() -> None:
            async for _ in job.watch_async():
                seen.set()

        watching = asyncio.create_task(watch())
        await seen.wait()
        watching.cancel()
        with pytest.raises(asyncio.CancelledError):
            await watching
        return job.state

    asyncio.run(look())
    assert not any(thread.name.startswith("look") for thread in threading.enumerate())
    assert not job.refresh().has_ended
    job.cancel()
    with pytest.raises(runner.JobFailedError):
        job.wait(60)
    assert job.why().cause == "cancelled"


def test_objects_are_taken_where_their_names_are_and_what_cannot_be_done_is_an_error_of_this_package(
    here: Provisioned,
) -> None:
    job = runner.tune("train.jsonl", base_model=MODEL, epochs=1, max_cost=1).wait(300)
    endpoint = job.deploy(max_cost_per_hour=5)
    assert runner.get_endpoint(endpoint).name == endpoint.name
    assert runner.chat("hi", endpoint=endpoint, max_tokens=2).text is not None
    asked: list[str | dict[str, Any]] = ["hi", {"prompt": "hi", "max_tokens": 2}]
    assert len(runner.predict(iter(asked), endpoint=endpoint)) == 2
    assert job.deploy(endpoint=endpoint, max_cost_per_hour=5).id == endpoint.id

    for given in ({"stream": True}, {"model": "m"}, {"session": None}, {"endpoint": "e"}):
        for ask in (endpoint.chat, endpoint.predict, endpoint.chat_stream, runner.chat):
            if ask is runner.chat and "stream" not in given:
                continue  # it has such arguments
            with pytest.raises(ConfigurationError):
                ask("hi", **given)
    with pytest.raises(ConfigurationError, match=r"instances.1. is neither text nor a mapping"):
        endpoint.predict(["hi", 5])  # type: ignore[list-item]

    for batch in (endpoint.batch, lambda source, output: job.batch(source, output, max_cost=20)):
        for folder in (".", str(Path.cwd())):
            with pytest.raises(ConfigurationError, match="a folder, not a file"):
                batch("train.jsonl", folder)

    endpoint.refresh()
    assert endpoint.usd_per_hour
    endpoint.undeploy()
    assert endpoint.usd_per_hour == 0
    assert endpoint.refresh().usd_per_hour == 0
    endpoint.undeploy(delete=True)

    for thing in (job, endpoint):
        with pytest.raises(TypeError, match="cannot be copied or pickled"):
            pickle.dumps(thing)

    with pytest.raises(ConfigurationError, match=r"train\.jsonl"):
        job.download("train.jsonl")
    with pytest.raises(NotFoundError) as missing:
        job.download("weights", checkpoint="99")
    assert missing.value.hint == f"`runner checkpoints ls {job.id}` lists them"


def test_the_notebook_is_stripped_and_runs(here: Provisioned, work: Path) -> None:
    notebook = json.loads(NOTEBOOK.read_text())
    assert (notebook["nbformat"], notebook["metadata"]["language_info"]["name"]) == (4, "python")
    cells = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    assert len(cells) >= 6
    assert all(cell["outputs"] == [] and cell["execution_count"] is None for cell in cells)
    names: dict[str, object] = {}
    for cell in cells:
        exec(compile("".join(cell["source"]), str(NOTEBOOK), "exec"), names)  # noqa: S102
