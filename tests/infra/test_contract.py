"""The environment document: one schema that the program's output and the runner's reader both keep to."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from infra.evaluation import evaluate
from infra.stack_files import configuration, stacks
from runner.environment import SETTINGS, resolve
from runner.errors import ConfigurationError
from tests.infra.evaluation import FULL, LOCAL, MINIMAL, PRODUCTION, PROJECT

SCHEMA: dict[str, Any] = json.loads(
    (Path(__file__).resolve().parents[2] / "runner" / "environment.v1.schema.json").read_text("utf-8")
)
CONFIGURATIONS = {"minimal": MINIMAL, "full": FULL, "local": LOCAL, "production": PRODUCTION}


def document(config: dict[str, str]) -> dict[str, Any]:
    return dict(evaluate(config).outputs["environment"])


def strict(schema: Any) -> Any:
    """Return the schema with no room for keys that it does not name: the program writes none."""
    if isinstance(schema, dict):
        closed = {key: strict(value) for key, value in schema.items()}
        if "properties" in closed and "additionalProperties" not in closed:
            closed["additionalProperties"] = False
        return closed
    return [strict(item) for item in schema] if isinstance(schema, list) else schema


def write(tmp_path: Path, body: dict[str, Any]) -> str:
    file = tmp_path / "environment.json"
    file.write_text(json.dumps(body))
    return str(file)


def test_the_schema_is_one() -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA)


@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_the_program_writes_what_the_schema_says_and_the_runner_reads_it(name: str, tmp_path: Path) -> None:
    body = document(CONFIGURATIONS[name])
    jsonschema.validate(body, strict(SCHEMA))
    environment = resolve({"environment": write(tmp_path, body)})
    assert environment.project == PROJECT
    assert environment.outputs_bucket == body["buckets"]["outputs"]
    assert environment.location == body["location"]
    assert environment.service_agents == body["serviceAgents"]


@pytest.mark.parametrize("stack", stacks())
def test_every_committed_stack_keeps_to_it(stack: str) -> None:
    jsonschema.validate(document(configuration(stack)), strict(SCHEMA))


def test_the_runner_reads_only_what_the_schema_names() -> None:
    for setting in SETTINGS:
        node = SCHEMA
        for key in setting.document:
            node = node["properties"][key]
            if "$ref" in node:
                node = SCHEMA["$defs"][node["$ref"].rsplit("/", 1)[-1]]


def test_a_region_brings_its_own_buckets_and_endpoint(tmp_path: Path) -> None:
    body = document(PRODUCTION)
    file = write(tmp_path, body)
    there = resolve({"environment": file, "location": "europe-west4"})
    assert there.datasets_bucket == f"{PROJECT}-europe-west4-datasets"
    assert there.outputs_bucket == "old-outputs"
    assert there.contract_bucket == f"{PROJECT}-contract"
    assert "/europe-west4/endpoints/" in there.default_endpoint
    at_home = resolve({"environment": file, "location": "us-central1"})
    assert at_home.datasets_bucket == "company-datasets"
    elsewhere = resolve({"environment": file, "location": "us-west1"})
    assert elsewhere.datasets_bucket == "company-datasets"


@pytest.mark.parametrize(
    ("change", "fragment"),
    [
        ({"version": 2}, "version 2 is not supported"),
        ({"buckets": {"datasets": 1}}, "must be a string"),
        ({"regions": []}, "must be an object"),
        ({"regions": {"us-central1": {"buckets": ["x"]}}}, "object of strings"),
        ({"regions": {"us-central1": None}}, "object of strings"),
    ],
)
def test_both_refuse_the_same_mistakes(change: dict[str, Any], fragment: str, tmp_path: Path) -> None:
    body = document(MINIMAL) | change
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(body, SCHEMA)
    with pytest.raises(ConfigurationError, match=fragment):
        resolve({"environment": write(tmp_path, body)})
