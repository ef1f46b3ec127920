"""Environments for the peers, installed from the package index and separate from this project's environment.

They are kept in the user's cache and created again after a week, so that peers have their current version.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

_KEPT_SECONDS = 7 * 24 * 3600

MODELS = ("transformers[serving]", "trl", "peft", "accelerate", "datasets", "torch", "xllamacpp", "gguf")
"""Packages for serving and training; several gigabytes with PyTorch."""
TOGETHER = ("together>=3.1,<4",)


def cache() -> Path:
    """Return the folder for environments and converted weights."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "open-model-tuning-benchmarks"


def environment(name: str, requirements: tuple[str, ...]) -> Path:
    """Return the interpreter of an environment with `requirements`, which is created if missing, incomplete or old."""
    folder = cache() / name
    python, done = folder / "bin" / "python", folder / "done"
    wanted = json.dumps(requirements)
    if done.exists() and done.read_text() == wanted and time.time() - done.stat().st_mtime < _KEPT_SECONDS:
        return python
    print(f"installing {', '.join(requirements)} into {folder}", flush=True)
    if uv := shutil.which("uv") or shutil.which("uv", path=str(Path(sys.executable).parent)):
        subprocess.run([uv, "venv", "--quiet", "--clear", "--python", sys.executable, str(folder)], check=True)
        command = [uv, "pip", "install", "--quiet", "--python", str(python)]
    else:
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(folder)], check=True)
        command = [str(python), "-m", "pip", "install", "--quiet"]
    subprocess.run([*command, *requirements], check=True)
    done.write_text(wanted)
    return python


def versions(python: Path, names: tuple[str, ...]) -> dict[str, str]:
    """Return the versions of distributions in an environment."""
    code = "import json,sys,importlib.metadata as m; print(json.dumps({n: m.version(n) for n in sys.argv[1:]}))"
    answer = subprocess.run([str(python), "-c", code, *names], check=True, capture_output=True, text=True)
    found: dict[str, str] = json.loads(answer.stdout)
    return found


def variables(threads: int) -> dict[str, str]:
    """Return environment variables for a peer: a number of threads, no network, none of this project's modules."""
    return {
        **{name: value for name, value in os.environ.items() if name != "PYTHONPATH"},
        "OMP_NUM_THREADS": str(threads),
        "MKL_NUM_THREADS": str(threads),
        "HF_HUB_OFFLINE": "1",
        "TOKENIZERS_PARALLELISM": "false",
        "TRANSFORMERS_VERBOSITY": "error",
    }
