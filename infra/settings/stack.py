"""The settings of one stack: read from Pulumi's configuration and checked as a whole.

`Settings.load` is a pure function of the configuration's keys and texts. It reports all mistakes in one error, because
one error per mistake would mean another `pulumi config set` and another wait each time.

Keys of the project have its name (`open-model-tuning:labels`); `gcp:project` and `gcp:region` are the provider's own.
Objects and lists arrive as JSON, because this is how Pulumi passes them to a program.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from infra.addresses import ENDPOINT_KEYS, emulator_endpoints
from infra.settings.identity import GitHub, GitLab, read_github, read_gitlab
from infra.settings.reader import NAMESPACE, Reader
from infra.settings.regions import DEFAULT_REGION, Stamp, read_stamps
from runner.environment import PLACEHOLDER_TOKEN
from runner.errors import ConfigurationError

__all__ = ["DEFAULT_REGION", "NAMESPACE", "Budget", "Settings", "current_configuration", "keys"]

PRODUCTION = "prod"

_PROVIDER_KEYS = frozenset({"project", "region", "accessToken", "impersonateServiceAccount", *ENDPOINT_KEYS})
"""Settings that are passed to the provider; any other setting in its namespace would be silently ignored."""

_PROJECT = re.compile(r"[a-z][a-z0-9-]{1,28}[a-z0-9]")
_ENVIRONMENT = re.compile(r"[a-z][a-z0-9-]{0,20}")
_LABEL_KEY = re.compile(r"[a-z][a-z0-9_-]{0,62}")
_LABEL_VALUE = re.compile(r"[a-z0-9_-]{1,63}")
_ACCOUNT_ID = re.compile(r"[a-z][a-z0-9-]{4,28}[a-z0-9]")
_SUFFIX = re.compile(r"[a-z0-9]{1,8}")
"""Matches suffixes that fit into account IDs, which have at most 30 characters."""
_BUCKET = re.compile(r"[a-z0-9][a-z0-9._-]{1,220}[a-z0-9]")
_BILLING_ACCOUNT = re.compile(r"[0-9A-F]{6}-[0-9A-F]{6}-[0-9A-F]{6}")
_ADDRESS = re.compile(r"https?://[^/\s]+/?")
_FUNCTIONS = "cloudfunctions2CustomEndpoint"
_EMAIL = re.compile(r"[^@\s]+@[^@\s]+\.[^@\s]+")
_POOL = (
    r"(?:projects/\d+/locations/global/workloadIdentityPools|locations/global/workforcePools)/[a-z][a-z0-9-]+[a-z0-9]/"
)
_MEMBER = re.compile(
    r"(?:user|group|serviceAccount):[^@\s]+@[^@\s]+"
    rf"|principal://iam\.googleapis\.com/{_POOL}subject/\S+"
    rf"|principalSet://iam\.googleapis\.com/{_POOL}(?:\*|(?:group|attribute\.\w+)/\S+)"
)
"""Matches principals listed on https://cloud.google.com/iam/docs/principal-identifiers; Google refuses others."""
_KMS_KEY = re.compile(r"projects/[^/]+/locations/[^/]+/keyRings/[^/]+/cryptoKeys/[^/]+")
_PERIMETER = re.compile(r"accessPolicies/[0-9]+/servicePerimeters/[A-Za-z][A-Za-z0-9_]{0,49}")

