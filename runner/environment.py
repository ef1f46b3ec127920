"""Where to work: project, location, buckets, addresses. Resolved once, then handed around.

Precedence of each field: a command-line flag, a `RUNNER_*` variable, the environment document, the default. The
document comes from `--environment`/`RUNNER_ENVIRONMENT` (a file or a `gs://` object; `pulumi up` writes one into the
contract bucket) or, without that, from the emulator that runs on this machine, if one does.

Nothing below this module knows whether an address is Google's or the emulator's: both are addresses.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from runner import addresses
from runner.errors import ConfigurationError

DOCUMENT_VERSION = 1
PLACEHOLDER_TOKEN = "emulator"  # noqa: S105 - no secret: what a server that checks no token is sent
DEFAULT_LOCATION = "us-central1"


@dataclass(frozen=True, slots=True)
class Setting:
    """How one field is set from outside."""

    field: str
    flag: str
    variable: str
    document: tuple[str, ...] = ()
    """Path in the environment document; () for what is never written there."""


SETTINGS = (
    Setting("project", "--project", "RUNNER_PROJECT", ("project",)),
    Setting("project_number", "--project-number", "RUNNER_PROJECT_NUMBER", ("projectNumber",)),
    Setting("location", "--location", "RUNNER_LOCATION", ("location",)),
    Setting("datasets_bucket", "--datasets-bucket", "RUNNER_DATASETS_BUCKET", ("buckets", "datasets")),
    Setting("images_bucket", "--images-bucket", "RUNNER_IMAGES_BUCKET", ("buckets", "images")),
    Setting("outputs_bucket", "--outputs-bucket", "RUNNER_OUTPUTS_BUCKET", ("buckets", "outputs")),
    Setting("contract_bucket", "--contract-bucket", "RUNNER_CONTRACT_BUCKET", ("buckets", "contract")),
    Setting("runner_service_account", "--runner-service-account", "RUNNER_SERVICE_ACCOUNT", ("runnerServiceAccount",)),
    Setting("default_endpoint", "--endpoint", "RUNNER_ENDPOINT", ("endpoints", "default")),
    Setting("vertex_url", "--vertex-url", "RUNNER_VERTEX_URL", ("apiEndpoints", "vertex")),
    Setting("storage_url", "--storage-url", "RUNNER_STORAGE_URL", ("apiEndpoints", "storage")),
    Setting("token", "--token", "RUNNER_TOKEN"),
)
"""Every field that can be set, with its flag and its variable. `flags` of `resolve` has the field names as keys."""

_AGENTS = {"aiplatform": "gcp-sa-aiplatform", "tuning": "gcp-sa-vertex-moss-ft"}
_BUCKET = re.compile(r"[a-z0-9][a-z0-9._-]{1,220}[a-z0-9]")
# A location and a project become part of the addresses that the token is sent to, so neither may hold anything else.
_FORMS = {
    "project": re.compile(r"(?:[a-z0-9.-]+:)?[a-z0-9][a-z0-9-]{0,62}"),
    "project_number": re.compile(r"[0-9]{1,20}"),
    "location": re.compile(r"[a-z][a-z0-9-]{0,40}"),
    "datasets_bucket": _BUCKET,
    "images_bucket": _BUCKET,
    "outputs_bucket": _BUCKET,
    "contract_bucket": _BUCKET,
}
_KNOWN_KEYS = {
    "": {
        "version",
        "project",
        "projectNumber",
        "location",
        "buckets",
        "serviceAgents",
        "runnerServiceAccount",
        "endpoints",
        "apiEndpoints",
        "environment",
        "regions",
        "pipelines",
    },
    "buckets": {"datasets", "images", "outputs", "contract"},
    "serviceAgents": set(_AGENTS),
    "endpoints": {"default"},
    "apiEndpoints": {"vertex", "storage"},
}
_OBJECTS = {"version", "regions", "pipelines", *_KNOWN_KEYS}


@dataclass(frozen=True, slots=True, kw_only=True)
class Environment:
    """One resolved environment. Unknown texts are "", unknown addresses None."""

    project: str = ""
    """Project id."""
    project_number: str = ""
    location: str = DEFAULT_LOCATION
    datasets_bucket: str = ""
    """Bucket names, without `gs://`."""
    images_bucket: str = ""
    outputs_bucket: str = ""
    contract_bucket: str = ""
    service_agents: dict[str, str] = field(default_factory=dict)
    """E-mail addresses under `aiplatform` and `tuning`; derived from the project number when nothing names them."""
    runner_service_account: str = ""
    default_endpoint: str = ""
    """Endpoint id or full name that `ask` uses when none is given."""
    vertex_url: str | None = None
    """Base address of Vertex AI, without a path; None is Google's for `location`."""
    storage_url: str | None = None
    """Base address of Cloud Storage, without a path; None is Google's."""
    token: str | None = field(default=None, repr=False)
    """Bearer token; None means Application Default Credentials."""
    sources: dict[str, str] = field(default_factory=dict)
    """Where each set field came from, in words: `--project`, `RUNNER_PROJECT`, a file, `default`."""

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

    @property
    def parent(self) -> str:
        """Return `projects/P/locations/L`. Raises ConfigurationError when the project is unknown."""
        self.require("project", "location")
        return f"projects/{self.project}/locations/{self.location}"

    def require(self, *names: str) -> None:
        """Do nothing if every named field is set.

        Raises:
            ConfigurationError: names all that are missing, each with the flag and the variable that set it.
        """
        by_field = {setting.field: setting for setting in SETTINGS}
        problems = []
        for name in names:
            if getattr(self, name):
                continue
            setting = by_field[name]
            problems.append(f"{name.replace('_', ' ')} is not set: give {setting.flag} or {setting.variable}")
        if problems:
            raise ConfigurationError(
                "; ".join(problems),
                problems=problems,
                hint="start a local one with `runner emulator start`, or name an existing one with --environment",
            )

    def to_json(self) -> dict[str, Any]:
        """Return every field but the token, which is only said to be there or not."""
        body = {item.name: getattr(self, item.name) for item in fields(self) if item.name != "token"}
        return {**body, "token": "set" if self.token else None}


