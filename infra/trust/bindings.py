"""The bindings: each names the account, the file, the branch, the event and the environment together.

A token that differs in any of them is not even exchanged: the mapping combines the parts in one attribute, `use`, and
the condition refuses tokens whose parts contradict each other. It uses only CEL functions that every evaluator has:
`has`, `endsWith`, `startsWith`, `==`, `&&`, `||`, `+`, `? :`.
"""

from __future__ import annotations

from dataclasses import dataclass

from infra.settings.identity import GitHub, GitLab

MAIN = "refs/heads/main"
CHANGE = "refs/pull"
"""Represents the ref of a pull request, whose number differs each time."""
WORKFLOWS = ".github/workflows"
GITLAB_FILE = ".gitlab-ci.yml"
GITLAB_CHANGE = "merge_request_event"

ACCOUNTS = ("preview", "plan", "runner", "deploy")
"""Accounts that a pipeline can act as, from the least to the most powerful."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Use:
    """One event of one workflow that can act as one account."""

    account: str
    file: str
    """The workflow's file; on GitLab there is one file for all."""
    event: str
    environment: str
    """The environment that the job names, or "" for the stack's own."""
    ref: str = MAIN


GITHUB_USES = (
    # Only this one runs unapproved code: its account can read what a preview compares, and nothing else.
    Use(account="preview", file="infra-preview.yml", event="pull_request", environment="infra-preview", ref=CHANGE),
    Use(account="preview", file="infra-drift.yml", event="schedule", environment="infra-drift"),
    Use(account="preview", file="infra-drift.yml", event="workflow_dispatch", environment="infra-drift"),
    Use(account="plan", file="jobs-plan.yml", event="pull_request_target", environment="jobs-plan"),
    Use(account="plan", file="jobs-drift.yml", event="schedule", environment="jobs-drift"),
    Use(account="plan", file="jobs-drift.yml", event="workflow_dispatch", environment="jobs-drift"),
    Use(account="runner", file="jobs-apply.yml", event="push", environment="tuning"),
    Use(account="runner", file="jobs-apply.yml", event="schedule", environment="tuning"),
    Use(account="runner", file="jobs-apply.yml", event="workflow_dispatch", environment="tuning"),
    Use(account="deploy", file="infra-up.yml", event="push", environment=""),
    Use(account="deploy", file="infra-up.yml", event="workflow_dispatch", environment=""),
)
GITLAB_USES = (
    Use(account="preview", file=GITLAB_FILE, event=GITLAB_CHANGE, environment="infra-preview", ref=CHANGE),
    Use(account="preview", file=GITLAB_FILE, event="schedule", environment="infra-drift"),
    Use(account="runner", file=GITLAB_FILE, event="push", environment="tuning"),
    Use(account="runner", file=GITLAB_FILE, event="schedule", environment="tuning"),
    Use(account="deploy", file=GITLAB_FILE, event="push", environment=""),
)

_ENVIRONMENT = "(has(assertion.environment) ? assertion.environment : '')"


def github_mapping(github: GitHub) -> dict[str, str]:
    """Return the attributes of a GitHub Actions token, as CEL expressions by name."""
    (change,) = {use.file for use in GITHUB_USES if use.ref == CHANGE}
    file = f"{github.repository}/{WORKFLOWS}/{change}@"
    of_change = (
        f"(assertion.event_name == 'pull_request'"
        f" && assertion.ref.startsWith('{CHANGE}/') && assertion.workflow_ref == '{file}' + assertion.ref)"
    )
    return {
        "google.subject": "assertion.sub",
        "attribute.use": (
            f"assertion.repository_id + ':' + ({of_change} ? '{file}{CHANGE}' : assertion.workflow_ref)"
            f" + ':' + assertion.event_name + ':' + {_ENVIRONMENT}"
        ),
    }


def github_condition(github: GitHub) -> str:
    """Return the condition for all tokens: this repository, by its numbers, and a file that no other workflow calls.

    Outside pull requests, the branch must be protected, and the file must be from that branch.
    """
    return (
        f"assertion.repository_owner_id == '{github.owner_id}' && assertion.repository_id == '{github.repository_id}'"
        " && assertion.job_workflow_ref == assertion.workflow_ref"
        " && assertion.workflow_ref.endsWith('@' + assertion.ref)"
        " && (assertion.event_name == 'pull_request' || assertion.ref_protected == 'true')"
    )


def github_value(github: GitHub, use: Use) -> str:
    """Return the value of `attribute.use` for a binding."""
    environment = use.environment or github.deploy_environment
    return f"{github.repository_id}:{github.repository}/{WORKFLOWS}/{use.file}@{use.ref}:{use.event}:{environment}"


def gitlab_mapping(gitlab: GitLab) -> dict[str, str]:
    """Return the attributes of a GitLab token, as CEL expressions by name.

    A merge request's pipeline has the file of the change, so its claims about file and ref are ignored.
    """
    file = f"{gitlab_host(gitlab)}/{gitlab.project}//{GITLAB_FILE}@{CHANGE}"
    return {
        # GitLab's own subject contains the project's path and can exceed the limit of 127 bytes.
        "google.subject": "'gitlab:' + assertion.project_id + ':' + assertion.job_id",
        "attribute.use": (
            f"assertion.project_id + ':'"
            f" + (assertion.pipeline_source == '{GITLAB_CHANGE}' ? '{file}' : assertion.ci_config_ref_uri)"
            f" + ':' + assertion.pipeline_source + ':' + {_ENVIRONMENT}"
        ),
    }


def gitlab_condition(gitlab: GitLab) -> str:
    """Return the condition for all tokens: this project, by its number; outside merge requests, a protected branch."""
    return (
        f"assertion.project_id == '{gitlab.project_id}'"
        f" && (assertion.pipeline_source == '{GITLAB_CHANGE}' || (assertion.ref_protected == 'true'"
        " && assertion.ci_config_ref_uri.endsWith('@' + assertion.ref_path)))"
    )


def gitlab_value(gitlab: GitLab, use: Use) -> str:
    """Return the value of `attribute.use` for a binding."""
    file = f"{gitlab_host(gitlab)}/{gitlab.project}//{use.file}@{use.ref}"
    return f"{gitlab.project_id}:{file}:{use.event}:{use.environment or gitlab.deploy_environment}"


def gitlab_host(gitlab: GitLab) -> str:
    """Return the server's name in the spelling of tokens."""
    return gitlab.issuer.removeprefix("https://")
