"""The command that adds an extra fits how this package was installed."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from runner import installation


@pytest.mark.parametrize(
    ("prefix", "url", "pip", "command"),
    [
        ("/venv", None, True, "PYTHON -m pip install 'open-model-tuning[infra,local]'"),
        ("/venv", None, False, "uv pip install --python PYTHON 'open-model-tuning[infra,local]'"),
        (
            "/home/me/.local/share/uv/tools/open-model-tuning",
            None,
            False,
            "uv tool install --force 'open-model-tuning[infra,local]'",
        ),
        (
            "/home/me/.local/share/pipx/venvs/open-model-tuning",
            None,
            True,
            "pipx install --force 'open-model-tuning[infra,local]'",
        ),
        (
            "/venv",
            {"url": "file:///src/open%20model", "dir_info": {"editable": True}},
            True,
            "PYTHON -m pip install --editable '/src/open model[infra,local]'",
        ),
        (
            "/venv",
            {"url": "file:///dist/open_model_tuning-0.1.0-py3-none-any.whl", "archive_info": {}},
            True,
            "PYTHON -m pip install '/dist/open_model_tuning-0.1.0-py3-none-any.whl[infra,local]'",
        ),
        ("/venv", {"url": "https://example.com/x.whl"}, True, "PYTHON -m pip install 'open-model-tuning[infra,local]'"),
    ],
)
def test_the_command_fits(
    prefix: str, url: dict[str, object] | None, pip: bool, command: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    folder = tmp_path / "open_model_tuning-0.1.0.dist-info"
    folder.mkdir()
    (folder / "METADATA").write_text("Metadata-Version: 2.1\nName: open-model-tuning\nVersion: 0.1.0\n")
    if url is not None:
        (folder / "direct_url.json").write_text(json.dumps(url))
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(sys, "prefix", prefix)
    monkeypatch.setattr(sys, "executable", "PYTHON")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: object() if pip or name != "pip" else None)
    assert installation.install_hint("infra", "local") == f"`{command}`"
