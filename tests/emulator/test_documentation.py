"""docs/emulator.md lists exactly the methods and the definitions that there are.

`python -m tests.emulator.test_documentation` rewrites it.
"""

from __future__ import annotations

from importlib import resources
from pathlib import Path

import pytest

from runner.emulator import services
from runner.emulator.definitions import documents
from tests.emulator.definitions import making
from tests.emulator.method_tables import definitions_table, markdown_table

DOCUMENT = Path(__file__).parents[2] / "docs" / "emulator.md"


def _written(text: str) -> str:
    for name, table in (("methods", markdown_table(services.all_methods())), ("definitions", definitions_table())):
        begin, end = f"<!-- {name}:begin -->\n", f"<!-- {name}:end -->"
        before, rest = text.split(begin)
        text = before + begin + table + end + rest.split(end)[1]
    return text


def test_the_tables_are_current() -> None:
    text = DOCUMENT.read_text("utf-8")
    assert text == _written(text)


def test_every_method_is_defined_by_google() -> None:
    undefined = {
        method.id
        for method in services.all_methods()
        if not method.id.startswith(("emulator.", "oauth2.", "storage."))
        and not any(documents.method(method.id, f"/{version}/") for version in ("v1", "v1beta1", "v2", "v3"))
    }
    assert undefined == set()


def test_the_definitions_are_those_of_the_installed_documents() -> None:
    pytest.importorskip("googleapiclient", reason="needs google-api-python-client")
    folder = resources.files("googleapiclient.discovery_cache") / "documents"
    for name in making.KNOWN:
        document = making.document(name)
        text = making.text({"revision": document["revision"], "paths": making.paths(document)})
        assert text == (documents.DATA / f"{name}.json").read_text("utf-8"), "run `python3 dev.py definitions`"
    assert (folder / "aiplatform.v1beta1.json").is_file()


if __name__ == "__main__":
    DOCUMENT.write_text(_written(DOCUMENT.read_text("utf-8")), "utf-8")