CI_ACCOUNTS = ("tuning-preview", "tuning-plan", "tuning-deploy")
_MAX_SOFT_DELETE_DAYS = 90
_MIN_SOFT_DELETE_DAYS = 7
_MAX_ALERT_HOURS = 23
_MAX_LABELS = 60
"""Maximum number of labels: Google allows 64, and the provider and the program add their own."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """A monthly budget for the project; it sends warnings and stops nothing."""

    amount: int
    """Whole units of the currency per month."""
    currency: str
    billing_account: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The checked configuration of one stack."""

    project: str
    environment: str
    """The purpose of the stack, such as `dev`; `prod` is protected. "" if it has no name."""
    name_prefix: str
    labels: dict[str, str]
    stamps: tuple[Stamp, ...]
    """One entry for each region, the home region first."""
    extra_data_buckets: tuple[str, ...]
    """Names of other buckets that jobs can read and write."""
    noncurrent_version_days: int
    """Days to keep replaced and deleted versions of datasets, outputs and the contract; 0 keeps them forever."""
    soft_delete_days: int
    """Days in which a deleted object can be restored; 0 switches soft delete off."""
    scratch_days: int
    """Days to keep objects under `tmp/` of the datasets bucket."""
    protect: bool
    """Whether buckets refuse to be deleted; always so in production."""
    force_destroy: bool
    service_agents: Literal["generate", "assume", "skip"]
    """Create both agents and grant them permissions, only grant, or omit the tuning agent entirely."""
    identity_suffix: str
    """Suffix of the IDs of accounts, roles and pools, which must differ between stacks of a project; "" for none."""
    runner_account_id: str
    runner_impersonators: tuple[str, ...]
    github: GitHub | None
    gitlab: GitLab | None
    state_bucket: str | None
    state_key: str | None
    endpoint: bool
    dedicated_endpoint: bool
    private_endpoint: bool
    """Whether endpoints are reachable only from the project's networks, through Private Service Connect."""
    budget: Budget | None
    notification_emails: tuple[str, ...]
    serving_alert_hours: int
    idle_alert_hours: int
    waiting_alert_hours: int
    """Hours that a tuning job can wait to start before an alert is sent."""
    idle_guard: bool
    """Whether a scheduled function undeploys models whose lease has ended. Off if Google's own API is not used."""
    idle_guard_minutes: int
    data_access_audit: bool
    concurrent_tuning_jobs: int
    """Requested quota of concurrent tuning jobs; 0 requests none."""
    perimeter: str | None
    perimeter_dry_run: bool
    api_endpoints: dict[str, str] = field(default_factory=dict)
    """`gcp:…CustomEndpoint` settings: empty on Google Cloud, otherwise the emulator's addresses."""
    access_token: str | None = field(default=None, repr=False)
    """`gcp:accessToken`, for the emulator; on Google Cloud, the provider finds credentials itself."""
    impersonate: str | None = None
    """`gcp:impersonateServiceAccount`: the account that the provider impersonates."""

    def account_id(self, name: str) -> str:
        """Return the ID of one of the stack's accounts."""
        return "-".join(filter(None, (name, self.identity_suffix)))

    def role_id(self, name: str) -> str:
        """Return the ID of one of the stack's roles."""
        return "_".join(filter(None, (name, self.identity_suffix)))

    @property
    def home(self) -> Stamp:
        """Return the region that clients use by default."""
        return self.stamps[0]

    @property
    def region(self) -> str:
        """Return the home region."""
        return self.home.region

    @property
    def retain(self) -> bool:
        """Return whether buckets stay even when a stack that is no longer protected is destroyed."""
        return self.environment == PRODUCTION

    @property
    def continuous_integration(self) -> bool:
        """Return whether pipelines have identities."""
        return bool(self.github or self.gitlab)

    @classmethod
    def load(cls, values: Mapping[str, str]) -> Settings:
        """Check a configuration, which maps full keys (`gcp:project`) to texts.

        Raises:
            ConfigurationError: lists every mistake in `problems`, unknown keys included.
        """
        reader = Reader(values)
        settings = _read(reader)
        if reader.problems:
            count = len(reader.problems)
            listed = "\n  ".join(reader.problems)
            raise ConfigurationError(
                f"the stack's configuration has {count} mistakes:\n  {listed}" if count > 1 else listed,
                problems=reader.problems,
                hint="edit the stack's file, or `pulumi config set KEY VALUE`; "
                "`runner explain infrastructure` explains each key",
            )
        return settings


def keys() -> set[str]:
    """Return every key of the project's own namespace that a configuration can have."""
    reader = Reader({})
    _read(reader)
    return {key.removeprefix(f"{NAMESPACE}:") for key in reader.asked if key.startswith(NAMESPACE)}


def current_configuration() -> dict[str, str]:
    """Return the configuration that Pulumi gave this process: from the engine, or from a test."""
    from pulumi.runtime.config import CONFIG

    passed: dict[str, str] = json.loads(os.environ.get("PULUMI_CONFIG") or "{}")
    return {**passed, **CONFIG.get()}


