"""Pulumi.yaml and the stacks beside it agree with the program and with the provider."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from pulumi_gcp.config import vars as config_vars

from infra.addresses import ENDPOINT_KEYS
from infra.embedded.apply import configuration
from infra.settings.stack import NAMESPACE, Settings, keys
from tests.infra.documentation import configuration_table, documents

ROOT = Path(__file__).resolve().parents[2]
STACKS = ("dev", "local", "prod")


def read(name: str) -> dict[str, Any]:
    body: dict[str, Any] = yaml.safe_load((ROOT / name).read_text("utf-8"))
    return body


def as_pulumi_passes_it(config: dict[str, Any]) -> dict[str, str]:
    """Return what a program sees: texts as they are, everything else as JSON."""
    return {key: value if isinstance(value, str) else json.dumps(value) for key, value in config.items()}


def test_the_schema_lists_every_setting_in_order_with_a_description() -> None:
    schema = read("Pulumi.yaml")["config"]
    assert set(schema) == keys()
    assert all(entry["description"] and "default" in entry for entry in schema.values())


def test_the_schemas_defaults_are_the_programs() -> None:
    schema = read("Pulumi.yaml")["config"]
    defaults = {f"{NAMESPACE}:{key}": entry["default"] for key, entry in schema.items()}
    minimal = {"gcp:project": "demo-project"}
    assert Settings.load(minimal | as_pulumi_passes_it(defaults)) == Settings.load(minimal)


def test_the_schemas_types_fit_its_defaults() -> None:
    types = {"string": str, "integer": int, "boolean": bool, "array": list, "object": dict}
    for key, entry in read("Pulumi.yaml")["config"].items():
        assert type(entry["default"]) is types[entry["type"]], key


def test_pulumi_finds_the_program_and_its_environment() -> None:
    body = read("Pulumi.yaml")
    assert body["name"] == NAMESPACE
    assert (ROOT / body["main"] / "__main__.py").is_file()
    assert body["runtime"] == {"name": "python", "options": {"toolchain": "pip", "virtualenv": ".venv"}}


@pytest.mark.parametrize("stack", STACKS)
def test_a_stack_has_no_mistakes(stack: str) -> None:
    Settings.load(as_pulumi_passes_it(read(f"Pulumi.{stack}.yaml")["config"]))


@pytest.mark.parametrize("stack", STACKS)
def test_the_provider_knows_every_key(stack: str) -> None:
    known = vars(config_vars._ExportableConfig)
    for key in read(f"Pulumi.{stack}.yaml")["config"]:
        namespace, _, name = key.partition(":")
        if namespace == "gcp":
            snake = "".join(f"_{letter.lower()}" if letter.isupper() else letter for letter in name)
            assert isinstance(known.get(snake), property), key


def test_the_local_stack_is_what_the_embedded_application_uses() -> None:
    config = as_pulumi_passes_it(read("Pulumi.local.yaml")["config"])
    embedded = configuration(
        "http://127.0.0.1:8085", project=config["gcp:project"], location=config["gcp:region"], config={}
    )
    assert config == embedded
    settings = Settings.load(config)
    assert settings.access_token == "emulator"
    assert set(settings.api_endpoints) == set(ENDPOINT_KEYS)


def test_the_documents_are_those_of_the_program() -> None:
    stale = [path.name for path, text in documents().items() if path.read_text("utf-8") != text]
    assert stale == [], "python -m tests.infra.documentation"


def test_the_documentation_lists_every_key_with_its_default() -> None:
    rows = [line.split("|")[1:4] for line in configuration_table().splitlines()[2:]]
    documented = {key.strip().strip("`"): default.strip().strip("`") for key, _, default in rows}
    assert tuple(documented) == tuple(read("Pulumi.yaml")["config"])
    assert documented["softDeleteDays"] == "7"
    assert documented["idleGuard"] == "true"
    assert documented["labels"] == "none"
