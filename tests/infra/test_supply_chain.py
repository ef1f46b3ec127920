"""What is installed is what was locked: by version and hash, everywhere, and one version of each package."""

from __future__ import annotations

import json
import re
import subprocess
import tomllib
from pathlib import Path

import pytest
import yaml

from dev import BUILD_LOCK, LOCK, LOCKS, lock_files, release

ROOT = Path(__file__).resolve().parents[2]
PIPELINES = [
    ROOT / ".ci" / "run",
    ROOT / "dev.py",
    *sorted((ROOT / ".github" / "workflows").glob("*.yml")),
    *sorted((ROOT / "deploy").rglob("*.y*ml")),
]
_PACKAGE = re.compile(r"^([a-z0-9][a-z0-9._-]*)(?:\[[^\]]*\])?==([^ ;\\]+)", re.MULTILINE)


def locked(path: Path) -> dict[str, str]:
    return dict(_PACKAGE.findall(path.read_text("utf-8")))


def test_every_lock_file_is_known() -> None:
    found = {*ROOT.glob("*.lock"), *ROOT.glob("locks/*.lock"), *ROOT.glob("infra/**/requirements.lock")}
    assert found <= set(lock_files())
    assert all(path.is_file() for path in lock_files())


@pytest.mark.parametrize("path", lock_files(), ids=lambda path: path.relative_to(ROOT).as_posix())
def test_every_package_has_a_version_and_a_hash(path: Path) -> None:
    logical = path.read_text("utf-8").replace("\\\n", " ").splitlines()
    lines = [line for line in logical if line.strip() and not line.lstrip().startswith("#")]
    assert lines
    for line in lines:
        assert _PACKAGE.match(line), line
        assert "--hash=sha256:" in line, line
    # Nothing is fetched from an address that the file names.
    assert not re.search(r"^ *(-i|--(extra-)?index-url|--find-links|[^#]* @ )", "\n".join(lines), re.MULTILINE)


@pytest.mark.parametrize("name", ["locks/pipeline.lock", "locks/checks.lock", "infra/idle_guard/requirements.lock"])
def test_smaller_lock_files_have_the_versions_of_the_whole_one(name: str) -> None:
    whole, part = locked(LOCK), locked(ROOT / name)
    assert {package: version for package, version in part.items() if package in whole} == {
        package: whole[package] for package in part if package in whole
    }
    extra = set(part) - set(whole)
    assert extra == set() or name.startswith("infra/idle_guard")


@pytest.mark.parametrize("path", PIPELINES, ids=lambda path: path.name)
def test_nothing_is_installed_without_hashes(path: Path) -> None:
    text = path.read_text("utf-8")
    assert not re.search(r"\bsed\b[^\n]*\.lock", text), "a lock file without its hashes"
    for line in text.splitlines():
        code = line.split(" #")[0].strip()
        if re.search(r"\bpip\b.*\binstall\b", code) and not code.startswith(("#", '"""')) and path.name != "dev.py":
            assert "--require-hashes" in code, line
        if re.search(r"\bcargo install\b", code):
            assert "--locked" in code, line
            assert "--version" in code, line
        if re.search(r"\bgo install\b", code) and "$module" not in code:
            assert re.search(r"@v\d+\.\d+\.\d+$", code), line


def test_what_builds_is_locked() -> None:
    builds = locked(BUILD_LOCK)
    for file in (ROOT / "pyproject.toml", ROOT / "native" / "pyproject.toml"):
        for line in tomllib.loads(file.read_text("utf-8"))["build-system"]["requires"]:
            name, _, version = line.partition("==")
            assert builds[name] == version, line
    text = (ROOT / "dev.py").read_text("utf-8")
    # Each installation of a folder, which is a build, takes what is there and fetches nothing.
    for line in text.splitlines():
        if '"--editable"' in line or ("NATIVE]" in line and "install" in line):
            assert "--no-build-isolation" in line, line
    assert {path.stem for path in LOCKS.glob("*.in")} <= {path.stem for path in LOCKS.glob("*.lock")}


def test_the_update_bot_sees_every_place_with_pins() -> None:
    body = yaml.safe_load((ROOT / ".github" / "dependabot.yml").read_text("utf-8"))
    seen = {
        (entry["package-ecosystem"], folder)
        for entry in body["updates"]
        for folder in entry.get("directories", [entry.get("directory")])
    }
    places = {("pip", f"/{path.parent.relative_to(ROOT).as_posix()}".replace("/.", "/")) for path in lock_files()}
    places |= {("github-actions", "/"), ("cargo", "/native")}
    assert places <= seen


