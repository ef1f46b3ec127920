"""`import runner` is cheap, and every name that it promises is there, typed and documented."""

from __future__ import annotations

import inspect
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

import runner

ROOT = Path(__file__).parents[2]


def _seconds(code: str) -> float:
    """Return the least of several runs: what else the machine does only ever adds."""
    command = [sys.executable, "-S", "-E", "-c", f"import sys; sys.path.insert(0, {str(ROOT)!r}); {code}"]

    def once() -> float:
        start = time.perf_counter()
        subprocess.run(command, check=True)
        return time.perf_counter() - start

    return min(once() for _ in range(15))


def test_import_imports_nothing_else() -> None:
    code = "import sys; before = set(sys.modules); import runner; print(*sorted(set(sys.modules) - before))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.split() == ["runner"]


def test_import_costs_next_to_nothing() -> None:
    assert _seconds("import runner") <= 1.5 * _seconds("pass")


def test_every_name_is_there_and_documented() -> None:
    for name in runner.__all__:
        found = getattr(runner, name)
        assert inspect.getdoc(found), name
        assert name in dir(runner)
        if inspect.isclass(found) and found.__module__.startswith("runner.api"):
            members = [item for key, item in vars(found).items() if not key.startswith("_") and callable(item)]
            assert all(inspect.getdoc(item) for item in members), name


def test_names_are_told_to_type_checkers_as_they_are_found() -> None:
    assert sorted(runner.__all__) == sorted(runner._PLACES)
    source = (ROOT / "runner" / "__init__.py").read_text()
    imported = source.partition("if TYPE_CHECKING:")[2].partition("__all__")[0]
    assert all(name in imported for name in runner.__all__)
    assert (ROOT / "runner" / "py.typed").is_file()


def test_completion_offers_the_names_of_the_api_and_no_others() -> None:
    code = "import runner; runner.errors.NotFoundError; runner.check; print(*dir(runner))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert [name for name in done.stdout.split() if not name.startswith("__")] == sorted(runner.__all__)


def test_a_wrong_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'tunes'"):
        _ = runner.tunes


def test_a_script_of_a_user_passes_a_strict_type_check(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        "import runner\n"
        "job: runner.Job = runner.tune('train.jsonl', base_model='m', max_cost=1.0)\n"
        "endpoint: runner.Endpoint = job.wait(60).deploy(max_cost_per_hour=2.5)\n"
        "text: str = endpoint.chat('Hello').text\n"
        "rows = [row['loss'] for row in job.log_history()]\n"
        "reveal_type(runner.estimate('train.jsonl', base_model='m').high)\n"
        "runner.tune('train.jsonl')\n"
        "job.deploy(max_cost=5)\n"
        "found: type[Exception] = runner.errors.NotFoundError\n"
    )
    command = [sys.executable, "-m", "mypy", "--strict", "--config-file", os.devnull, "--cache-dir", str(tmp_path)]
    variables = {**os.environ, "MYPYPATH": str(ROOT)}
    more = ["--follow-imports", "silent", "--ignore-missing-imports", str(script)]
    done = subprocess.run([*command, *more], capture_output=True, text=True, check=False, env=variables, cwd=tmp_path)
    assert 'Revealed type is "float | None"' in done.stdout.replace("builtins.", ""), done.stdout
    assert 'script.py:7: error: Missing named argument "base_model"' in done.stdout
    assert 'script.py:8: error: Unexpected keyword argument "max_cost"' in done.stdout
    assert "Found 2 errors" in done.stdout
