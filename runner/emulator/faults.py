"""Injected faults: failures of a service or a network, selected by API method.

The syntax is the same on the command line, in the header and over HTTP:

    METHOD:ACTION[=VALUE][,OPTION=VALUE…]

METHOD is a method's ID (docs/emulator.md), the end of one (`tuningJobs.get`), or a pattern (`storage.*`); `job` matches
tuning jobs, `deployment` matches models that are being deployed. `runner.emulator.fault_register` stores the active
faults.
"""

from __future__ import annotations

import fnmatch
import random
import re
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from typing import Any

from runner.emulator.errors import ApiError
from runner.emulator.remembered import remembered
from runner.status_codes import HTTP

JOB = "job"
"""The METHOD that matches tuning jobs."""
DEPLOYMENT = "deployment"
"""The METHOD that matches models that are being deployed."""
OWN_METHODS = ("emulator.faults.", "emulator.retryTests.")
"""Faults never affect requests about faults."""
TWINS = {
    "storage.xml.getObject": "storage.objects.get",
    "storage.xml.headObject": "storage.objects.get",
    "storage.xml.putObject": "storage.objects.insert",
    "storage.xml.postObject": "storage.objects.insert",
    "storage.xml.deleteObject": "storage.objects.delete",
    "storage.xml.getBucket": "storage.objects.list",
}
"""Maps methods of the XML API to those of the JSON API with the same effect; a retry test means both."""

REQUEST_ACTIONS = {
    "status": "answer with this error, before anything is done: an HTTP number or a google.rpc.Code name",
    "status-after": "do what was asked, then answer with this error",
    "delay": "wait this many seconds first",
    "drop": "close the connection before anything is done; `drop=reset` by a TCP reset",
    "drop-after": "do what was asked, then close the connection",
    "agent-missing": "refuse a policy that names the tuning service agent: it does not exist yet",
}
JOB_ACTIONS = {
    "quota-wait": "WAITING_FOR_QUOTA for this many seconds",
    "capacity-wait": "WAITING_FOR_CAPACITY for this many seconds",
    "stall": "TUNING without a step for this many seconds, or until you cancel the job",
    "fail": "fail with a cause: data, configuration, permission, quota, capacity or platform",
}
DEPLOYMENT_ACTIONS = {
    "slow": "start to serve this many seconds late, or when the fault is cleared",
    "fail": "fail with a cause: quota, capacity or crash",
}
_LONGEST_PATTERN = 1100
"""Maximum number of characters of a pattern: more than the longest object name, 1024 bytes, in its path."""
_VALUED = frozenset({"status", "status-after", "delay", "quota-wait", "capacity-wait", "fail"})
_SECONDS = frozenset({"slow", "delay", "quota-wait", "capacity-wait", "stall"})

_STATUS_OF = {
    400: "INVALID_ARGUMENT",
    401: "UNAUTHENTICATED",
    403: "PERMISSION_DENIED",
    404: "NOT_FOUND",
    408: "DEADLINE_EXCEEDED",
    409: "ABORTED",
    412: "FAILED_PRECONDITION",
    429: "RESOURCE_EXHAUSTED",
    499: "CANCELLED",
    500: "INTERNAL",
    501: "UNIMPLEMENTED",
    502: "UNAVAILABLE",
    503: "UNAVAILABLE",
    504: "DEADLINE_EXCEEDED",
}
_MESSAGES = {
    "UNAUTHENTICATED": "Request had invalid authentication credentials. Expected OAuth 2 access token, login cookie or "
    "other valid authentication credential.",
    "PERMISSION_DENIED": "The caller does not have permission",
    "RESOURCE_EXHAUSTED": "Resource exhausted. Please try again later.",
    "INTERNAL": "Internal error encountered.",
    "UNAVAILABLE": "The service is currently unavailable.",
    "DEADLINE_EXCEEDED": "Deadline expired before operation could complete.",
    "CANCELLED": "The operation was cancelled.",
    "NOT_FOUND": "Requested entity was not found.",
    "ABORTED": "The operation was aborted.",
    "INVALID_ARGUMENT": "Request contains an invalid argument.",
    "FAILED_PRECONDITION": "Precondition check failed.",
    "UNIMPLEMENTED": "Operation is not implemented, or supported, or enabled.",
}
TUNING_AGENT = "gcp-sa-vertex-moss-ft"

