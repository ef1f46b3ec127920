"""What one stack is made with: read from Pulumi's configuration, checked as a whole.

`Settings.load` is a pure function of the configuration's keys and texts. It reports every mistake in one error, since a
round of `pulumi config set` per mistake is a round of waiting per mistake.

Keys of the project carry its name (`open-model-tuning:labels`); `gcp:project` and `gcp:region` are the provider's own.
Objects and lists arrive as JSON, which is how Pulumi hands them to a program.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from infra.naming import BUCKET_KINDS
from runner.catalog import load_catalog
from runner.errors import ConfigurationError

NAMESPACE = "open-model-tuning"
DEFAULT_REGION = "us-central1"

KEYS = (
    "namePrefix",
    "labels",
    "noncurrentVersionDays",
    "softDeleteDays",
    "scratchDays",
    "kmsKey",
    "protect",
    "forceDestroy",
    "generateServiceAgents",
    "runnerAccountId",
    "runnerImpersonators",
    "githubRepository",
    "githubPoolId",
    "endpoint",
    "dedicatedEndpoint",
    "budgetAmount",
    "budgetCurrency",
    "billingAccount",
    "notificationEmails",
    "servingAlertHours",
    "dataAccessAudit",
    "concurrentTuningJobs",
)
"""Every key of the project's own namespace, in the order of Pulumi.yaml and of the documentation."""

_PROJECT = re.compile(r"[a-z][a-z0-9-]{1,28}[a-z0-9]")
_PREFIX = re.compile(r"[a-z0-9][a-z0-9-]*[a-z0-9]")
_LABEL_KEY = re.compile(r"[a-z][a-z0-9_-]{0,62}")
_LABEL_VALUE = re.compile(r"[a-z0-9_-]{1,63}")
_ACCOUNT_ID = re.compile(r"[a-z][a-z0-9-]{4,28}[a-z0-9]")
_POOL_ID = re.compile(r"[a-z0-9-]{4,32}")
_REPOSITORY = re.compile(r"[A-Za-z0-9][A-Za-z0-9-]*/[A-Za-z0-9._-]+")
_BILLING_ACCOUNT = re.compile(r"[0-9A-F]{6}-[0-9A-F]{6}-[0-9A-F]{6}")
_EMAIL = re.compile(r"[^@\s]+@[^@\s]+\.[^@\s]+")
_MEMBER = re.compile(r"(user|group|serviceAccount):[^@\s]+@[^@\s]+|principal(Set)?://iam\.googleapis\.com/\S+")
_KMS_KEY = re.compile(r"projects/[^/]+/locations/([^/]+)/keyRings/[^/]+/cryptoKeys/[^/]+")

_BUCKET_NAME_LIMIT = 63
_MAX_SOFT_DELETE_DAYS = 90
_MIN_SOFT_DELETE_DAYS = 7
_MAX_ALERT_HOURS = 23
_MAX_LABELS = 60
"""Labels of a resource; Google allows 64, the provider and the program add their own."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """A monthly budget for the project; it warns, it does not stop anything."""

    amount: int
    """Whole units of the currency a month."""
    currency: str
    billing_account: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The checked configuration of one stack."""

    project: str
    region: str
    """Where the buckets and the endpoint are: the region the tuning jobs run in."""
    name_prefix: str
    labels: dict[str, str]
    noncurrent_version_days: int
    """Days that replaced and deleted versions of datasets, outputs and the contract are kept; 0 keeps them for ever."""
    soft_delete_days: int
    """Days a deleted object can be restored; 0 switches soft delete off."""
    scratch_days: int
    """Days that objects under `tmp/` of the outputs bucket live."""
    kms_key: str | None
    protect: bool
    force_destroy: bool
    generate_service_agents: bool
    runner_account_id: str
    runner_impersonators: tuple[str, ...]
    github_repository: str | None
    github_pool_id: str
    endpoint: bool
    dedicated_endpoint: bool
    budget: Budget | None
    notification_emails: tuple[str, ...]
    serving_alert_hours: int
    data_access_audit: bool
    concurrent_tuning_jobs: int
    """Wanted quota of concurrent tuning jobs; 0 asks for nothing."""
    api_endpoints: dict[str, str] = field(default_factory=dict)
    """`gcp:…CustomEndpoint` settings: empty on Google Cloud, the emulator's addresses otherwise."""
    access_token: str | None = field(default=None, repr=False)
    """`gcp:accessToken`, for the emulator; on Google Cloud the provider finds credentials by itself."""

    @classmethod
    def load(cls, values: Mapping[str, str]) -> Settings:
        """Check a configuration: full keys (`gcp:project`) to texts.

        Raises:
            ConfigurationError: lists every mistake in `problems`, unknown keys included.
        """
        reader = _Reader(values)
        settings = _read(reader)
        if reader.problems:
            count = len(reader.problems)
            listed = "\n  ".join(reader.problems)
            raise ConfigurationError(
                f"the stack's configuration has {count} mistakes:\n  {listed}" if count > 1 else listed,
                problems=reader.problems,
                hint="set them with `pulumi config set KEY VALUE`; docs/infrastructure.md explains each key",
            )
        return settings


