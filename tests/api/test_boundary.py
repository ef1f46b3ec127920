"""Arguments of wrong types are refused before anything is done, and errors speak of arguments."""

from __future__ import annotations

import ast
import asyncio
import inspect
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import runner
from runner.api import boundary
from runner.api.requests import sampling_of
from runner.errors import ConfigurationError, CostRefusedError
from tests.api.conftest import MODEL
from tests.provisioning import Provisioned

LIBRARY = Path(runner.__file__).parent


def _functions() -> Iterator[tuple[str, Callable[..., object]]]:
    """Yield every function and method of the API that takes arguments."""
    for name in runner.__all__:
        found = getattr(runner, name)
        if inspect.isfunction(found):
            yield name, found
        elif found in (runner.Job, runner.Endpoint):
            for key, method in vars(found).items():
                if inspect.isfunction(method) and not key.startswith("_") and len(_parameters(method)) > 1:
                    yield f"{name}.{key}", method


def _parameters(function: Callable[..., object]) -> dict[str, inspect.Parameter]:
    return {
        name: parameter
        for name, parameter in inspect.signature(function).parameters.items()
        if parameter.kind is not inspect.Parameter.VAR_KEYWORD
    }


async def _awaited(result: Any) -> None:
    await (anext(result) if inspect.isasyncgen(result) else result)


def _call(function: Callable[..., object], arguments: dict[str, object]) -> None:
    result = function(**arguments)
    if inspect.isawaitable(result) or inspect.isasyncgen(result):
        asyncio.run(_awaited(result))
    elif inspect.isgenerator(result):
        next(result)


class Nothing:
    """What no function takes."""


@pytest.mark.parametrize(
    ("name", "function"), list(_functions()), ids=lambda given: given if isinstance(given, str) else ""
)
def test_an_argument_of_a_wrong_type_is_refused_by_its_name(name: str, function: Callable[..., object]) -> None:
    nowhere: Any = None
    owner: type[Any] = runner.Job if name.startswith("Job.") else runner.Endpoint
    parameters = _parameters(function)
    required = {key: "nowhere" for key, item in parameters.items() if item.default is inspect.Parameter.empty}
    for argument in parameters:
        if argument == "self":
            continue
        given: dict[str, object] = {**required, argument: Nothing()}
        if "self" in parameters:
            given["self"] = owner(nowhere, nowhere)  # no connection: nothing can be sent
        with pytest.raises(ConfigurationError) as refusal:
            _call(function, given)
        assert f"{argument} is a Nothing: it must be " in refusal.value.message
        assert "Nothing()" not in refusal.value.message


def test_what_is_true_to_python_only_starts_nothing(here: Provisioned) -> None:
    async def agree(price: object) -> bool:
        return True

    for argument, value in (("force_new", "no"), ("accept_unknown_cost", "false"), ("agree", "yes"), ("agree", agree)):
        with pytest.raises(ConfigurationError, match=f"^{argument} is "):
            runner.tune("train.jsonl", base_model=MODEL, **{argument: value})  # type: ignore[arg-type]
    answers: list[Callable[[object], object]] = [lambda _: "no", lambda _: 1, lambda _: [False]]
    for answer in answers:
        with pytest.raises(ConfigurationError, match="must return True or False; nothing was started"):
            runner.tune("train.jsonl", base_model=MODEL, agree=answer)  # type: ignore[arg-type]

    class Agreeing:
        def __call__(self, price: object) -> str:
            return "yes"

    with pytest.raises(ConfigurationError, match=r"^agree returned 'yes'"):
        runner.tune("train.jsonl", base_model=MODEL, agree=Agreeing())  # type: ignore[arg-type]
    with pytest.raises(ConfigurationError, match="agree is an async function"):
        runner.tune("train.jsonl", base_model=MODEL, agree=agree)  # type: ignore[arg-type]
    assert runner.list_jobs() == []


def test_an_answer_of_another_package_is_an_answer(here: Provisioned) -> None:
    import numpy

    budget: Any = numpy.float64(0.0)
    with pytest.raises(CostRefusedError, match="nobody approved it"):
        runner.tune("train.jsonl", base_model=MODEL, agree=lambda price: price.usd < budget)
    assert runner.list_jobs() == []