_FAILURES: dict[str, tuple[str, str]] = {
    "data": ("INVALID_ARGUMENT", "The training dataset cannot be used: no example of it is valid."),
    "configuration": ("INVALID_ARGUMENT", "The hyperparameters are not supported for this base model."),
    "permission": (
        "PERMISSION_DENIED",
        "{agent} does not have storage.objects.get access to the Google Cloud Storage bucket {bucket}. "
        "Permission 'storage.objects.get' denied on resource "
        "'//storage.googleapis.com/projects/_/buckets/{bucket}' (or it may not exist).",
    ),
    "quota": (
        "RESOURCE_EXHAUSTED",
        "Quota exceeded for GlobalConcurrentManagedOssModelTuningJobs: limit 1 in project {project}.",
    ),
    "capacity": (
        "RESOURCE_EXHAUSTED",
        "The job could not be started because of high demand in this region. Please try another region.",
    ),
    "platform": ("INTERNAL", "Internal error encountered."),
}
"""Maps causes to status and message; the messages for permission and capacity are the service's own, as far as known.
Maps causes to status and message; the messages for permission and capacity are the service's own, as far as known."""
_DEPLOYMENT_FAILURES: dict[str, tuple[str, str]] = {
    "quota": (
        "RESOURCE_EXHAUSTED",
        "The following quota metrics exceed quota limits: "
        "aiplatform.googleapis.com/custom_model_serving_{accelerator}_gpus",
    ),
    "capacity": (
        "RESOURCE_EXHAUSTED",
        "Machine type {machine} is temporarily unavailable in this region, please deploy with a different machine "
        "type or retry.",
    ),
    "crash": ("UNAVAILABLE", "Model server exited unexpectedly with code 1."),
}
"""Maps causes to status and message. The service's message for missing capacity is not recorded."""


KINDS = {JOB: ("tuning jobs", JOB_ACTIONS), DEPLOYMENT: ("deployments", DEPLOYMENT_ACTIONS)}


class FaultSyntaxError(ValueError):
    """A fault with invalid syntax."""


@dataclass(slots=True, kw_only=True)
class Fault:
    """One fault and its counts."""

    id: int = 0
    method: str
    action: str
    value: str = ""
    times: int | None = None
    """Number of calls or jobs for which it fires; None for all."""
    skip: int = 0
    """Number of matching calls that it ignores first."""
    probability: float = 1.0
    seed: int = 0
    match: str = "*"
    """Pattern for a request's path, or for a job's display name."""
    message: str = ""
    retry_after: float | None = None
    """Seconds for the header of that name."""
    after: int | None = None
    """Bytes of the request's data or, for a GET, the response's, after which it fires; None for immediately."""
    test: str = ""
    """ID of its retry test."""
    asked: str = ""
    """Method and instruction of the retry test, unchanged."""
    job: str = ""
    """Resource name of the only job for which it fires."""
    hits: int = 0
    """Number of calls or jobs for which it has fired."""
    seen: int = 0
    """Number of matching calls."""
    chance: random.Random = field(default_factory=random.Random, repr=False)

    def __post_init__(self) -> None:
        self.chance.seed(self.seed)

    @property
    def seconds(self) -> float:
        """Return the value as seconds; infinite if there is none."""
        return float(self.value) if self.value else float("inf")

    @property
    def spent(self) -> bool:
        """Return whether it is used up."""
        return self.times is not None and self.hits >= self.times

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form."""
        body = {
            "id": self.id,
            "fault": self.text,
            "method": self.method,
            "action": self.action,
            "value": self.value,
            "times": self.times,
            "skip": self.skip,
            "probability": self.probability,
            "seed": self.seed,
            "match": self.match,
            "job": self.job,
            "test": self.test,
            "seen": self.seen,
            "hits": self.hits,
            "unused": self.hits == 0,
            "spent": self.spent,
        }
        return {key: value for key, value in body.items() if value not in (None, "")}

    @property
    def text(self) -> str:
        """Return the fault in the input syntax."""
        parts = [f"{self.method}:{self.action}" + (f"={self.value}" if self.value else "")]
        parts += [f"times={self.times}"] if self.times is not None else []
        parts += [f"skip={self.skip}"] if self.skip else []
        parts += [f"probability={self.probability:g}", f"seed={self.seed}"] if self.probability < 1 else []
        parts += [f"match={self.match}"] if self.match != "*" else []
        parts += [f"retry-after={self.retry_after:g}"] if self.retry_after is not None else []
        parts += [f"after={self.after}"] if self.after is not None else []
        parts += [f"message={self.message}"] if self.message else []
        return ",".join(parts)

    def befalls(self, name: str) -> bool:
        """Count one call or job of a matching method and return whether the fault fires for it."""
        if self.spent or (self.match != "*" and not _glob(self.match).match(name)):
            return False
        self.seen += 1
        if self.seen <= self.skip or (self.probability < 1 and self.chance.random() >= self.probability):
            return False
        self.hits += 1
        return True

    def error(self) -> ApiError:
        """Return the error of a `status` fault."""
        http = int(self.value) if self.value.isdecimal() else HTTP[self.value]
        status = _STATUS_OF[http] if self.value.isdecimal() else self.value
        headers = {} if self.retry_after is None else {"Retry-After": f"{self.retry_after:g}"}
        return ApiError(status, self.message or _MESSAGES[status], http=http, headers=headers)

    def deployment_failure(self, machine: dict[str, Any]) -> ApiError:
        """Return the error with which a `fail` fault ends a deployment. `machine` is its MachineSpec."""
        status, text = _DEPLOYMENT_FAILURES[self.value]
        accelerator = str(machine.get("acceleratorType") or "cpu").lower()
        return ApiError(
            status, self.message or text.format(accelerator=accelerator, machine=machine.get("machineType", ""))
        )

    def failure(self, job: dict[str, Any], number: str) -> ApiError:
        """Return the error with which a `fail` fault ends a job. `number` is the project's."""
        status, text = _FAILURES[self.value]
        bucket = job["supervisedTuningSpec"]["trainingDatasetUri"].removeprefix("gs://").split("/", 1)[0]
        agent = f"service-{number}@{TUNING_AGENT}.iam.gserviceaccount.com"
        return ApiError(status, self.message or text.format(agent=agent, bucket=bucket, project=number))


