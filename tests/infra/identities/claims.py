"""What GitHub and GitLab put into a token for each event, and whose code the event runs.

Sources: GitHub, "OpenID Connect reference"; GitLab, "OpenID Connect (OIDC) Authentication Using ID Tokens", as of
2026-09. Only claims that bindings look at, and those that could be mistaken for them, are modelled. All are texts.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

Claims = dict[str, str]
REVIEWED, UNREVIEWED = "the main branch's", "the change's"
BRANCH = "feature"


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """One way in which a pipeline can start."""

    label: str
    """What happened, for people."""
    name: str
    """The event's name in the token."""
    ref: str
    code: str = REVIEWED
    """Whose workflow file is taken, and with it, unless the workflow says otherwise, whose code."""
    token: bool = True
    """Whether the platform gives a token out at all."""
    workflow_ref: str = ""
    """Ref of the workflow's file where it is another than that of the event."""
    trigger: str = ""
    """The key of `on` that the event answers to; "" is its name."""
    more: Claims = field(default_factory=dict)


_MERGE = "refs/pull/12/merge"
_FEATURE = f"refs/heads/{BRANCH}"
_MAIN = "refs/heads/main"
_BY_DEFAULT_BRANCH = (
    "branch_protection_rule", "check_run", "check_suite", "create", "delete", "deployment_status", "discussion",
    "discussion_comment", "fork", "gollum", "issue_comment", "issues", "label", "milestone", "page_build", "public",
    "registry_package", "repository_dispatch", "status", "watch",
)  # fmt: skip
"""Events that take the workflow of the default branch, whoever causes them."""

GITHUB_EVENTS = (
    Event(label="pull request of a branch here", name="pull_request", ref=_MERGE, code=UNREVIEWED),
    Event(label="pull request of a fork", name="pull_request", ref=_MERGE, code=UNREVIEWED, token=False),
    Event(
        label="pull request of a fork, where the repository sends forks write tokens",
        name="pull_request",
        ref=_MERGE,
        code=UNREVIEWED,
        more={"actor": "stranger"},
    ),
    Event(label="pull request, read as data", name="pull_request_target", ref=_MAIN),
    Event(label="review of a pull request", name="pull_request_review", ref=_MERGE, code=UNREVIEWED),
    Event(label="comment on a line of a pull request", name="pull_request_review_comment", ref=_MERGE, code=UNREVIEWED),
    Event(label="merge queue", name="merge_group", ref="refs/heads/gh-readonly-queue/main/pr-12-0a1b", code=UNREVIEWED),
    Event(label="push to a branch", name="push", ref=_FEATURE, code=UNREVIEWED),
    Event(label="push of a tag", name="push", ref="refs/tags/main", code=UNREVIEWED),
    Event(label="merge to main", name="push", ref=_MAIN),
    Event(label="merge to main, run again", name="push", ref=_MAIN, more={"run_attempt": "2"}),
    Event(label="schedule", name="schedule", ref=_MAIN),
    Event(label="dispatch on main", name="workflow_dispatch", ref=_MAIN),
    Event(label="dispatch on a branch", name="workflow_dispatch", ref=_FEATURE, code=UNREVIEWED),
    Event(label="release of a tag", name="release", ref="refs/tags/v1", code=UNREVIEWED),
    Event(label="deployment of a branch", name="deployment", ref=_FEATURE, code=UNREVIEWED),
    Event(label="another workflow has run", name="workflow_run", ref=_MAIN),
    *(Event(label=name.replace("_", " "), name=name, ref=_MAIN) for name in _BY_DEFAULT_BRANCH),
)


def github(event: Event, file: str, environment: str = "", *, repository: Claims, called: str = "") -> Claims:
    """Return the claims of one job's token.

    Args:
        event: what happened.
        file: name of the workflow's file.
        environment: the environment that the job names, "" for none; the claim is then absent.
        repository: `repository`, `repository_id` and `repository_owner_id`.
        called: a reusable workflow, `PATH@REF`, that the job is in; "" for none.
    """
    name = repository["repository"]
    workflow = f"{name}/.github/workflows/{file}@{event.workflow_ref or event.ref}"
    scope = f"environment:{environment}" if environment else f"ref:{event.ref}"
    if event.name.startswith("pull_request") and not environment:
        scope = "pull_request"
    claims = {
        **repository,
        "sub": f"repo:{name}:{scope}",
        "ref": event.ref,
        "ref_type": "tag" if event.ref.startswith("refs/tags/") else "branch",
        "ref_protected": "true" if event.ref == _MAIN else "false",
        "event_name": event.name,
        "workflow_ref": workflow,
        "job_workflow_ref": called or workflow,
        "head_ref": BRANCH if event.name.startswith("pull_request") else "",
        "base_ref": "main" if event.name.startswith("pull_request") else "",
        "runner_environment": "github-hosted",
        "run_attempt": "1",
        **event.more,
    }
    return {**claims, "environment": environment} if environment else claims


GITLAB_EVENTS = (
    Event(label="merge request of a branch here", name="merge_request_event", ref=_FEATURE, code=UNREVIEWED),
    Event(
        label="merge request of a protected branch",
        name="merge_request_event",
        ref="refs/heads/release",
        code=UNREVIEWED,
        more={"ref_protected": "true"},
    ),
    Event(
        label="merge request of a fork, run by a member of this project",
        name="merge_request_event",
        ref="refs/merge-requests/12/head",
        code=UNREVIEWED,
    ),
    Event(label="push to a branch", name="push", ref=_FEATURE, code=UNREVIEWED),
    Event(label="push of a tag", name="push", ref="refs/tags/main", code=UNREVIEWED),
    Event(
        label="push of a protected tag",
        name="push",
        ref="refs/tags/main",
        code=UNREVIEWED,
        more={"ref_protected": "true"},
    ),
    Event(label="merge to main", name="push", ref=_MAIN),
    Event(label="schedule of main", name="schedule", ref=_MAIN),
    Event(label="schedule of a branch", name="schedule", ref=_FEATURE, code=UNREVIEWED),
    *(
        Event(label=f"{name} on {place}", name=name, ref=ref, code=code)
        for name in ("web", "trigger", "api", "pipeline", "parent_pipeline", "chat", "webide", "external")
        for place, ref, code in (("main", _MAIN, REVIEWED), ("a branch", _FEATURE, UNREVIEWED))
    ),
)


def gitlab(event: Event, environment: str = "", *, project: Claims, file: str = ".gitlab-ci.yml") -> Claims:
    """Return the claims of one job's token; `project` has `project_id`, `project_path` and `host`."""
    path = project["project_path"]
    claims = {
        "project_id": project["project_id"],
        "project_path": path,
        "sub": f"project_path:{path}:ref_type:branch:ref:{event.ref.rsplit('/', 1)[-1]}",
        "job_id": "77",
        "pipeline_source": event.name,
        "ref": event.ref.rsplit("/", 1)[-1],
        "ref_path": event.ref,
        "ref_type": "tag" if event.ref.startswith("refs/tags/") else "branch",
        "ref_protected": "true" if event.ref == _MAIN else "false",
        "ci_config_ref_uri": f"{project['host']}/{path}//{file}@{event.ref}",
        **event.more,
    }
    return {**claims, "environment": environment, "environment_protected": "false"} if environment else claims


def situations(events: tuple[Event, ...], triggers: set[str]) -> Iterator[Event]:
    """Yield the events that a workflow with these keys of `on` answers to, those without a token too."""
    yield from (event for event in events if (event.trigger or event.name) in triggers)
