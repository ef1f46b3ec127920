"""The steps of the workflows that need no engine and no emulator, as they stand, each in the shortest form there is."""

from __future__ import annotations

import json
import tomllib
from dataclasses import dataclass

import pytest
import yaml

from tests.infra.clean_clone import ROOT
from tests.infra.github_steps import GitHub

ELSEWHERE = {
    "infra-drift.yml",
    "infra-preview.yml",
    "infra-up.yml",
    "jobs-apply.yml",
    "jobs-drift.yml",
    "jobs-plan.yml",
}
"""Workflows whose steps are run in `test_github_steps.py`."""
NO_SUBJECT = (
    "import sys; from benchmarks import __main__ as command; command.SUBJECTS.clear(); sys.exit(command.main())"
)
SHORTER = {
    "python -m pytest -n 2": ["--collect-only", "-q", "tests/test_prose.py"],
    "python -m pytest": ["--collect-only", "--ignore-glob=*/infra/test_[!g]*", "--ignore-glob=*/infra/test_g[!o]*"],
    "python -m benchmarks.fuzz": ["manifests"],
    "python -m benchmarks": ["-c", NO_SUBJECT],
    "mypy": ["dev.py"],
}
EXPRESSIONS = {
    "github.event_name == 'schedule' && '3600' || '60'": "0.1",
    "matrix.targets": "x86_64-unknown-linux-gnu aarch64-apple-darwin",
    "matrix.os": "ubuntu-24.04",
}


@pytest.fixture(scope="module")
def github(tmp_path_factory: pytest.TempPathFactory) -> GitHub:
    made = GitHub(tmp_path_factory.mktemp("github"), expressions=EXPRESSIONS)
    made.checkout.shorten(SHORTER)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    made.variables["GITHUB_REF_NAME"] = f"v{project['version']}"
    return made


@dataclass(frozen=True, slots=True)
class Job:
    """A job of a workflow, and what tells that its steps did what they are for."""

    workflow: str
    name: str
    calls: tuple[str, ...] = ()
    """How calls of programs begin, in this order."""
    said: str = ""
    left: str = ""
    """Files in the clone or among the artefacts, as a pattern."""
    count: int = 1
    """How many at least."""


JOBS = [
    Job(
        "tests.yml",
        "suite",
        (
            "sudo apt-get install",
            "go install",
            "python3 dev.py test",
            "ruff check",
            "lint-imports",
            "mypy",
            "python -m pytest -n 2 --dist loadfile --every-test",
        ),
        "tests/test_prose.py",
    ),
    Job(
        "fuzz.yml", "fuzz", ("uv pip install --quiet --reinstall", "python -m benchmarks.fuzz --seconds"), "0 findings"
    ),
    Job("figures.yml", "short", ("python -m benchmarks --size short",), left="summary.md"),
    Job(
        "release.yml",
        "build",
        ("uv build", "cyclonedx-py", "python -m pytest -q tests/api/test_wheel.py"),
        "test_it_installs_one_package",
        left="artefacts/dist/*",
        count=3,
    ),
    Job(
        "release.yml",
        "native",
        ("rustup target add x86_64-unknown-linux-gnu", "maturin build", "rustup target add", "maturin build"),
        left="artefacts/dist-*/*.whl",
        count=2,
    ),
    Job(
        "release.yml",
        "publish",
        ("python3 -m venv", "python -m pip install", "pypi-attestations sign dist/", "uv publish --trusted-publishing"),
        left="clone/dist/*.whl",
        count=3,
    ),
    Job("site.yml", "build", left="clone/site/index.html"),
    Job(
        "supply-chain.yml",
        "python",
        ("pip-audit --disable-pip", "pip-audit --disable-pip", "cyclonedx-py requirements"),
        left="artefacts/sbom/sbom.json",
    ),
    Job("supply-chain.yml", "rust", ("cargo install --quiet --locked cargo-deny", "cargo deny")),
    Job(
        "infra-check.yml",
        "check",
        (
            "go install github.com/rhysd/actionlint",
            "python3 -m venv infra/policy/.venv",
            "pip install --quiet --require-hashes -r infra/policy/requirements.txt",
            "python -m pytest -q tests/infra",
            "python -m tests.infra.documentation --check",
        ),
        "test_goldens.py",
    ),
]


@pytest.mark.parametrize("job", JOBS, ids=lambda job: f"{job.workflow}-{job.name}")
def test_a_workflow_runs_in_a_clean_clone(job: Job, github: GitHub) -> None:
    github.checkout.clean()
    before = len(github.checkout.calls)
    code, _, said = github.job(job.workflow, job.name)
    assert code == 0, said
    assert job.said in said
    calls = github.checkout.calls[before:]
    rest = iter(calls)
    for start in job.calls:
        assert any(call.startswith(start) for call in rest), (start, calls)
    if job.left:
        assert len(list(github.folder.glob(job.left))) >= job.count


def test_every_step_of_every_workflow_is_run_by_a_test() -> None:
    run = {
        (path.name, name)
        for path in (ROOT / ".github" / "workflows").glob("*.yml")
        for name, job in yaml.safe_load(path.read_text())["jobs"].items()
        if path.name not in ELSEWHERE and any("run" in step for step in job["steps"])
    }
    assert run == {(job.workflow, job.name) for job in JOBS}


def test_gitlab_checks_what_a_change_does(github: GitHub) -> None:
    """With the commands of GitHub's job, so that what they do is not looked at again."""
    script = yaml.safe_load((ROOT / "deploy" / "gitlab-ci.yml").read_text())["infra-check"]["script"]
    shorter = {"python -m pytest": ["--version"], "python -m tests.infra.documentation": ["-c", "pass"]}
    before = len(github.checkout.calls)
    done = github.checkout.run("\n".join(script), SHORTER=json.dumps(shorter))
    assert done.returncode == 0, done.stderr
    calls = github.checkout.calls[before:]
    assert "python -m pytest -q tests/infra" in calls
    assert calls[-1] == "python -m tests.infra.documentation --check"
