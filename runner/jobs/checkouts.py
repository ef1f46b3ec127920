"""Information from Git about a folder: its commit, and positions of files that are equal in all checkouts."""

from __future__ import annotations

import contextlib
import functools
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

_ADDRESS = re.compile(r"(?:[a-z][a-z0-9+.-]*://(?:[^/@]*@)?|[^/:@]+@|(?=[^/:]+:[^/]))([^/:]+)(?::[0-9]+(?=/)|:)?/*(.+)")
"""`https://user:secret@host:443/path`, `ssh://git@host/path`, `git@host:path`."""


@dataclass(frozen=True, slots=True)
class Origin:
    """The position of a file or a folder."""

    repository: str
    """Host and path of the remote repository, `github.com/acme/models`, without any secret; "" if there is none."""
    path: str
    """Path in the repository; absolute outside of a repository with a remote."""

    def holds(self, other: Origin) -> bool:
        """Return whether another position is the same as this one, or below it."""
        return self.repository == other.repository and PurePosixPath(other.path).is_relative_to(self.path)


def origin_of(path: Path) -> Origin:
    """Return the position of a file or a folder, which need not exist."""
    folder = path.resolve() if path.is_dir() else path.parent.resolve()
    place = folder if path.is_dir() else folder / path.name
    root = _root_of(folder)
    repository = _repository_of(root) if root else ""
    if root is None or not repository:
        return Origin("", place.as_posix())
    return Origin(repository, place.relative_to(root).as_posix())


@dataclass(frozen=True)
class Checkout:
    """A Git checkout. Its state is read once."""

    root: Path
    commit: str

    @functools.cached_property
    def is_changed(self) -> bool:
        """Whether tracked files have uncommitted changes, as in `git describe --dirty`."""
        return bool(_git(self.root, "status", "--porcelain", "--untracked-files=no"))

    @functools.cached_property
    def known(self) -> frozenset[str]:
        """The tracked files, relative to the root."""
        return frozenset(_git(self.root, "ls-files", "-z").split("\0"))

    def state(self, files: Iterable[Path]) -> dict[str, Any]:
        """Return the commit, and `dirty`: whether tracked files have changed, or one of `files` is not tracked.

        Other untracked files and files outside the checkout do not count.
        """
        used = {path for file in files for path in (file.parent.resolve() / file.name, file.resolve())}
        inside = {path.relative_to(self.root).as_posix() for path in used if path.is_relative_to(self.root)}
        return {"commit": self.commit, "dirty": self.is_changed or not inside <= self.known}


def checkout_of(folder: Path) -> Checkout | None:
    """Return the checkout that contains a folder; None outside of Git and before the first commit."""
    root = _root_of(folder.resolve())
    commit = _git(root, "rev-parse", "HEAD") if root else ""
    return Checkout(root, commit) if root is not None and commit else None


def commit_of(folder: Path, files: Iterable[Path] = ()) -> dict[str, Any] | None:
    """Return the state of the checkout that contains a folder (see `Checkout.state`); None outside of Git."""
    found = checkout_of(folder)
    return None if found is None else found.state(files)


def _root_of(folder: Path) -> Path | None:
    return next((place for place in (folder, *folder.parents) if (place / ".git").exists()), None)


@functools.cache
def _repository_of(root: Path) -> str:
    remotes = dict(
        line.split(" ", 1) for line in _git(root, "config", "--get-regexp", r"^remote\..*\.url$").splitlines()
    )
    address = remotes.get("remote.origin.url") or next(iter(remotes.values()), "")
    return named(str((root / address).resolve()) if address.startswith(".") else address)


def named(address: str) -> str:
    """Return one name for all addresses of a repository: by HTTPS and SSH, with and without a login."""
    found = _ADDRESS.fullmatch(address.strip())
    name = f"{found[1].lower()}/{found[2]}" if found else address.strip()
    return name.rstrip("/").removesuffix(".git")


def _git(root: Path, *arguments: str) -> str:
    import subprocess  # imported here, so that read-only commands start fast

    # The configuration of a repository from somebody else can name programs, which `status` would run.
    command = ["git", "--no-optional-locks", "-c", "core.fsmonitor=false", "-c", "core.hooksPath=/dev/null"]
    with contextlib.suppress(OSError, subprocess.SubprocessError):
        done = subprocess.run(
            [*command, "-C", str(root), *arguments], capture_output=True, text=True, timeout=5, check=False
        )
        return done.stdout.strip() if done.returncode == 0 else ""
    return ""
