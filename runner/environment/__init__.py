"""The target of commands: project, location, buckets, addresses. Resolved once, then passed on.

The precedence for each field is: a command-line flag, a `RUNNER_*` variable, the environment document, the context, the
default. The document comes from the first of `--environment`, `--context`, `RUNNER_ENVIRONMENT` (a file or a `gs://`
object; `pulumi up` writes one to the contract bucket), `RUNNER_CONTEXT` or `runner use` that is given; otherwise from
the emulator on this machine.

No lower module knows whether an address is Google's or the emulator's.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from runner import addresses
from runner.environment import documents
from runner.environment.targets import Target
from runner.errors import require_sound
from runner.state import state_directory as state_directory
from runner.wording import camel_keys

PLACEHOLDER_TOKEN = "emulator"  # noqa: S105 - no secret: what a server that checks no token is sent
DEFAULT_LOCATION = "us-central1"


@dataclass(frozen=True, slots=True)
class Setting:
    """The flag, the variable and the document path of one field."""

    field: str
    flag: str
    """Option of the command line; "" if it has none."""
    variable: str
    document: tuple[str, ...] = ()
    """Path in the environment document; () for fields that the document never contains."""

    @property
    def names(self) -> str:
        """Return the names of flag and variable: `--project or RUNNER_PROJECT`."""
        return f"{self.flag} or {self.variable}" if self.flag else self.variable


SETTINGS = (
    Setting("project", "--project", "RUNNER_PROJECT", ("project",)),
    Setting("project_number", "", "RUNNER_PROJECT_NUMBER", ("projectNumber",)),
    Setting("location", "--location", "RUNNER_LOCATION", ("location",)),
    Setting("datasets_bucket", "", "RUNNER_DATASETS_BUCKET", ("buckets", "datasets")),
    Setting("images_bucket", "", "RUNNER_IMAGES_BUCKET", ("buckets", "images")),
    Setting("outputs_bucket", "", "RUNNER_OUTPUTS_BUCKET", ("buckets", "outputs")),
    Setting("contract_bucket", "", "RUNNER_CONTRACT_BUCKET", ("buckets", "contract")),
    Setting("runner_service_account", "", "RUNNER_SERVICE_ACCOUNT", ("runnerServiceAccount",)),
    Setting("default_endpoint", "--endpoint", "RUNNER_ENDPOINT", ("endpoints", "default")),
    Setting("vertex_url", "", "RUNNER_VERTEX_URL", ("apiEndpoints", "vertex")),
    Setting("storage_url", "", "RUNNER_STORAGE_URL", ("apiEndpoints", "storage")),
    Setting("token", "", "RUNNER_TOKEN"),
)
"""All fields that can be set, with their flags and variables. `flags` of `resolve` has the field names as keys."""

HOW_TO_SET = "run `runner emulator start && runner emulator provision` to work on this machine, or pass --environment"
_BUCKET = re.compile(r"[a-z0-9][a-z0-9._-]{1,220}[a-z0-9]")
# A location and a project become part of the addresses that get the token, so they must not contain other characters.
FORMS = {
    "project": re.compile(r"(?:[a-z0-9.-]+:)?[a-z0-9][a-z0-9-]{0,62}"),
    "project_number": re.compile(r"[0-9]{1,20}"),
    "location": re.compile(r"[a-z][a-z0-9-]{0,40}"),
    "datasets_bucket": _BUCKET,
    "images_bucket": _BUCKET,
    "outputs_bucket": _BUCKET,
    "contract_bucket": _BUCKET,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Environment:
    """A resolved environment. Unknown texts are "", unknown addresses None."""

    project: str = ""
    """Project ID."""
    project_number: str = ""
    location: str = DEFAULT_LOCATION
    datasets_bucket: str = ""
    """Bucket names, without `gs://`."""
    images_bucket: str = ""
    outputs_bucket: str = ""
    contract_bucket: str = ""
    service_agents: dict[str, str] = field(default_factory=dict)
    """Email addresses under `aiplatform` and `tuning`; derived from the project number if they are not set."""
    runner_service_account: str = ""
    default_endpoint: str = ""
    """Endpoint ID or full name that is used if none is given."""
    vertex_url: str | None = None
    """Base address of Vertex AI, without a path; None is Google's for `location`."""
    storage_url: str | None = None
    """Base address of Cloud Storage, without a path; None is Google's."""
    token: str | None = field(default=None, repr=False)
    """Bearer token; None means Application Default Credentials."""
    idle_guard_minutes: int = 0
    """Minutes between two runs of the function that ends leases here; 0 if there is none."""
    context: str = ""
    """Name of the context in use; "" if none was chosen."""
    sources: dict[str, str] = field(default_factory=dict)
    """Where each field was set: `--project`, `RUNNER_PROJECT`, a file, `default`."""

    def __post_init__(self) -> None:
        """Check the parts of addresses: names in responses and records also contain projects and locations.

        Raises:
            ConfigurationError: project or location is invalid.
        """
        given = {"project": self.project, "location": self.location}
        require_sound(
            [
                f"{name} {value[:80]!r} is not a valid name"
                for name, value in given.items()
                if value and not FORMS[name].fullmatch(value)
            ]
        )

    @property
    def vertex_base(self) -> str:
        """Return the base address of Vertex AI, without a trailing slash."""
        if self.vertex_url:
            return self.vertex_url.rstrip("/")
        if self.location == "global":
            return "https://aiplatform.googleapis.com"
        return f"https://{self.location}-aiplatform.googleapis.com"

    @property
    def storage_base(self) -> str:
        """Return the base address of Cloud Storage, without a trailing slash."""
        return (self.storage_url or "https://storage.googleapis.com").rstrip("/")

    def name_of(self, collection: str, name_or_id: str) -> str:
        """Return `projects/P/locations/L/COLLECTION/ID` for an ID or a full name."""
        if name_or_id.startswith("projects/"):
            return name_or_id
        return f"{self.parent}/{collection}/{name_or_id.removeprefix(f'{collection}/')}"

    @property
    def parent(self) -> str:
        """Return `projects/P/locations/L`. Raises ConfigurationError if the project is unknown."""
        self.require("project", "location")
        return f"projects/{self.project}/locations/{self.location}"

    @property
    def target(self) -> Target:
        """Return the target for messages."""
        placeholder = self.token == PLACEHOLDER_TOKEN
        return Target.at(self.vertex_url, project=self.project, location=self.location, placeholder=placeholder)

    def require(self, *names: str) -> None:
        """Return normally if every named field is set.

        Raises:
            ConfigurationError: names all missing fields, with the flag and the variable for each.
        """
        require_sound(self.missing(*names), hint=HOW_TO_SET)

    @property
    def datasets_folder(self) -> str:
        """Return where datasets are uploaded: `gs://bucket/datasets/`. Raises ConfigurationError without a bucket."""
        self.require("datasets_bucket")
        return f"gs://{self.datasets_bucket}/datasets/"

    def missing(self, *names: str) -> list[str]:
        """Return the named fields that are not set, with the flag and the variable for each."""
        unset = [item for item in SETTINGS if item.field in names and not getattr(self, item.field)]
        return [f"{item.field.replace('_', ' ')} is not set: give {item.names}" for item in unset]

    def to_json(self) -> dict[str, Any]:
        """Return every field, but for the token only whether it is set."""
        body = {item.name: getattr(self, item.name) for item in fields(self) if item.name != "token"}
        return camel_keys({**body, "token": "set" if self.token else None})