def _read(reader: Reader) -> Settings:
    project = reader.text("gcp:project", _PROJECT, "a project id such as my-project-123", required=True)
    environment = reader.text("environment", _ENVIRONMENT, "a short name such as dev")
    prefix, stamps = read_stamps(reader, project)
    emulator = reader.text("emulator", _ADDRESS, "an address such as http://127.0.0.1:8085")
    addresses = emulator_endpoints(emulator) if emulator and _ADDRESS.fullmatch(emulator) else {}
    addresses |= {
        key.removeprefix("gcp:"): value
        for key, value in reader.values.items()
        if key.startswith("gcp:") and key.endswith("CustomEndpoint")
    }
    given = reader.text("identitySuffix", _SUFFIX, "1 to 8 lower-case letters and digits")
    suffix = given if _SUFFIX.fullmatch(given) else ""  # report a mistake once
    deploy = reader.text("deployEnvironment", re.compile(r"[A-Za-z0-9_-]{1,60}"), "a name such as prod")
    settings = Settings(
        project=project,
        environment=environment,
        name_prefix=prefix,
        labels=_labels(reader),
        stamps=stamps,
        extra_data_buckets=reader.texts("extraDataBuckets", _BUCKET, "the name of a bucket"),
        noncurrent_version_days=reader.number("noncurrentVersionDays", 30, low=0, high=36500),
        soft_delete_days=reader.number("softDeleteDays", 7, low=0, high=_MAX_SOFT_DELETE_DAYS),
        scratch_days=reader.number("scratchDays", 7, low=1, high=36500),
        protect=reader.boolean("protect", False) or environment == PRODUCTION,
        force_destroy=reader.boolean("forceDestroy", False),
        service_agents=reader.choice("serviceAgents", ("generate", "assume", "skip"), "generate"),  # type: ignore[arg-type]
        identity_suffix=suffix,
        runner_account_id=reader.text(
            "runnerAccountId",
            _ACCOUNT_ID,
            "6 to 30 lower-case letters, digits and -",
            default=f"tuning-runner-{suffix}" if suffix else "tuning-runner",
        ),
        runner_impersonators=_members(reader),
        github=read_github(reader, deploy or environment, suffix),
        gitlab=read_gitlab(reader, deploy or environment, suffix),
        state_bucket=reader.text("stateBucket", _BUCKET, "the name of a bucket") or None,
        state_key=reader.text("stateKey", _KMS_KEY, "projects/P/locations/L/keyRings/R/cryptoKeys/K") or None,
        endpoint=reader.boolean("endpoint", True),
        dedicated_endpoint=reader.boolean("dedicatedEndpoint", False),
        private_endpoint=reader.boolean("privateEndpoint", False),
        budget=_budget(reader),
        notification_emails=reader.texts("notificationEmails", _EMAIL, "an e-mail address"),
        serving_alert_hours=reader.number("servingAlertHours", 12, low=1, high=_MAX_ALERT_HOURS),
        idle_alert_hours=reader.number("idleAlertHours", 2, low=1, high=_MAX_ALERT_HOURS),
        waiting_alert_hours=reader.number("waitingAlertHours", 4, low=1, high=168),
        # If some addresses are replaced, for example by private ones, those of functions must be among them: code that
        # runs in Google Cloud must not represent another server.
        idle_guard=reader.boolean("idleGuard", True) and (not addresses or _FUNCTIONS in addresses),
        idle_guard_minutes=reader.number("idleGuardMinutes", 15, low=5, high=60),
        data_access_audit=reader.boolean("dataAccessAudit", False),
        concurrent_tuning_jobs=reader.number("concurrentTuningJobs", 0, low=0, high=1000),
        perimeter=reader.text("perimeter", _PERIMETER, "accessPolicies/NUMBER/servicePerimeters/NAME") or None,
        perimeter_dry_run=reader.boolean("perimeterDryRun", True),
        api_endpoints=addresses,
        access_token=reader.raw("gcp:accessToken") or (_emulator_token() if emulator else None),
        impersonate=reader.text("gcp:impersonateServiceAccount", _EMAIL, "a service account's address") or None,
    )
    _check_combinations(reader, settings)
    return settings


def _emulator_token() -> str:
    """Return the token for an emulator: the one that it requires, or a placeholder, which other emulators accept."""
    return os.environ.get("RUNNER_EMULATOR_TOKEN") or PLACEHOLDER_TOKEN


def _members(reader: Reader) -> tuple[str, ...]:
    """Return principals in Google's spelling: addresses in lower case, each once."""
    given = reader.texts(
        "runnerImpersonators",
        _MEMBER,
        "user:…@…, group:…@…, serviceAccount:…@… or principal(Set)://iam.googleapis.com/…Pools/POOL/…",
    )
    kinds = [(item.partition(":")[0], item) for item in given]
    lowered = [
        item if kind.startswith("principal") else f"{kind}:{item[len(kind) + 1 :].lower()}" for kind, item in kinds
    ]
    return tuple(dict.fromkeys(lowered))