def test_every_wrong_type_is_listed_and_numbers_of_other_packages_are_numbers() -> None:
    with pytest.raises(ConfigurationError) as refusal:
        runner.tune("train.jsonl", base_model=MODEL, epochs="two", labels=["a"], learning_rate=True)  # type: ignore[arg-type]
    assert refusal.value.problems == [
        "epochs is 'two': it must be a whole number or None",
        "learning_rate is True: it must be a number or None",
        "labels is a list: it must be a mapping of text to text or None",
    ]
    import numpy

    epochs: Any = numpy.int64(2)
    rate: Any = numpy.float32(1e-4)
    with pytest.raises(ConfigurationError, match="no such file"):
        runner.tune("nowhere", base_model=MODEL, epochs=epochs, learning_rate=rate, force_new=numpy.bool_(False))  # type: ignore[arg-type]
    taken = sampling_of({"max_tokens": numpy.int64(4), "temperature": numpy.float32(0), "stop": ["."]})
    assert json.dumps(taken) == '{"max_tokens": 4, "temperature": 0.0, "stop": ["."]}'


def test_data_in_memory_is_told_how_to_become_a_file(here: Provisioned) -> None:
    class Frame(list[dict[str, str]]):
        def to_json(self) -> None:
            """Be like a data frame."""

    rows = [{"prompt": "a", "completion": "b"}]
    for data in (rows, iter(rows), {"prompt": ["a"]}):
        with pytest.raises(ConfigurationError) as refusal:
            runner.check(data)  # type: ignore[arg-type]
        assert str(refusal.value.hint).startswith("write a file with one JSON object per line")
    with pytest.raises(ConfigurationError) as refusal:
        runner.tune("train.jsonl", validation_dataset=Frame(rows), base_model=MODEL, max_cost=1)  # type: ignore[arg-type]
    assert "validation_dataset.to_json('validation_dataset.jsonl'" in str(refusal.value.hint)


def test_paths_are_those_of_a_shell(here: Provisioned, work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(work))
    assert runner.check("~/train.jsonl").training.examples == 24
    with pytest.raises(ConfigurationError, match="neither a file nor a gs:// address"):
        runner.check("https://example.org/train.jsonl")
    with pytest.raises(ConfigurationError) as refusal:
        runner.estimate("missing.jsonl", base_model=MODEL)
    assert str(work) in str(refusal.value.hint)


def test_an_error_names_arguments_and_leaves_command_lines(here: Provisioned) -> None:
    with pytest.raises(ConfigurationError) as refusal:
        runner.check("train.jsonl", tokenizer="nowhere")
    assert str(refusal.value.hint).startswith("tokenizer ")
    with pytest.raises(ConfigurationError) as refusal:
        runner.connect(project="No Project")
    assert "runner.init(project=…)" in refusal.value.message


def _texts(module: Path) -> Iterator[str]:
    """Yield the texts of a module, docstrings aside, with `{}` for what is filled in."""
    tree = ast.parse(module.read_text())
    inner = {id(part) for node in ast.walk(tree) if isinstance(node, ast.JoinedStr) for part in ast.walk(node)}
    documents = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            yield "".join(str(part.value) if isinstance(part, ast.Constant) else "{}" for part in node.values)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and not {id(node)} & (inner | documents):
            yield node.value


def test_every_option_that_the_library_names_is_an_argument() -> None:
    """Command lines stand between backticks; what these modules say otherwise, the API says of its arguments."""
    unknown = set()
    for folder in ("jobs", "serving", "datasets", "gcp", "environment", "prices.py", "errors.py"):
        place = LIBRARY / folder
        for module in [place] if place.is_file() else place.rglob("*.py"):
            for text in _texts(module):
                if " --" in f" {text}" and " " in text:
                    said = re.sub("`[^`]*`", "", boundary._python_words(text))
                    unknown |= {(module.stem, option) for option in re.findall(r"(?<!\S)--[a-z{][\w}-]*", said)}
    assert unknown == {
        *(("billed", option) for option in ("--format", "--max_rows", "--nouse_legacy_sql")),  # of a command line
        *(("sources", option) for option in ("--answer-column", "--encoding", "--prompt-column", "--to")),  # the same
        # What the API does not do: clones, conversions to a file, splits, queues, workers of an engine.
        *(("converting", option) for option in ("--answer-column", "--prompt-column")),
        *(("cloning", "--set"), ("pipelines", "--pipeline"), ("splitting", "--share")),
        *(("stale_images", "--read-all-datasets"), ("uploads", "--{}")),
    }