def state_directory() -> Path:
    """Return the directory of what this tool remembers: `RUNNER_STATE_DIR`, or the user's state directory."""
    given = os.environ.get("RUNNER_STATE_DIR")
    if given:
        return Path(given)
    import platformdirs

    return platformdirs.user_state_path("open-model-tuning")


def resolve(
    flags: Mapping[str, str | None],
    *,
    read_object: Callable[[str], bytes] | None = None,
    use_document: bool = True,
) -> Environment:
    """Return the environment that flags, variables and the document describe.

    Args:
        flags: values by field name (see SETTINGS), plus `environment` for the document's file or `gs://` address.
            None and "" mean "not given".
        read_object: reads a `gs://` object; `runner.gcp.session.open_environment` supplies it.
        use_document: False leaves the document out: flags, variables and defaults only.

    Raises:
        ConfigurationError: the document cannot be read or has mistakes, or an address or location is malformed; all
            mistakes are listed.
    """
    known = {setting.field for setting in SETTINGS} | {"environment"}
    unknown = set(flags) - known
    if unknown:
        raise ValueError(f"unknown settings: {', '.join(sorted(unknown))}")
    document, origin = _document(flags, read_object) if use_document else (None, "")
    problems = _document_problems(document, origin) if document is not None else []
    chosen = (document or {}) if problems else _of_region(document or {}, flags)
    values: dict[str, Any] = {}
    sources: dict[str, str] = {}
    for setting in SETTINGS:
        value, source = _value(setting, flags, chosen, origin)
        if value:
            values[setting.field] = value
            sources[setting.field] = source
    if "location" not in values:
        sources["location"] = "default"
    for name in ("vertex_url", "storage_url"):
        if name in values:
            problem = addresses.problem(values[name], named_here=sources[name] != origin, settings=_ways(name))
            if problem:
                problems.append(f"{sources[name]}: {name.replace('_', ' ')} {values[name]!r} {problem}")
            values[name] = values[name].rstrip("/")
    for name, pattern in _FORMS.items():
        if name in values and not pattern.fullmatch(values[name]):
            problems.append(f"{sources[name]}: {name.replace('_', ' ')} {values[name]!r} is not a valid name")
    if problems:
        raise ConfigurationError("; ".join(problems), problems=problems)
    if (values.get("vertex_url") or values.get("storage_url")) and "token" not in values:
        values["token"], sources["token"] = PLACEHOLDER_TOKEN, "default for a custom address"
    values["service_agents"], sources["service_agents"] = _service_agents(document or {}, values, origin)
    return Environment(**values, sources=sources)


def _ways(name: str) -> str:
    """Return the flag and the variable that set a field."""
    return next(f"{item.flag} or {item.variable}" for item in SETTINGS if item.field == name)


def service_agents_of(project_number: str) -> dict[str, str]:
    """Return the two accounts that read and write the buckets of a tuning job (specification)."""
    return {key: f"service-{project_number}@{domain}.iam.gserviceaccount.com" for key, domain in _AGENTS.items()}


