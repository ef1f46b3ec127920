"""Who can become whom: every binding against every event of every pipeline, and of those an attacker adds."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from infra.evaluation import Evaluation
from infra.settings.identity import GITHUB_ISSUER
from infra.stack_files import configuration, stacks
from tests.infra.evaluation import EVERYWHERE, FULL, PRODUCTION, evaluate
from tests.infra.identities import claims, matrix, pipelines
from tests.infra.identities.claims import GITHUB_EVENTS, GITLAB_EVENTS, REVIEWED, Event

REPOSITORY = {"repository": "owner/repository", "repository_id": "1234", "repository_owner_id": "56"}
PROJECT = {"project_id": "789", "project_path": "group/project", "host": "gitlab.com"}
MAY = {
    # Written down once more, by hand: what must hold, not what the program says.
    ("infra-preview.yml", "pull_request", "infra-preview"): "tuning-preview",
    ("infra-drift.yml", "schedule", "infra-drift"): "tuning-preview",
    ("infra-drift.yml", "workflow_dispatch", "infra-drift"): "tuning-preview",
    ("jobs-plan.yml", "pull_request_target", "jobs-plan"): "tuning-plan",
    ("jobs-drift.yml", "schedule", "jobs-drift"): "tuning-plan",
    ("jobs-drift.yml", "workflow_dispatch", "jobs-drift"): "tuning-plan",
    ("jobs-apply.yml", "push", "tuning"): "tuning-runner",
    ("jobs-apply.yml", "schedule", "tuning"): "tuning-runner",
    ("jobs-apply.yml", "workflow_dispatch", "tuning"): "tuning-runner",
    ("infra-up.yml", "push", "prod"): "tuning-deploy",
    ("infra-up.yml", "workflow_dispatch", "prod"): "tuning-deploy",
}
MAY_ON_GITLAB = {
    ("merge_request_event", "infra-preview"): "tuning-preview",
    ("schedule", "infra-drift"): "tuning-preview",
    ("push", "tuning"): "tuning-runner",
    ("schedule", "tuning"): "tuning-runner",
    ("push", "prod"): "tuning-deploy",
}
FILES = sorted({job.file for job in pipelines.github_jobs()} | {"evil.yml", "infra-up.yml@refs/heads/main"})
ENVIRONMENTS = ["", "prod", "tuning", "infra-preview", "infra-drift", "jobs-plan", "jobs-drift", "dev", "infra-up"]


@pytest.fixture(scope="module")
def full() -> Evaluation:
    return evaluate(FULL)


def of(evaluation: Evaluation, *, github: bool) -> matrix.Provider:
    (found,) = [item for item in matrix.providers(evaluation) if (item.issuer == GITHUB_ISSUER) is github]
    return found


def allowed(event: Event, file: str, environment: str) -> set[str]:
    account = MAY.get((file, event.name, environment))
    of_change = event.name == "pull_request"
    return {account} if account and (of_change or (event.ref == "refs/heads/main")) else set()


@pytest.mark.parametrize("other", [PRODUCTION, EVERYWHERE], ids=["production", "everywhere"])
def test_the_bindings_do_not_depend_on_regions_and_the_like(full: Evaluation, other: dict[str, str]) -> None:
    assert matrix.providers(evaluate(other)) == matrix.providers(full)


def test_github_every_file_event_and_environment(full: Evaluation) -> None:
    provider = of(full, github=True)
    seen: set[str] = set()
    for event, file, environment in itertools.product(GITHUB_EVENTS, FILES, ENVIRONMENTS):
        token = claims.github(event, file, environment, repository=REPOSITORY)
        became = provider.becomes(token)
        assert became == allowed(event, file, environment), token
        seen |= became
        if event.code != REVIEWED:
            assert became <= {"tuning-preview"}
    assert seen == set(MAY.values())


def test_gitlab_every_event_and_environment(full: Evaluation) -> None:
    provider = of(full, github=False)
    files = (".gitlab-ci.yml", "evil.yml")
    for event, environment, file in itertools.product(GITLAB_EVENTS, ENVIRONMENTS, files):
        token = claims.gitlab(event, environment, project=PROJECT, file=file)
        wanted = MAY_ON_GITLAB.get((event.name, environment))
        merge = event.name == "merge_request_event"
        if not merge and (event.ref != "refs/heads/main" or file != ".gitlab-ci.yml"):
            wanted = None
        became = provider.becomes(token)
        assert became == ({wanted} if wanted else set()), token
        if event.code != REVIEWED:
            assert became <= {"tuning-preview"}


@pytest.mark.parametrize(
    "changed",
    [
        {"repository_id": "999"},
        {"repository_owner_id": "999"},
        {"ref_protected": "false"},
        {"ref": "refs/heads/feature"},
        {"workflow_ref": "owner/repository/.github/workflows/infra-up.yml@refs/heads/feature"},
        {"job_workflow_ref": "owner/repository/.github/workflows/infra-up.yml@refs/heads/feature"},
        {"job_workflow_ref": "stranger/repository/.github/workflows/infra-up.yml@refs/heads/main"},
        {"event_name": "workflow_run"},
        {"environment": "dev"},
    ],
    ids=lambda changed: next(iter(changed)),
)
def test_each_part_of_a_token_is_looked_at(full: Evaluation, changed: dict[str, str]) -> None:
    """One claim off, and the deploying workflow of the main branch is nobody."""
    (event,) = [item for item in GITHUB_EVENTS if item.label == "merge to main"]
    token = claims.github(event, "infra-up.yml", "prod", repository=REPOSITORY)
    provider = of(full, github=True)
    assert provider.becomes(token) == {"tuning-deploy"}
    assert provider.becomes({**token, **changed}) == frozenset()
    for name in set(changed) - {"environment"}:
        assert provider.becomes({key: value for key, value in token.items() if key != name}) == frozenset()


def test_a_reusable_workflow_of_main_called_from_a_branch_is_nobody(full: Evaluation) -> None:
    (event,) = [item for item in GITHUB_EVENTS if item.label == "push to a branch"]
    called = "owner/repository/.github/workflows/infra-up.yml@refs/heads/main"
    token = claims.github(event, "evil.yml", "prod", repository=REPOSITORY, called=called)
    assert of(full, github=True).becomes(token) == frozenset()


_NAMES = st.text(st.characters(codec="ascii", exclude_characters="\x00"), max_size=40)
_PARTS = st.sampled_from(["infra-up.yml", "@refs/heads/main", ":push", ":prod", "refs/pull/1/merge", "/", "owner", ":"])
_HOSTILE = st.lists(_PARTS | _NAMES, max_size=5).map("".join)


@settings(max_examples=500, deadline=None)
@given(file=_HOSTILE, branch=_HOSTILE, environment=_HOSTILE, event=st.sampled_from(GITHUB_EVENTS))
def test_no_name_of_a_file_branch_or_environment_is_taken_for_another(
    full: Evaluation, file: str, branch: str, environment: str, event: Event
) -> None:
    """What somebody with a branch can choose: the names. Git allows no colon in a branch's name."""
    branch = branch.replace(":", "")
    ref = f"refs/heads/{branch}x"
    hostile = Event(label="", name=event.name if event.name != "pull_request" else "push", ref=ref)
    token = claims.github(hostile, f"{file}.yml", environment, repository=REPOSITORY)
    assert of(full, github=True).becomes({**token, "ref_protected": "true"}) == frozenset()