def _labels(reader: Reader) -> dict[str, str]:
    labels = reader.json("labels", dict, {})
    for key, value in labels.items():
        if not _LABEL_KEY.fullmatch(key):
            reader.problem("labels", f"key {key!r} is not 1 to 63 of a-z, 0-9, _ and -, beginning with a letter")
        if not isinstance(value, str) or not _LABEL_VALUE.fullmatch(value):
            reader.problem("labels", f"value {value!r} of {key!r} is not 1 to 63 of a-z, 0-9, _ and -")
    if len(labels) > _MAX_LABELS:
        reader.problem("labels", f"has {len(labels)} entries; at most {_MAX_LABELS} fit on a resource")
    return {str(key): str(value) for key, value in labels.items()}


def _budget(reader: Reader) -> Budget | None:
    amount = reader.number("budgetAmount", 0, low=0, high=10**9)
    currency = reader.text("budgetCurrency", re.compile("[A-Z]{3}"), "a currency code such as USD", default="USD")
    account = reader.text("billingAccount", _BILLING_ACCOUNT, "a billing account such as 012345-6789AB-CDEF01")
    if not amount:
        return None
    if not account:
        reader.problem("budgetAmount", f"needs {NAMESPACE}:billingAccount: a budget belongs to a billing account")
    return Budget(amount=amount, currency=currency, billing_account=account)


def _check_combinations(reader: Reader, settings: Settings) -> None:
    if 0 < settings.soft_delete_days < _MIN_SOFT_DELETE_DAYS:
        reader.problem(
            "softDeleteDays", f"is {settings.soft_delete_days}; it is 0 or {_MIN_SOFT_DELETE_DAYS} to 90 on the service"
        )
    if settings.protect and settings.force_destroy:
        reason = f"{NAMESPACE}:environment {PRODUCTION}" if settings.retain else f"{NAMESPACE}:protect"
        reader.problem("forceDestroy", f"contradicts {reason}: buckets are either kept or emptied")
    if settings.retain and settings.soft_delete_days == 0:
        reader.problem("softDeleteDays", f"is 0, which {NAMESPACE}:environment {PRODUCTION} does not allow")
    own = [settings.account_id(name) for name in CI_ACCOUNTS]
    if settings.runner_account_id in own:
        reader.problem("runnerAccountId", f"may not be one of {', '.join(own)}, the pipelines' own accounts")
    for key, wanted in (
        ("dedicatedEndpoint", settings.dedicated_endpoint),
        ("privateEndpoint", settings.private_endpoint),
    ):
        if wanted and not settings.endpoint:
            reader.problem(key, f"needs {NAMESPACE}:endpoint")
    if settings.dedicated_endpoint and settings.private_endpoint:
        reader.problem("privateEndpoint", "and dedicatedEndpoint exclude each other: a dedicated address is public")
    if settings.concurrent_tuning_jobs and not settings.notification_emails:
        reader.problem("concurrentTuningJobs", f"needs {NAMESPACE}:notificationEmails: Google asks whom to answer")
    if (settings.state_bucket or settings.state_key) and not settings.continuous_integration:
        key = "stateBucket" if settings.state_bucket else "stateKey"
        reader.problem(key, f"needs {NAMESPACE}:githubRepository or gitlabProject: it is opened to their identities")
    if settings.github and settings.gitlab and settings.github.pool_id == settings.gitlab.pool_id:
        reader.problem("gitlabPoolId", "must differ from githubPoolId")
    _check_keys(reader, settings)


def _check_keys(reader: Reader, settings: Settings) -> None:
    for key in sorted(reader.values):
        if key.startswith(f"{NAMESPACE}:") and key not in reader.asked:
            reader.problems.append(f"{key} is not a setting of this program")
        elif key.startswith("gcp:") and key.removeprefix("gcp:") not in _PROVIDER_KEYS:
            reader.problems.append(f"{key} would have no effect: the stack has a provider of its own")
    for key, value in settings.api_endpoints.items():
        if not re.fullmatch(r"https?://[^/\s]+(/\S*)?/", value):
            reader.problems.append(
                f"gcp:{key} is {value!r}: an address that begins with http and ends with / is needed"
            )