def parse(text: str, *, method: str | None = None) -> Fault:
    """Return the fault in a text.

    Args:
        text: `METHOD:ACTION[=VALUE][,OPTION=VALUE…]`.
        method: given if the text starts at ACTION, as in the header.

    Raises:
        FaultSyntaxError: the syntax is invalid; the message says what was expected.
    """
    rest = text.strip()
    if method is None:
        method, colon, rest = rest.partition(":")
        if not colon or not method.strip():
            raise FaultSyntaxError(f"{text!r} is not METHOD:ACTION[=VALUE][,OPTION=VALUE…]")
    if len(method) > _LONGEST_PATTERN:
        raise FaultSyntaxError(f"a method has at most {_LONGEST_PATTERN} characters, this one has {len(method)}")
    first, *options = _split(rest)
    action, _, value = (part.strip() for part in first.partition("="))
    kind, actions = KINDS.get(method.strip(), ("methods", REQUEST_ACTIONS))
    if action not in actions:
        raise FaultSyntaxError(f"{action!r} is not a fault of {kind}: {', '.join(actions)}")
    causes = _DEPLOYMENT_FAILURES if method.strip() == DEPLOYMENT else _FAILURES
    fault = Fault(method=method.strip(), action=action, value=_value(action, value, causes))
    for option in options:
        _apply_option(fault, option)
    if fault.after is not None and action not in ("status", "drop", "drop-after", "delay"):
        raise FaultSyntaxError(f"{action} takes no option after")
    fault.chance.seed(fault.seed)
    return fault


def _split(text: str) -> list[str]:
    """Split at commas; `message=` takes the rest of the text."""
    head, found, message = text.partition(",message=")
    return [*head.split(","), *([f"message={message}"] if found else [])]


def _value(action: str, value: str, causes: Collection[str]) -> str:
    if action in _VALUED and not value:
        raise FaultSyntaxError(f"{action} needs a value: {action}=…")
    if action in _SECONDS and value:
        _number(action, value)
    elif action.startswith("status"):
        value = value.upper()
        known = int(value) in _STATUS_OF if value.isdecimal() else value in _MESSAGES
        if not known:
            raise FaultSyntaxError(f"{value!r} is not a status: one of {', '.join(map(str, _STATUS_OF))}, or its name")
    elif action == "fail" and value not in causes:
        raise FaultSyntaxError(f"{value!r} is not a cause of a failure: {', '.join(causes)}")
    elif action == "drop" and value == "reset":
        return value
    elif value and action not in _VALUED | _SECONDS:
        raise FaultSyntaxError(f"{action} takes no value")
    return value


def _apply_option(fault: Fault, option: str) -> None:
    name, equals, value = (part.strip() for part in option.partition("="))
    if not equals or not value:
        raise FaultSyntaxError(f"{option!r} is not OPTION=VALUE")
    if name in ("times", "skip", "seed", "after"):
        setattr(fault, name, int(_number(name, value, whole=True)))
    elif name == "probability":
        fault.probability = _number(name, value)
        if fault.probability > 1:
            raise FaultSyntaxError(f"probability={value} is not between 0 and 1")
    elif name == "retry-after":
        fault.retry_after = _number(name, value)
    elif name == "match" and len(value) > _LONGEST_PATTERN:
        raise FaultSyntaxError(f"a pattern has at most {_LONGEST_PATTERN} characters, match has {len(value)}")
    elif name in ("match", "message"):
        setattr(fault, name, value)
    else:
        raise FaultSyntaxError(
            f"{name!r} is not an option: times, skip, probability, seed, match, retry-after, after, message"
        )


def _number(name: str, value: str, *, whole: bool = False) -> float:
    try:
        number = float(int(value) if whole else float(value))
    except ValueError:
        number = -1.0
    if not 0 <= number < 1e9:
        raise FaultSyntaxError(f"{name}={value} is not a {'whole ' if whole else ''}number from 0")
    return number


def names(pattern: str, method: str) -> bool:
    """Return whether a pattern matches a method: completely, as its end after a dot, or with wildcards."""
    return any(_glob(either).match(method) for either in (pattern, f"*.{pattern}"))


@remembered(_LONGEST_PATTERN, entries=128)
def _glob(pattern: str) -> re.Pattern[str]:
    """Return a compiled pattern. `fnmatch` would cache 32,768 patterns from requests."""
    return re.compile(fnmatch.translate(pattern))


def unknown_method(pattern: str, known: Callable[[], list[str]]) -> bool:
    """Return whether a pattern matches no method."""
    return pattern not in KINDS and not any(names(pattern, method) for method in known())