def current_configuration() -> dict[str, str]:
    """Return the configuration that Pulumi gave this process: what the engine passed, or what a test has set."""
    from pulumi.runtime.config import CONFIG

    passed: dict[str, str] = json.loads(os.environ.get("PULUMI_CONFIG") or "{}")
    return {**passed, **CONFIG.get()}


def _read(reader: _Reader) -> Settings:
    project = reader.text("gcp:project", _PROJECT, "a project id such as my-project-123", required=True)
    region = _region(reader)
    settings = Settings(
        project=project,
        region=region,
        name_prefix=_name_prefix(reader, project),
        labels=_labels(reader),
        noncurrent_version_days=reader.number("noncurrentVersionDays", 30, low=0, high=36500),
        soft_delete_days=reader.number("softDeleteDays", 7, low=0, high=_MAX_SOFT_DELETE_DAYS),
        scratch_days=reader.number("scratchDays", 7, low=1, high=36500),
        kms_key=_kms_key(reader, region),
        protect=reader.boolean("protect", False),
        force_destroy=reader.boolean("forceDestroy", False),
        generate_service_agents=reader.boolean("generateServiceAgents", True),
        runner_account_id=reader.text(
            "runnerAccountId", _ACCOUNT_ID, "6 to 30 of a-z, 0-9 and -", default="tuning-runner"
        ),
        runner_impersonators=reader.texts(
            "runnerImpersonators", _MEMBER, "user:…@…, group:…@…, serviceAccount:…@… or principal(Set)://…"
        ),
        github_repository=reader.text("githubRepository", _REPOSITORY, "OWNER/REPOSITORY") or None,
        github_pool_id=_pool_id(reader),
        endpoint=reader.boolean("endpoint", True),
        dedicated_endpoint=reader.boolean("dedicatedEndpoint", False),
        budget=_budget(reader),
        notification_emails=reader.texts("notificationEmails", _EMAIL, "an e-mail address"),
        serving_alert_hours=reader.number("servingAlertHours", 12, low=1, high=_MAX_ALERT_HOURS),
        data_access_audit=reader.boolean("dataAccessAudit", False),
        concurrent_tuning_jobs=reader.number("concurrentTuningJobs", 0, low=0, high=1000),
        api_endpoints={
            key.removeprefix("gcp:"): value
            for key, value in reader.values.items()
            if key.startswith("gcp:") and key.endswith("CustomEndpoint")
        },
        access_token=reader.raw("gcp:accessToken") or None,
    )
    _check_combinations(reader, settings)
    return settings


def _region(reader: _Reader) -> str:
    offered = [place.id for place in load_catalog().locations if place.id != "global"]
    region = reader.values.get("gcp:region") or DEFAULT_REGION
    if region not in offered:
        why = ": a bucket needs a region; jobs can still be sent to `global`" if region == "global" else ""
        reader.problems.append(f"gcp:region is {region!r}{why}; tuning runs in {', '.join(offered)}")
    return region


def _name_prefix(reader: _Reader, project: str) -> str:
    prefix = reader.text("namePrefix", _PREFIX, "lower-case letters, digits and -")
    if not prefix:
        return project
    longest = max(len(kind) for kind in BUCKET_KINDS) + 1
    if len(prefix) + longest > _BUCKET_NAME_LIMIT:
        reader.problem("namePrefix", f"has {len(prefix)} characters; {_BUCKET_NAME_LIMIT - longest} leave room")
    if prefix.startswith("goog") or "google" in prefix:
        reader.problem("namePrefix", "may not start with `goog` or hold `google`: Cloud Storage refuses such names")
    return prefix


def _labels(reader: _Reader) -> dict[str, str]:
    labels = reader.json("labels", dict, {})
    for key, value in labels.items():
        if not _LABEL_KEY.fullmatch(key):
            reader.problem("labels", f"key {key!r} is not 1 to 63 of a-z, 0-9, _ and -, beginning with a letter")
        if not isinstance(value, str) or not _LABEL_VALUE.fullmatch(value):
            reader.problem("labels", f"value {value!r} of {key!r} is not 1 to 63 of a-z, 0-9, _ and -")
    if len(labels) > _MAX_LABELS:
        reader.problem("labels", f"has {len(labels)} entries; at most {_MAX_LABELS} fit on a resource")
    return {str(key): str(value) for key, value in labels.items()}