def _value(
    setting: Setting, flags: Mapping[str, str | None], document: Mapping[str, Any], origin: str
) -> tuple[str, str]:
    given = flags.get(setting.field)
    if given:
        return given, setting.flag
    from_variable = os.environ.get(setting.variable)
    if from_variable:
        return from_variable, setting.variable
    node: Any = document
    for key in setting.document:
        node = node.get(key) if isinstance(node, Mapping) else None
    if setting.document and isinstance(node, str) and node:
        return node, origin
    return "", ""


def _of_region(document: dict[str, Any], flags: Mapping[str, str | None]) -> dict[str, Any]:
    """Return the document with buckets and endpoints of the region that is asked for, where the stack is there too."""
    wanted = flags.get("location") or os.environ.get("RUNNER_LOCATION")
    entry = document.get("regions", {}).get(wanted) if wanted and wanted != document.get("location") else None
    if entry is None:
        return document
    buckets = {**document.get("buckets", {}), **entry.get("buckets", {})}
    return {**document, "buckets": buckets, "endpoints": entry.get("endpoints", {})}


def _service_agents(document: Mapping[str, Any], values: Mapping[str, Any], origin: str) -> tuple[dict[str, str], str]:
    agents = service_agents_of(values["project_number"]) if values.get("project_number") else {}
    given = document.get("serviceAgents")
    if isinstance(given, Mapping) and given:
        return agents | dict(given), origin
    return agents, "project number" if agents else "unknown"


def _document(
    flags: Mapping[str, str | None], read_object: Callable[[str], bytes] | None
) -> tuple[dict[str, Any] | None, str]:
    """Return the document and where it came from, (None, "") when there is none."""
    given = flags.get("environment")
    place, said_by = (given, "--environment") if given else (os.environ.get("RUNNER_ENVIRONMENT"), "RUNNER_ENVIRONMENT")
    if not place:
        local = _running_emulator()
        if local is None:
            return None, ""
        place, said_by = str(local), "running emulator"
    try:
        if place.startswith("gs://"):
            if read_object is None:
                raise ConfigurationError(f"{said_by}: {place} cannot be read here; give a file")
            content = read_object(place)
        else:
            content = Path(place).expanduser().read_bytes()
    except OSError as error:
        message = f"{said_by}: cannot read {place}: {error.strerror or error}"
        raise ConfigurationError(message, problems=[message]) from error
    try:
        body = json.loads(content)
    except (ValueError, RecursionError) as error:
        message = f"{said_by}: {place} is not JSON: {error}"
        raise ConfigurationError(message, problems=[message]) from error
    if not isinstance(body, dict):
        message = f"{said_by}: {place} is not a JSON object"
        raise ConfigurationError(message, problems=[message])
    return body, place


def _running_emulator() -> Path | None:
    """Return the environment document of this user's running emulator, or None."""
    directory = state_directory() / "emulator"
    try:
        pid = json.loads((directory / "server.json").read_bytes()).get("pid")
    except (OSError, ValueError, AttributeError):
        return None
    if not isinstance(pid, int) or pid <= 0:
        return None
    try:
        os.kill(pid, 0)
    except PermissionError:
        pass  # alive, and another user's
    except OSError:
        return None
    document = directory / "environment.json"
    return document if document.is_file() else None


def _document_problems(document: Mapping[str, Any], origin: str) -> list[str]:
    version = document.get("version")
    if version != DOCUMENT_VERSION or isinstance(version, bool):
        return [f"{origin}: version {version!r} is not supported; this program reads version {DOCUMENT_VERSION}"]
    problems = []
    for section, known in _KNOWN_KEYS.items():
        node = document.get(section, {}) if section else document
        prefix = f"{section}." if section else ""
        if not isinstance(node, Mapping):
            problems.append(f"{origin}: {section} must be an object, not {type(node).__name__}")
            continue
        for key, value in node.items():
            if key not in known:
                problems.append(f"{origin}: unknown field {prefix}{key}")
            elif not isinstance(value, str) and f"{prefix}{key}" not in _OBJECTS and value is not None:
                problems.append(f"{origin}: {prefix}{key} must be a string, not {type(value).__name__}")
    return problems + _region_problems(document.get("regions", {}), origin)


def _region_problems(regions: Any, origin: str) -> list[str]:
    if not isinstance(regions, Mapping):
        return [f"{origin}: regions must be an object, not {type(regions).__name__}"]
    problems = []
    for region, entry in regions.items():
        for section in ("buckets", "endpoints"):
            node = entry.get(section, {}) if isinstance(entry, Mapping) else None
            if not isinstance(node, Mapping) or not all(isinstance(value, str) for value in node.values()):
                problems.append(f"{origin}: regions.{region}.{section} must be an object of strings")
    return problems