def resolve(
    flags: Mapping[str, str | None],
    *,
    read_object: Callable[[str], bytes] | None = None,
    use_document: bool = True,
) -> Environment:
    """Return the environment from flags, variables and the document.

    Args:
        flags: values by field name (see SETTINGS), plus `environment` for the document's file or `gs://` address, and
            `context` for a context's name. None and "" mean "not given".
        read_object: reads a `gs://` object; `runner.gcp.session.open_environment` supplies it.
        use_document: False ignores the document: only flags, variables and defaults count.

    Raises:
        ConfigurationError: the document cannot be read or has errors, or an address or location is invalid; all errors
            are listed.
        UnreachableError: the target is the emulator on this machine, which is not running.
    """
    known = {setting.field for setting in SETTINGS} | {"environment", "context"}
    unknown = set(flags) - known
    if unknown:
        raise ValueError(f"unknown settings: {', '.join(sorted(unknown))}")
    addressed = any(_given(setting, flags)[0] for setting in SETTINGS if setting.field.endswith("_url"))
    place = documents.place_of(flags, addressed=addressed) if use_document else documents.Place()
    document, origin = (documents.read(place, read_object), place.uri) if place.uri else (None, "")
    problems = documents.problems_of(document, origin) if document is not None else []
    chosen = (document or {}) if problems else documents.of_region(document or {}, flags)
    values, sources = _values(flags, chosen, origin, place)
    if "location" not in values:
        sources["location"] = "default"
    for name in ("vertex_url", "storage_url"):
        if name in values:
            problem = addresses.problem(values[name], named_here=sources[name] != origin, settings=_ways(name))
            if problem:
                problems.append(f"{sources[name]}: {name.replace('_', ' ')} {values[name]!r} {problem}")
            values[name] = values[name].rstrip("/")
    for name, pattern in FORMS.items():
        if name in values and not pattern.fullmatch(values[name]):
            problems.append(f"{sources[name]}: {name.replace('_', ' ')} {values[name]!r} is not a valid name")
    require_sound(problems)
    if (values.get("vertex_url") or values.get("storage_url")) and "token" not in values:
        values["token"], sources["token"] = PLACEHOLDER_TOKEN, "default for a custom address"
    values["service_agents"], sources["service_agents"] = _service_agents(document or {}, values, origin)
    guard = documents.guard_minutes(document or {}, values.get("project", ""), values.get("location", DEFAULT_LOCATION))
    if guard:
        values["idle_guard_minutes"], sources["idle_guard_minutes"] = guard, origin
    return Environment(**values, sources=sources, context=place.context.name if place.context is not None else "")


