"""Push weights to a model hub with Hugging Face's API, with its own client.

Nothing is overwritten: a repository with other contents is refused. The single commit names its parent commit, so that
the hub refuses it if another client was faster. After an interruption, the same command continues: the client sends
only what the hub does not have.
"""

from __future__ import annotations

import hashlib
import os
import re
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from importlib import util
from pathlib import Path
from typing import Any, Literal

from runner.errors import ConfigurationError, EngineMissingError, RunnerError, UnreachableError
from runner.installation import install_hint
from runner.serving.export import INSTRUCTIONS

_OURS_TO_IGNORE = {".gitattributes"}
"""Files that the hub itself adds to a new repository."""
_NAME = re.compile(r"[\w.-]{1,96}/[\w.-]{1,96}")
"""The client knows more rules; this one finds invalid names before a gigabyte is downloaded."""
_PAGE = "README.md"
"""The file that the hub shows for a repository, which contains the instructions."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PushPlan:
    """The plan of a push."""

    repository: str
    """`NAMESPACE/NAME`."""
    url: str
    private: bool
    files: dict[str, Path]
    """Files by name in the repository."""
    size: int
    """Bytes of all files."""
    state: Literal["new", "empty", "done"]
    """Whether the repository does not exist yet, has no files, or has these files already."""
    head: str | None = None
    """Parent commit of the push."""

    def to_json(self) -> dict[str, Any]:
        """Return the stable JSON form."""
        return {
            "repository": self.repository,
            "url": self.url,
            "private": self.private,
            "files": sorted(self.files),
            "bytes": self.size,
            "state": self.state,
        }


def plan_push(directory: Path, repository: str, *, private: bool) -> PushPlan:
    """Compare a folder of checked weights with the hub. Changes nothing.

    Args:
        directory: a folder that `export.inspect` accepted.
        repository: `NAMESPACE/NAME`.
        private: whether only its owner can see it.

    Raises:
        ConfigurationError: the name is invalid, the repository has other files or another visibility, or the login is
            not accepted.
        EngineMissingError: the hub's client is not installed.
        UnreachableError: the hub does not answer.
    """
    check_name(repository)
    api = _client()
    from huggingface_hub.errors import RepositoryNotFoundError

    files = _files(directory)
    plan = PushPlan(
        repository=repository,
        url=f"{api.endpoint}/{repository}",
        private=private,
        files=files,
        size=sum(path.stat().st_size for path in files.values()),
        state="new",
    )
    with _failures(repository):
        try:
            info = api.model_info(repository, files_metadata=True)
        except RepositoryNotFoundError:
            return plan
    return _upon(plan, info)


def check_name(repository: str) -> None:
    """Refuse a name that is not `NAMESPACE/NAME`. Raises ConfigurationError, EngineMissingError."""
    if util.find_spec("huggingface_hub") is None:
        raise EngineMissingError("pushing to a hub needs its client, huggingface_hub", hint=install_hint("hub"))
    if not _NAME.fullmatch(repository):
        raise ConfigurationError(
            f"{repository!r} is not a repository name", hint="NAMESPACE/NAME, for example me/my-model"
        )


def push(plan: PushPlan) -> str:
    """Push, and return the address of the commit, or of the repository if all files were already there.

    Raises:
        ConfigurationError: the hub refuses; UnreachableError: it does not answer. The same command continues.
    """
    if plan.state == "done":
        return plan.url
    api = _client()
    from huggingface_hub import CommitOperationAdd

    with _failures(plan.repository), warnings.catch_warnings():
        # For example a warning about a page without metadata, which does not help the user.
        warnings.simplefilter("ignore", UserWarning)
        if plan.state == "new":
            api.create_repo(plan.repository, private=plan.private)
            plan = _upon(plan, api.model_info(plan.repository, files_metadata=True))
        operations = [CommitOperationAdd(name, str(path)) for name, path in plan.files.items()]
        done = api.create_commit(
            plan.repository, operations, commit_message="Add weights and how to run them", parent_commit=plan.head
        )
    return str(done.commit_url)


def _client() -> Any:
    if not sys.stderr.isatty():
        os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")  # read when the client is imported
    from huggingface_hub import HfApi

    return HfApi(library_name="open-model-tuning")


def _files(directory: Path) -> dict[str, Path]:
    """Return the files to push by their name in the repository; links and hidden files are omitted."""
    found = {}
    for path in sorted(directory.rglob("*")):
        name = path.relative_to(directory)
        if path.is_file() and not path.is_symlink() and not any(part.startswith(".") for part in name.parts):
            found[_PAGE if str(name) == INSTRUCTIONS else name.as_posix()] = path
    return found


def _upon(plan: PushPlan, info: Any) -> PushPlan:
    """Return the plan for an existing repository. Raises ConfigurationError if anything would be overwritten."""
    if bool(info.private) is not plan.private:
        now, wanted = ("private", "public") if info.private else ("public", "private")
        raise ConfigurationError(
            f"{plan.repository} exists and is {now}, but should be {wanted}", hint="push to a new name"
        )
    there = {item.rfilename: item for item in info.siblings or [] if item.rfilename not in _OURS_TO_IGNORE}
    if not there:
        return replace(plan, state="empty", head=info.sha)
    other = sorted(name for name in there if name not in plan.files or not _same(plan.files[name], there[name]))
    if other:
        names = ", ".join(other[:3]) + (", …" if len(other) > 3 else "")
        raise ConfigurationError(f"{plan.repository} holds other files: {names}", hint="push to a new name")
    if plan.files.keys() != there.keys():
        raise ConfigurationError(f"{plan.repository} holds some of these files and not all", hint="push to a new name")
    return replace(plan, state="done", head=info.sha)


def _same(path: Path, there: Any) -> bool:
    """Return whether a file equals the hub's, by SHA-256 for large files and by Git's blob ID for small ones."""
    if there.lfs is not None:
        digest = hashlib.sha256()
        wanted = str(there.lfs.sha256)
    else:
        digest = hashlib.sha1(b"blob %d\0" % path.stat().st_size, usedforsecurity=False)
        wanted = str(there.blob_id)
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, lambda: digest).hexdigest() == wanted


@contextmanager
def _failures(repository: str) -> Iterator[None]:
    """Convert an error of the hub's client into an error of this tool."""
    from huggingface_hub.errors import (
        HfHubHTTPError,
        HFValidationError,
        LocalTokenNotFoundError,
        OfflineModeIsEnabled,
    )

    # The errors of every HTTP library that the client can use have a base class in common with HfHubHTTPError.
    bases = [base for base in HfHubHTTPError.__bases__ if issubclass(base, Exception)]
    network: tuple[type[Exception], ...] = (OSError, RuntimeError, *bases)
    login = "`hf auth login`, or HF_TOKEN: a token that may write"
    try:
        yield
    except RunnerError:
        raise
    except HFValidationError as error:
        raise ConfigurationError(f"{repository!r} is not a repository name: {error}") from error
    except LocalTokenNotFoundError as error:
        raise ConfigurationError("not logged in to the hub", hint=login) from error
    except OfflineModeIsEnabled as error:
        raise ConfigurationError(
            "the hub's client is offline, because HF_HUB_OFFLINE is set", hint="unset HF_HUB_OFFLINE"
        ) from error
    except HfHubHTTPError as error:
        status = error.response.status_code
        said = str(error.server_message or error).splitlines()[0]
        if status >= 500 or status == 429:
            raise UnreachableError(
                f"the hub failed ({status}): {said}", hint="run the same command again to continue"
            ) from error
        hints = {
            401: login,
            403: login,
            409: "push to a new name",
            412: "someone else pushed to the repository: inspect it first",
        }
        raise ConfigurationError(f"the hub refuses {repository} ({status}): {said}", hint=hints.get(status)) from error
    except network as error:
        cause = error.__cause__ or error
        raise UnreachableError(
            f"the hub does not answer: {cause}", hint="run the same command again to continue"
        ) from error