def test_owners_and_promises_name_what_exists() -> None:
    for line in (ROOT / ".github" / "CODEOWNERS").read_text("utf-8").splitlines():
        if line and not line.startswith("#"):
            pattern, *owners = line.split()
            assert owners
            assert list(ROOT.glob(pattern.strip("/"))), pattern
    text = (ROOT / "SECURITY.md").read_text("utf-8")
    named = re.findall(r"`(tests/[\w/.]+)`", text)
    assert len(named) >= 4
    for name in named:
        assert (ROOT / name).is_file(), name


def test_the_scanners_licences_are_allowed_by_name() -> None:
    rules = tomllib.loads((ROOT / "native" / "deny.toml").read_text("utf-8"))
    assert rules["sources"] == {"unknown-registry": "deny", "unknown-git": "deny"}
    assert rules["advisories"]["yanked"] == "deny"
    crates = tomllib.loads((ROOT / "native" / "Cargo.lock").read_text("utf-8"))["package"]
    assert all("checksum" in crate for crate in crates if crate["name"] != "open-model-tuning-native")


def test_the_whole_suite_and_the_scans_run_in_workflows() -> None:
    texts = {path.name: path.read_text("utf-8") for path in (ROOT / ".github" / "workflows").glob("*.yml")}
    assert "bash .ci/run" in texts["tests.yml"]
    for command in ("dev.py audit", "dev.py sbom", "cargo deny"):
        assert command in texts["supply-chain.yml"]
    assert "id-token" not in texts["tests.yml"] + texts["supply-chain.yml"] + json.dumps("")


def test_a_release_needs_tag_version_and_changelog_to_agree(monkeypatch: pytest.MonkeyPatch) -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["version"]
    with pytest.raises(SystemExit, match="is not that of version"):
        release("v99.0.0")
    if f"## [{version}]" not in (ROOT / "CHANGELOG.md").read_text("utf-8"):
        with pytest.raises(SystemExit, match=r"has no section"):
            release(f"v{version}")


def test_the_scanner_is_published_with_the_version_that_uses_it() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    cargo = tomllib.loads((ROOT / "native" / "Cargo.toml").read_text("utf-8"))["package"]
    assert project["optional-dependencies"]["native"] == [f"{cargo['name']}=={cargo['version']}"]
    assert cargo["version"] == project["version"]
    body = yaml.safe_load((ROOT / ".github" / "workflows" / "release.yml").read_text("utf-8"))
    targets = " ".join(entry["targets"] for entry in body["jobs"]["native"]["strategy"]["matrix"]["include"])
    for system in ("linux-gnu", "linux-musl", "apple-darwin", "windows-msvc"):
        assert system in targets


def test_what_deploys_the_site_runs_nothing_of_the_project() -> None:
    jobs = yaml.safe_load((ROOT / ".github" / "workflows" / "site.yml").read_text("utf-8"))["jobs"]
    assert jobs["build"]["permissions"] == {"contents": "read"}
    assert ["run" in step or "checkout" in step["uses"] for step in jobs["deploy"]["steps"]] == [False]


def test_what_publishes_runs_nothing_of_the_project() -> None:
    """It has the identity that PyPI trusts: it takes finished files, and the packages that the lock file names."""
    body = yaml.safe_load((ROOT / ".github" / "workflows" / "release.yml").read_text("utf-8"))
    publish = body["jobs"]["publish"]
    assert publish["permissions"] == {"contents": "read", "id-token": "write"}
    assert publish["environment"] == "pypi"
    (checkout,) = [step for step in publish["steps"] if "checkout" in step.get("uses", "")]
    assert checkout["with"]["sparse-checkout"] == "locks"
    scripts = "\n".join(step.get("run", "") for step in publish["steps"])
    assert "dev.py" not in scripts
    assert "--require-hashes" in scripts
    assert "--trusted-publishing always" in scripts
    assert scripts.index('pypi-attestations" sign') < scripts.index('uv" publish')
    for job in ("build", "native"):
        assert body["jobs"][job]["permissions"] == {"contents": "read"}
    assert "secrets." not in repr(body)


def test_nothing_is_committed_that_git_is_to_ignore() -> None:
    command = ["git", "ls-files", "--cached", "--ignored", "--exclude-standard"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == ""
