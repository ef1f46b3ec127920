"""Runs a function: its own archive, unpacked, in a process of its own, as the account that it was given.

An archive is code that anybody who reaches the port could have uploaded. So only one that consists of this
installation's own files is run: the idle guard's. Any other function exists, and calling it is refused.
"""

from __future__ import annotations

import asyncio
import io
import json
import logging
import os
import tempfile
import zipfile
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import runner
from runner.emulator.context import Emulator
from runner.emulator.errors import ApiError
from runner.emulator.iam import tokens
from runner.emulator.resources import Document
from runner.emulator.storage import objects
from runner.local_processes import script_command

logger = logging.getLogger(__name__)

_PACKAGE = Path(runner.__file__).parent
_ENTRY = _PACKAGE / "serving" / "guard_function.py"
"""What `main.py` of the archive has to be."""
_PASSED = "RUNNER_"
"""Variables of a function that reach its process: others could change what the interpreter runs."""
_SCRIPT = """
import json, sys
sys.path.insert(0, sys.argv[1])
import main
text, status = getattr(main, sys.argv[2])(None)
sys.stdout.flush()
print(json.dumps({"emulatorAnswer": [text, status]}))
"""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a function answered."""

    status: int
    text: str
    logged: tuple[str, ...]
    """What it wrote, line by line."""


async def run(emulator: Emulator, function: Document, base: str) -> Answer:
    """Run a function once.

    Args:
        emulator: where it runs.
        function: as it is stored.
        base: address at which the function reaches this server.

    Raises:
        ApiError: UNIMPLEMENTED for an archive that is not of this installation, NOT_FOUND for one that is gone.
    """
    build, service = function["buildConfig"], function.get("serviceConfig", {})
    source = build["source"]["storageSource"]
    archive = objects.read_bytes(emulator, source["bucket"], source["object"])
    variables = {
        key: str(value) for key, value in (service.get("environmentVariables") or {}).items() if key.startswith(_PASSED)
    }
    account = service.get("serviceAccountEmail", "")
    seconds = int(service.get("timeoutSeconds", 60))
    token = await emulator.store.write(
        lambda connection: tokens.issue(connection, account, emulator.clock.now(), timedelta(hours=1))[0]
    )
    with tempfile.TemporaryDirectory(prefix="emulator-function-") as folder:
        _unpack(archive, Path(folder))
        process = await asyncio.create_subprocess_exec(
            *script_command(_SCRIPT, folder, str(build["entryPoint"])),
            cwd=folder,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            env={
                **{key: value for key, value in os.environ.items() if not key.startswith((_PASSED, "PYTHON"))},
                **variables,
                # On Google the function reaches Google; here it reaches what stands in for it.
                "RUNNER_VERTEX_URL": base,
                "RUNNER_STORAGE_URL": base,
                "RUNNER_TOKEN": token,
                "RUNNER_STATE_DIR": folder,
            },
        )
        try:
            said, _ = await asyncio.wait_for(process.communicate(), seconds)
        except TimeoutError:
            process.kill()
            await process.wait()
            return Answer(504, f"the function took longer than {seconds} s", ())
    return _answer(said.decode("utf-8", "replace").splitlines(), process.returncode or 0)


def _answer(lines: list[str], status: int) -> Answer:
    try:
        text, code = json.loads(lines[-1])["emulatorAnswer"]
    except (IndexError, ValueError, KeyError, TypeError):
        return Answer(500, f"the function ended with status {status}", tuple(lines))
    return Answer(int(code), str(text), tuple(lines[:-1]))


def _unpack(archive: bytes, folder: Path) -> None:
    try:
        with zipfile.ZipFile(io.BytesIO(archive)) as file:
            for entry in file.infolist():
                if entry.is_dir() or entry.filename == "requirements.txt":
                    continue
                content = file.read(entry)
                if content != _own(entry.filename):
                    raise ApiError(
                        "UNIMPLEMENTED",
                        f"The emulator runs only this installation's functions; {entry.filename} is another file.",
                    )
                target = folder / entry.filename
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(content)
    except zipfile.BadZipFile as error:
        raise ApiError("INVALID_ARGUMENT", "The function's source is no zip archive.") from error


def _own(name: str) -> bytes | None:
    """Return this installation's content of a file of an archive, None if it has no such file."""
    if name == "main.py":
        return _ENTRY.read_bytes()
    file = (_PACKAGE.parent / name).resolve()
    return file.read_bytes() if file.is_relative_to(_PACKAGE) and file.is_file() else None
