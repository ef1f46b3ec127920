"""The pipelines that can act for the stack."""

from __future__ import annotations

import re
from dataclasses import dataclass

from infra.settings.reader import NAMESPACE, Reader

GITHUB_ISSUER = "https://token.actions.githubusercontent.com"
GITLAB_ISSUER = "https://gitlab.com"

_POOL_ID = re.compile(r"[a-z0-9-]{4,32}")
_REPOSITORY = re.compile(r"[A-Za-z0-9][A-Za-z0-9-]*/[A-Za-z0-9._-]+")
_PROJECT_PATH = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*(/[A-Za-z0-9_.-]+)+")
_NUMBER = re.compile(r"[0-9]{1,20}")
_ISSUER = re.compile(r"https://[a-z0-9.-]+(:[0-9]+)?")


@dataclass(frozen=True, slots=True, kw_only=True)
class GitHub:
    """A repository on GitHub. Its numbers identify it: somebody else can take over a name, but not a number."""

    repository: str
    repository_id: str
    owner_id: str
    pool_id: str
    deploy_environment: str
    """The GitHub environment that a deploying workflow runs in."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GitLab:
    """A project on GitLab."""

    project: str
    project_id: str
    issuer: str
    pool_id: str
    deploy_environment: str


def read_github(reader: Reader, environment: str, suffix: str) -> GitHub | None:
    """Return the repository, or None if none is configured."""
    repository = reader.text("githubRepository", _REPOSITORY, "OWNER/REPOSITORY")
    number = reader.text("githubRepositoryId", _NUMBER, "the repository's number")
    owner = reader.text("githubOwnerId", _NUMBER, "the owner's number")
    pool = _pool_id(reader, "githubPoolId", "github", suffix)
    if not _REPOSITORY.fullmatch(repository):
        return None
    if not number:
        reader.problem("githubRepositoryId", f"is not set: `gh api repos/{repository} --jq .id` tells it")
    if not owner:
        reader.problem("githubOwnerId", f"is not set: `gh api repos/{repository} --jq .owner.id` tells it")
    return GitHub(
        repository=repository,
        repository_id=number,
        owner_id=owner,
        pool_id=pool,
        deploy_environment=environment or "prod",
    )


def read_gitlab(reader: Reader, environment: str, suffix: str) -> GitLab | None:
    """Return the project, or None if none is configured."""
    project = reader.text("gitlabProject", _PROJECT_PATH, "GROUP/PROJECT")
    number = reader.text("gitlabProjectId", _NUMBER, "the project's number")
    issuer = reader.text("gitlabIssuer", _ISSUER, "https://HOST without a path", default=GITLAB_ISSUER)
    pool = _pool_id(reader, "gitlabPoolId", "gitlab", suffix)
    if not _PROJECT_PATH.fullmatch(project):
        return None
    if not number:
        reader.problem("gitlabProjectId", f"is not set, and {NAMESPACE}:gitlabProject is a name that can change hands")
    return GitLab(
        project=project, project_id=number, issuer=issuer, pool_id=pool, deploy_environment=environment or "prod"
    )


def _pool_id(reader: Reader, key: str, default: str, suffix: str) -> str:
    chosen = f"{default}-{suffix}" if suffix else default
    pool = reader.text(key, _POOL_ID, "4 to 32 of a-z, 0-9 and -", default=chosen)
    if pool.startswith("gcp-"):
        reader.problem(key, "may not begin with gcp-, which Google reserves")
    return pool