def _values(
    flags: Mapping[str, str | None], document: Mapping[str, Any], origin: str, place: documents.Place
) -> tuple[dict[str, Any], dict[str, str]]:
    """Return every field that is set, and its source."""
    values: dict[str, Any] = {}
    sources: dict[str, str] = {}
    for setting in SETTINGS:
        value, source = _value(setting, flags, document, origin)
        if not value and place.context is not None:
            value, source = getattr(place.context, setting.field, ""), place.said_by
        if value:
            values[setting.field], sources[setting.field] = value, source
    return values, sources


def _ways(name: str) -> str:
    """Return the flag and the variable of a field."""
    return next(item.names for item in SETTINGS if item.field == name)


def service_agents_of(project_number: str) -> dict[str, str]:
    """Return the two accounts that read and write the buckets of a tuning job (specification)."""
    return {
        key: f"service-{project_number}@{domain}.iam.gserviceaccount.com" for key, domain in documents.AGENTS.items()
    }


def _given(setting: Setting, flags: Mapping[str, str | None]) -> tuple[str, str]:
    """Return the value of a flag or a variable, and its name."""
    given = flags.get(setting.field)
    if given:
        return given, setting.flag or setting.field
    from_variable = os.environ.get(setting.variable)
    return (from_variable, setting.variable) if from_variable else ("", "")


def _value(
    setting: Setting, flags: Mapping[str, str | None], document: Mapping[str, Any], origin: str
) -> tuple[str, str]:
    given = _given(setting, flags)
    if given[0]:
        return given
    node: Any = document
    for key in setting.document:
        node = node.get(key) if isinstance(node, Mapping) else None
    if setting.document and isinstance(node, str) and node:
        return node, origin
    return "", ""


def _service_agents(document: Mapping[str, Any], values: Mapping[str, Any], origin: str) -> tuple[dict[str, str], str]:
    agents = service_agents_of(values["project_number"]) if values.get("project_number") else {}
    given = document.get("serviceAgents")
    if isinstance(given, Mapping) and given:
        return agents | dict(given), origin
    return agents, "project number" if agents else "unknown"