@pytest.mark.parametrize("stack", stacks())
def test_every_member_of_a_pool_names_all_four_parts(stack: str) -> None:
    for provider in matrix.providers(evaluate(configuration(stack))):
        for member, _ in provider.grants:
            number, file, event, environment = member.removeprefix("attribute.use/").split(":")
            assert member.startswith("attribute.use/")
            assert number.isdigit()
            assert "@refs/" in file
            assert event
            assert environment


def test_every_job_that_asks_for_a_token_gets_what_it_asks_for(full: Evaluation) -> None:
    """A workflow that cannot log in is found here, not on a Monday."""
    names = {
        "infra-preview.yml": "tuning-preview", "infra-drift.yml": "tuning-preview", "infra-up.yml": "tuning-deploy",
        "jobs-plan.yml": "tuning-plan", "jobs-drift.yml": "tuning-plan", "jobs-apply.yml": "tuning-runner",
    }  # fmt: skip
    # A package index and GitHub Pages trust these; Google Cloud knows nothing of them.
    elsewhere = {"release.yml", "site.yml"}
    asking = [job for job in pipelines.github_jobs() if job.identity and job.file not in elsewhere]
    assert {job.file for job in asking} == set(names)
    for job in asking:
        for event in claims.situations(GITHUB_EVENTS, set(job.triggers)):
            if event.token and (event.ref == "refs/heads/main" or event.name == "pull_request"):
                environment = job.environment.replace("{stack}", "prod")
                token = claims.github(event, job.file, environment, repository=REPOSITORY)
                assert of(full, github=True).becomes(token) == {names[job.file]}, (job.file, event.label)
    for job in pipelines.gitlab_jobs():
        for event in claims.situations(GITLAB_EVENTS, set(job.triggers) if job.identity else set()):
            if event.ref == "refs/heads/main" or event.name == "merge_request_event":
                token = claims.gitlab(event, job.environment.replace("{stack}", "prod"), project=PROJECT)
                assert len(of(full, github=False).becomes(token)) == 1, (job.name, event.label)