def _kms_key(reader: _Reader, region: str) -> str | None:
    key = reader.text("kmsKey", _KMS_KEY, "projects/P/locations/L/keyRings/R/cryptoKeys/K")
    match = _KMS_KEY.fullmatch(key)
    if match and match.group(1) != region:
        reader.problem("kmsKey", f"is in {match.group(1)}, the buckets are in {region}: they must be in one location")
    return key or None


def _pool_id(reader: _Reader) -> str:
    pool = reader.text("githubPoolId", _POOL_ID, "4 to 32 of a-z, 0-9 and -", default="github")
    if pool.startswith("gcp-"):
        reader.problem("githubPoolId", "may not begin with gcp-, which Google reserves")
    return pool


def _budget(reader: _Reader) -> Budget | None:
    amount = reader.number("budgetAmount", 0, low=0, high=10**9)
    currency = reader.text("budgetCurrency", re.compile("[A-Z]{3}"), "a currency code such as USD", default="USD")
    account = reader.text("billingAccount", _BILLING_ACCOUNT, "a billing account such as 012345-6789AB-CDEF01")
    if not amount:
        return None
    if not account:
        reader.problem("budgetAmount", f"needs {NAMESPACE}:billingAccount: a budget belongs to a billing account")
    return Budget(amount=amount, currency=currency, billing_account=account)


def _check_combinations(reader: _Reader, settings: Settings) -> None:
    if 0 < settings.soft_delete_days < _MIN_SOFT_DELETE_DAYS:
        reader.problem(
            "softDeleteDays", f"is {settings.soft_delete_days}; it is 0 or {_MIN_SOFT_DELETE_DAYS} to 90 on the service"
        )
    if settings.protect and settings.force_destroy:
        reader.problem("forceDestroy", f"contradicts {NAMESPACE}:protect: buckets are either kept or emptied")
    if settings.dedicated_endpoint and not settings.endpoint:
        reader.problem("dedicatedEndpoint", f"needs {NAMESPACE}:endpoint")
    if settings.concurrent_tuning_jobs and not settings.notification_emails:
        reader.problem("concurrentTuningJobs", f"needs {NAMESPACE}:notificationEmails: Google asks whom to answer")
    known = {f"{NAMESPACE}:{key}" for key in KEYS}
    for key in sorted(reader.values):
        if key.startswith(f"{NAMESPACE}:") and key not in known:
            reader.problems.append(f"{key} is not a setting of this program")
    for key, value in settings.api_endpoints.items():
        if not re.fullmatch(r"https?://[^/\s]+(/\S*)?/", value):
            reader.problems.append(
                f"gcp:{key} is {value!r}: an address that begins with http and ends with / is needed"
            )


class _Reader:
    """Reads typed values and collects what is wrong with them."""

    def __init__(self, values: Mapping[str, str]) -> None:
        self.values = values
        self.problems: list[str] = []

    def problem(self, key: str, text: str) -> None:
        self.problems.append(f"{NAMESPACE}:{key} {text}")

    def raw(self, key: str) -> str:
        return self.values.get(key if ":" in key else f"{NAMESPACE}:{key}", "")

    def text(self, key: str, shape: re.Pattern[str], wanted: str, *, default: str = "", required: bool = False) -> str:
        value = self.raw(key) or default
        name = key if ":" in key else f"{NAMESPACE}:{key}"
        if not value and required:
            self.problems.append(f"{name} is not set: {wanted} is needed")
        elif value and not shape.fullmatch(value):
            self.problems.append(f"{name} is {value!r}: {wanted} is needed")
        return value

    def number(self, key: str, default: int, *, low: int, high: int) -> int:
        text = self.raw(key)
        if not text:
            return default
        if not re.fullmatch(r"-?\d{1,12}", text):
            self.problem(key, f"is {text!r}: a whole number is needed")
            return default
        if not low <= int(text) <= high:
            self.problem(key, f"is {text}: it goes from {low} to {high}")
            return default
        return int(text)

    def boolean(self, key: str, default: bool) -> bool:
        text = self.raw(key)
        if text in {"true", "false"}:
            return text == "true"
        if text:
            self.problem(key, f"is {text!r}: true or false is needed")
        return default

    def json(self, key: str, kind: type, default: Any) -> Any:
        text = self.raw(key)
        if not text:
            return default
        try:
            value = json.loads(text)
        except ValueError:
            value = None
        if not isinstance(value, kind):
            self.problem(key, f"is {text!r}: a JSON {'object' if kind is dict else 'list'} is needed")
            return default
        return value

    def texts(self, key: str, shape: re.Pattern[str], wanted: str) -> tuple[str, ...]:
        found = self.json(key, list, [])
        for item in found:
            if not isinstance(item, str) or not shape.fullmatch(item):
                self.problem(key, f"holds {item!r}: {wanted} is needed")
        return tuple(dict.fromkeys(str(item) for item in found))
