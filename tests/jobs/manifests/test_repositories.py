"""Whose a job is, when several repositories and checkouts share the records of one environment."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from runner.gcp.downloads import read_bytes
from runner.gcp.session import Session
from runner.jobs.checkouts import commit_of, named, origin_of
from runner.jobs.manifests.records import StateLedger
from runner.jobs.outputs.run_manifest import manifest_uri
from runner.json_text import parsed
from tests.cli.invocation import CommandLine
from tests.jobs.manifests.folder import MODEL, Manifests, jobs_of


def repository(folder: Path, remote: str) -> Path:
    """Make a folder a checkout with one commit."""
    login = ("-c", "user.name=somebody", "-c", "user.email=somebody@example.com")
    for command in (("init", "-q"), ("add", "-A"), (*login, "commit", "-qm", "first")):
        subprocess.run(["git", "-C", str(folder), *command], check=True)
    if remote:
        subprocess.run(["git", "-C", str(folder), "remote", "add", "origin", remote], check=True)
    return folder


@pytest.fixture
def two(tmp_path: Path, manifests: Manifests) -> tuple[Path, Path]:
    """Two repositories, each with `jobs/NAME.yaml`."""
    found = []
    for name in ("one", "two"):
        folder = tmp_path / name
        shutil.copytree(manifests.folder, folder / "jobs")
        Manifests(folder / "jobs").add(name, spec="maxCost: 5")
        found.append(repository(folder, f"git@example.com:acme/{name}.git"))
    return found[0], found[1]


def planned(run: CommandLine, *arguments: str) -> dict[str, str]:
    document = run("plan", "--no-preflight", "--prune", "--json", *arguments).document
    return {item["name"]: item["action"] for item in [*document["jobs"], *document["removed"]]}


def test_pruning_in_one_repository_cancels_nothing_of_another(
    two: tuple[Path, Path], idle: CommandLine, untrained: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    for folder in two:
        monkeypatch.chdir(folder)
        assert idle("apply", "-f", "jobs", "--quota", "9").code == 0
    monkeypatch.chdir(two[0])
    assert planned(idle, "-f", "jobs") == {"one": "keep"}
    monkeypatch.chdir(two[0] / "jobs")
    assert planned(idle, "-f", ".") == {"one": "keep"}
    (two[0] / "jobs" / "one.yaml").rename(two[0] / "jobs" / "moved.yaml")
    assert planned(idle, "-f", ".") == {"one": "keep"}
    Manifests(two[0] / "jobs").add("other")
    (two[0] / "jobs" / "moved.yaml").unlink()
    for start, path in ((two[0], "jobs"), (two[0] / "jobs", "."), (two[1], "../one/jobs"), (two[1], str(two[0]))):
        monkeypatch.chdir(start)
        assert planned(idle, "-f", path) == {"other": "create", "one": "cancel"}, (start, path)
    # From another checkout of the same repository too, by whichever address it was cloned.
    clone = two[0].parent / "clone"
    subprocess.run(["git", "clone", "-q", str(two[0]), str(clone)], check=True)
    address = "https://secret@example.com/acme/one"
    subprocess.run(["git", "-C", str(clone), "remote", "set-url", "origin", address], check=True)
    (clone / "jobs" / "one.yaml").rename(clone / "jobs" / "two.yaml")
    Manifests(clone / "jobs").add("two", spec="maxCost: 5")
    monkeypatch.chdir(clone)
    assert planned(idle, "-f", "jobs/two.yaml")["two"] == "keep", "the same job, whoever asks for it"
    assert planned(idle, "-f", "jobs")["one"] == "cancel"
    assert len(jobs_of(untrained)) == 2


def test_a_name_that_another_repository_has(
    two: tuple[Path, Path], idle: CommandLine, untrained: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(two[0])
    assert idle("apply", "-f", "jobs", "--quota", "9").code == 0
    monkeypatch.chdir(two[1])
    Manifests(two[1] / "jobs").add("one", hyper="{epochs: 2}")
    outcome = idle("plan", "-f", "jobs/one.yaml", "--prune", "--no-preflight", "--json")
    [job] = outcome.document["jobs"]
    assert job["action"] == "change"
    assert "jobs/one.yaml in example.com/acme/one has this name too" in job["warnings"][0]
    assert outcome.document["removed"] == [], "the other repository's job goes on"


def test_a_record_says_where_its_manifest_is(
    two: tuple[Path, Path], idle: CommandLine, untrained: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(two[1])
    assert idle("apply", "-f", "../one/jobs", "--quota", "9").code == 0
    entry = StateLedger(untrained).read("one")
    assert entry is not None
    run = entry.record.run
    assert (run.repository, run.file) == ("example.com/acme/one", "jobs/one.yaml")
    assert run.git == commit_of(two[0]), "of the manifests, not of the current directory"
    assert run.git != commit_of(two[1])


@pytest.mark.parametrize(
    ("untracked", "dirty"),
    [("jobs/new.yaml", True), ("jobs/own.jsonl", True), ("notes.txt", False), ("", False)],
)
def test_an_untracked_file_counts_if_the_job_uses_it(
    untracked: str, dirty: bool, two: tuple[Path, Path], idle: CommandLine, untrained: Session
) -> None:
    """Else the record would name a commit that the job cannot be made of."""
    folder = two[0]
    shutil.copy(folder / "jobs" / "train.jsonl", folder / "jobs" / "own.jsonl")
    Manifests(folder / "jobs").add("new", data="{train: own.jsonl}", spec="maxCost: 5")
    (folder / "notes.txt").write_text("not used")
    kept = [name for name in ("jobs/new.yaml", "jobs/own.jsonl", "notes.txt") if name != untracked]
    git = ("git", "-C", str(folder), "-c", "user.name=somebody", "-c", "user.email=somebody@example.com")
    subprocess.run([*git, "add", *kept], check=True)
    subprocess.run([*git, "commit", "-qm", "second"], check=True)
    assert idle("apply", "-f", str(folder / "jobs" / "new.yaml"), "--quota", "9").code == 0
    entry = StateLedger(untrained).read("new")
    assert entry is not None
    assert (entry.record.run.git or {})["dirty"] is dirty


def test_what_makes_a_checkout_dirty(two: tuple[Path, Path], tmp_path: Path) -> None:
    folder = two[0]
    data, elsewhere = folder / "jobs" / "train.jsonl", tmp_path / "elsewhere.jsonl"
    elsewhere.write_text("")

    def dirty(*files: Path) -> bool:
        return bool((commit_of(folder, files) or {})["dirty"])

    assert not dirty(data, folder / "jobs" / "one.yaml", elsewhere)
    (folder / "jobs" / "*.jsonl").write_text("a name that is a pattern")
    (folder / "link.jsonl").symlink_to("jobs/train.jsonl")
    assert not dirty(data)
    assert dirty(folder / "jobs" / "*.jsonl")
    assert dirty(folder / "link.jsonl"), "the link is not in the commit"
    (folder / ".git" / "info" / "exclude").write_text("ignored.jsonl\n")
    (folder / "ignored.jsonl").write_text("")
    assert not dirty()
    assert dirty(folder / "ignored.jsonl")
    data.write_text("changed")
    assert dirty(), "as `git describe --dirty` says"


def test_origins(tmp_path: Path) -> None:
    addresses = (
        "https://example.com/acme/models",
        "https://user:secret@EXAMPLE.com:8443/acme/models.git",
        "ssh://git@example.com:22/acme/models.git/",
        "git@example.com:acme/models.git",
        "git://example.com/acme/models",
    )
    assert {named(address) for address in addresses} == {"example.com/acme/models"}
    (tmp_path / "jobs").mkdir()
    absolute = (tmp_path.resolve() / "jobs" / "a.yaml").as_posix()
    assert (origin_of(tmp_path / "jobs" / "a.yaml").repository, origin_of(tmp_path / "jobs" / "a.yaml").path) == (
        "",
        absolute,
    )
    assert commit_of(tmp_path) is None
    assert commit_of(tmp_path / "absent") is None


@pytest.mark.parametrize("tracked", [True, False])
def test_the_run_manifest_says_whether_the_commit_has_the_data(
    tracked: bool, two: tuple[Path, Path], idle: CommandLine, untrained: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(two[0])
    data = Path("jobs/train.jsonl" if tracked else "jobs/other.jsonl")
    if not tracked:
        shutil.copy("jobs/train.jsonl", data)
    outcome = idle("jobs", "submit", "--model", MODEL, "--train", str(data), "--epochs", "1", "--yes", "--json")
    assert outcome.code == 0, outcome.err
    [job] = jobs_of(untrained)
    manifest = parsed(read_bytes(untrained, manifest_uri(job.output_uri)))
    assert manifest["git"] == {"commit": (commit_of(two[0]) or {})["commit"], "dirty": not tracked}
