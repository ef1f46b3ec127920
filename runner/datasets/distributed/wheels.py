"""What the workers install: this package and the compiled scanner, as the wheels that they were installed from.

A wheel is assembled from the installed files, so nothing is built or downloaded, and the workers run exactly the code
that runs here.
"""

from __future__ import annotations

import base64
import hashlib
import platform
import sys
import zipfile
from importlib import metadata
from pathlib import Path

from runner.installation import NAME

NATIVE = "open-model-tuning-native"
_LEFT_OUT = {"__pycache__", "emulator", "console"}
"""Folders of the package that workers do not need."""
_OWN_FILES = {"INSTALLER", "RECORD", "REQUESTED", "direct_url.json", "uv_build.json", "uv_cache.json"}


def wheels(folder: Path) -> list[Path]:
    """Write the wheels into a folder and return them.

    The compiled scanner is included if it is installed and runs on Dataflow's workers, which are x86-64 Linux;
    without it, the workers read with the exact parser, which finds the same.
    """
    root = Path(__file__).parents[2]
    package = {
        f"runner/{path.relative_to(root).as_posix()}": path
        for path in sorted(root.rglob("*"))
        if path.is_file() and not _LEFT_OUT.intersection(path.relative_to(root).parts)
    }
    made = [_wheel(folder, metadata.distribution(NAME), package, "py3-none-any")]
    if sys.platform == "linux" and platform.machine() == "x86_64":
        try:
            found = metadata.distribution(NATIVE)
        except metadata.PackageNotFoundError:
            return made
        files = {str(item): Path(str(item.locate())) for item in found.files or () if item.parts[0] == "runner_native"}
        tag = next(line for line in (found.read_text("WHEEL") or "").splitlines() if line.startswith("Tag: "))
        made.append(_wheel(folder, found, files, tag.removeprefix("Tag: ")))
    return made


def _wheel(folder: Path, found: metadata.Distribution, files: dict[str, Path], tag: str) -> Path:
    """Write one wheel: the files, and the installed metadata about them."""
    stem = f"{found.metadata['Name'].replace('-', '_')}-{found.version}"
    path = folder / f"{stem}-{tag}.whl"
    pure = "true" if tag.endswith("-any") else "false"
    described = {
        f"{stem}.dist-info/METADATA": (found.read_text("METADATA") or "").encode(),
        f"{stem}.dist-info/WHEEL": (
            f"Wheel-Version: 1.0\nGenerator: {NAME}\nRoot-Is-Purelib: {pure}\nTag: {tag}\n"
        ).encode(),
    }
    record = []
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in [*((name, item.read_bytes()) for name, item in files.items()), *described.items()]:
            digest = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).decode().rstrip("=")
            record.append(f"{name},sha256={digest},{len(content)}\n")
            # Without timestamps, so that the same files give the same wheel.
            archive.writestr(zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0)), content)
        listed = "".join([*record, f"{stem}.dist-info/RECORD,,\n"])
        archive.writestr(zipfile.ZipInfo(f"{stem}.dist-info/RECORD", (1980, 1, 1, 0, 0, 0)), listed)
    return path
