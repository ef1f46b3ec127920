"""Files as offices have them, from the first check to a tuned model, with the commands that the tool itself prints."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.cli.conftest import in_project, run
from tests.cli.invocation import CommandLine, Outcome
from tests.provisioning import Provisioned

__all__ = ["in_project", "run"]

pytestmark = pytest.mark.training

MODEL = "meta/llama3_1@llama-3.1-8b-instruct"
ROWS = [(f"Wie heißt Brücke {number}?", f"Sie heißt „Möwe {number}“, ganz einfach.") for number in range(1, 9)]


def german_csv(folder: Path) -> Path:
    """Return a table as Excel writes it in Germany: separated by semicolons, in Windows-1252."""
    path = folder / "Anfragen 2026.csv"
    path.write_bytes("\r\n".join(["Frage;Antwort", *[f"{q};{a}" for q, a in ROWS], ""]).encode("cp1252"))
    return path


def powershell_export(folder: Path) -> Path:
    """Return JSON Lines as `Out-File` of Windows PowerShell writes them: UTF-16 with a byte order mark."""
    path = folder / "train.jsonl"
    lines = [json.dumps({"prompt": q, "completion": a}, ensure_ascii=False) for q, a in ROWS]
    path.write_bytes(b"\xff\xfe" + "".join(line + "\r\n" for line in lines).encode("utf-16-le"))
    return path


def workbook(folder: Path) -> Path:
    """Return a workbook that LibreOffice has written."""
    table = folder / "tickets.csv"
    table.write_text("\n".join(["question,answer", *[f'"{q}","{a}"' for q, a in ROWS]]), "utf-8")
    command = ["soffice", "--headless", f"-env:UserInstallation=file://{folder}/profile", "--convert-to", "xlsx"]
    options = ["--infilter=CSV:44,34,76", "--outdir", str(folder / "out"), str(table)]
    subprocess.run([*command, *options], check=True, capture_output=True, timeout=300)
    return folder / "out" / "tickets.xlsx"


FILES: dict[str, Callable[[Path], Path]] = {
    "a German CSV": german_csv,
    "a PowerShell export": powershell_export,
    "a workbook": workbook,
}


def tune(run: CommandLine, *more: str) -> Outcome:
    words = ("jobs", "submit", "--model", MODEL, "--epochs", "1", "--yes", *more, "--format", "json")
    submitted = run(*words)
    assert submitted.code == 0, submitted.err
    waited = run("jobs", "wait", submitted.document["id"], "--format", "json")
    assert waited.code == 0, waited.err
    return submitted


@pytest.mark.parametrize("name", FILES)
def test_a_file_is_tuned_on_with_the_commands_that_are_printed(
    name: str, run: CommandLine, in_project: Provisioned, tmp_path: Path
) -> None:
    if name == "a workbook" and shutil.which("soffice") is None:
        pytest.skip("needs LibreOffice")
    path = FILES[name](tmp_path)
    checked = run("data", "check", str(path))
    if checked.code:
        assert checked.code == 3
        assert "Wie heißt Brücke 1?" in checked.out
        [command] = re.findall(r"^hint: (runner data convert .*)$", checked.err, re.M)
        converted = run(*shlex.split(command)[1:], "--format", "json")
        assert converted.code == 0, converted.err
        body = converted.document
        assert (body["read"], body["rows"], body["skipped"], body["notCarriedOver"]) == (8, 8, 0, [])
        path = Path(body["output"])
        assert run("data", "check", str(path)).code == 0
    else:
        assert "UTF-16" in checked.out
    job = tune(run, "--train", str(path)).document

    shown = run("jobs", "show", job["id"], "--format", "json").document
    uri = shown["trainingDatasetUri"]
    assert run("data", "check", uri).code == 0
    preview = run("data", "preview", uri, "--line", "8").out
    assert "Sie heißt „Möwe 8“, ganz einfach." in preview


def test_a_table_is_converted_and_tuned_on_in_one_step(
    run: CommandLine, in_project: Provisioned, tmp_path: Path
) -> None:
    path = german_csv(tmp_path)
    refused = run("jobs", "submit", "--model", MODEL, "--train", str(path), "--yes")
    assert refused.code == 3
    assert "CSV separated by ';'" in refused.err
    assert "runner data convert" in refused.err

    submitted = tune(run, "--train", str(path), "--convert")
    assert "first row: " in submitted.err
    assert "Wie heißt Brücke 1?" in submitted.err
    assert submitted.err.index("first row: ") < submitted.err.index("Tuning ")
    again = run("jobs", "submit", "--model", MODEL, "--epochs", "1", "--yes", "--train", str(path), "--convert")
    assert "this job already exists" in again.err
