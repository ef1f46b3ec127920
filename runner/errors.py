"""All errors that users of this package can get.

    RunnerError                     exit 1
      ConfigurationError            exit 2   a flag, a variable or a file is incorrect
        TemplateLimitError                   a chat template needs too much memory or time
        FileLimitError                       a file of a model's folder exceeds the maximum size
        ModelLimitError                      a model needs more memory than is free, or than its weights explain
        ModelFilesError                      a model's folder refers to something outside itself, or to a pickle
      DatasetError                  exit 3   the data has errors; carries every finding
      GoogleApiError                exit 4   the service refused or failed
        NotFoundError
        AlreadyExistsError
        PermissionDeniedError
        QuotaExceededError          exit 75  ask again later
      LockedError                   exit 75  another process of this machine holds a lock that the command needs
      UnreachableError              exit 69  the address does not answer
      JobFailedError                exit 5   a tuning job ended in failure or was cancelled
      WaitTimeoutError              exit 6   the wait ended; the job continues
      CostRefusedError              exit 7   the price is unknown, above the limit or not approved
      AmbiguousSubmissionError      exit 8   a job may or may not have been created: nothing was repeated
      EngineMissingError            exit 9   an extra that the command needs is not installed
      StalePlanError                exit 10  a saved plan is outdated: the manifests or the service have changed
      GateFailedError               exit 11  a model is not better than its base, or not the one that was trained
      CanaryFailedError             exit 12  a canary exceeded its limits and lost its traffic
      DiskError                     exit 74  a local file could not be written: disk full, read-only or broken

Exit 130 means interrupted (Ctrl-C); jobs on the service continue.
Add an error here only when a caller can act differently on it: give it a stable `code`, an exit status of its own if
scripts should branch on it, and a line in docs/errors.md (a test compares the two).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, ClassVar

_SAID = 10
"""Number of problems in a message; `problems` has all."""


class RunnerError(Exception):
    """An expected failure: `message` says what failed, for which resource, and why; `hint` is the next command."""

    code: ClassVar[str] = "failed"
    exit_code: ClassVar[int] = 1
    details: ClassVar[tuple[str, ...]] = ()
    """Attributes that are added to the JSON form."""
    usual_hint: ClassVar[str] = ""
    """The hint of errors that are raised without a hint."""

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint or self.usual_hint or None

    def __reduce__(self) -> tuple[Any, ...]:
        """Return what `pickle` makes the error of again: processes hand errors to one another."""
        return _restored, (type(self), self.args, self.__dict__)

    @property
    def hint(self) -> str | None:
        """Return what to do next; tracebacks and notebooks show it below the message."""
        return self._hint

    @hint.setter
    def hint(self, hint: str | None) -> None:
        others = [note for note in getattr(self, "__notes__", ()) if not note.startswith("hint: ")]
        self._hint = hint
        self.__notes__ = [*others, f"hint: {hint}"] if hint else others

    def reword(self, words: Callable[[str], str]) -> None:
        """Say the same in other words: `words` gets each text of the error."""
        self.message = words(self.message)
        self.args = (self.message,)
        self.hint = words(self.hint) if self.hint else None

    def to_json(self) -> dict[str, Any]:
        """Return the stable JSON form that `--format json` prints."""
        body: dict[str, Any] = {"code": self.code, "message": self.message}
        if self.hint:
            body["hint"] = self.hint
        return body | {name: getattr(self, name) for name in self.details}


def _restored(kind: type[RunnerError], args: tuple[Any, ...], attributes: dict[str, Any]) -> RunnerError:
    error = kind.__new__(kind, *args)
    error.__dict__.update(attributes)
    return error


class ConfigurationError(RunnerError):
    """A flag, a variable or a file is incorrect.

    `problems` contains all errors, or the message if it is the only one.
    """

    code = "configuration"
    exit_code = 2
    details = ("problems",)

    def __init__(self, message: str, *, problems: list[str] | None = None, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.problems = problems or [message]

    def reword(self, words: Callable[[str], str]) -> None:
        """Say the same in other words."""
        super().reword(words)
        self.problems = [words(problem) for problem in self.problems]


class Problem(str):
    """The text of an error, and the fields to correct. The command line adds the names of its options."""

    __slots__ = ("settings",)
    settings: tuple[str, ...]

    def __new__(cls, text: str, *settings: str) -> Problem:
        """Create it from a text and the Python names of the fields."""
        problem = super().__new__(cls, text)
        problem.settings = settings
        return problem


def require_sound(problems: list[str], *, hint: str | None = None) -> None:
    """Return normally if there are no problems.

    Raises ConfigurationError with all of them and the first in its message.
    """
    if problems:
        raise together(problems, hint=hint)


def together(problems: list[str], *, hint: str | None = None) -> ConfigurationError:
    """Return an error with all problems; its message contains the first ones."""
    more = f"; and {len(problems) - _SAID} more" if len(problems) > _SAID else ""
    return ConfigurationError("; ".join(problems[:_SAID]) + more, problems=problems, hint=hint)


@contextmanager
def gathered(problems: list[str]) -> Iterator[None]:
    """Add the contents of a ConfigurationError to `problems` instead of raising it, so that all errors are reported."""
    try:
        yield
    except ConfigurationError as error:
        problems += error.problems


class TemplateLimitError(ConfigurationError):
    """A chat template exceeds the maximum memory or time for one conversation."""

    code = "template_limit"
    usual_hint = "use the chat template that the base model came with"


class FileLimitError(ConfigurationError):
    """A file of a model's folder exceeds the maximum size; it was not read."""

    code = "file_limit"
    usual_hint = "use the files that the base model came with"


class ModelLimitError(ConfigurationError):
    """A model needs more memory than is free, or than its weights explain; it was not loaded."""

    code = "model_limit"
    usual_hint = "use a smaller model, or free memory"


class ModelFilesError(ConfigurationError):
    """A model's folder refers to something outside, requests code, or contains weights that are not safetensors."""

    code = "model_files"
    usual_hint = "use the files that the base model came with"


class OutputTakenError(ConfigurationError):
    """The output folder belongs to another job."""

    code = "output_taken"
    usual_hint = "choose another folder with --output, or delete the results with --replace-output"


class DatasetError(RunnerError):
    """A dataset has errors. `findings` are JSON-ready, one per error, in file order."""

    code = "dataset"
    usual_hint = "`runner explain CODE` explains a finding"
    exit_code = 3
    details = ("findings",)

    def __init__(self, message: str, *, findings: list[dict[str, Any]], hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.findings = findings
        self.__notes__ = [*map(_said, findings[:_SAID]), *self.__notes__]


def _said(finding: dict[str, Any]) -> str:
    place = ":".join(str(finding[key]) for key in ("file", "line") if finding.get(key))
    return f"{place}: {finding.get('message', '')}"


class GoogleApiError(RunnerError):
    """The service returned an error. `status` is the canonical name (`PERMISSION_DENIED`), `http` the number."""

    code = "google_api"
    exit_code = 4

    def __init__(
        self, message: str, *, status: str, http: int, method: str = "", resource: str = "", hint: str | None = None
    ) -> None:
        super().__init__(message, hint=hint)
        self.status = status
        self.http = http
        self.method = method
        self.resource = resource

    def to_json(self) -> dict[str, Any]:
        """Add the method, the resource and the service's status."""
        extra = {"status": self.status, "http": self.http, "method": self.method, "resource": self.resource}
        return {**super().to_json(), **{key: value for key, value in extra.items() if value}}


class NotFoundError(GoogleApiError):
    """The resource does not exist (404)."""

    code = "not_found"
    usual_hint = "`runner environment show` shows the project and the location where the command looked"

    def __init__(
        self,
        message: str,
        *,
        status: str = "NOT_FOUND",
        http: int = 404,
        method: str = "",
        resource: str = "",
        hint: str | None = None,
    ) -> None:
        super().__init__(message, status=status, http=http, method=method, resource=resource, hint=hint)


class AlreadyExistsError(GoogleApiError):
    """The resource already exists (409), or a create-only precondition failed (412)."""

    code = "already_exists"
    usual_hint = "choose another name"


class PermissionDeniedError(GoogleApiError):
    """The caller or a service agent lacks a permission, or an API is disabled (401, 403)."""

    code = "permission_denied"
    usual_hint = "ask the project's owner for the missing permission; `runner doctor` checks the credentials"


class QuotaExceededError(GoogleApiError):
    """A quota or rate limit is exhausted (429)."""

    code = "quota_exceeded"
    usual_hint = "try again later, or request more quota"
    exit_code = 75


class UnreachableError(RunnerError):
    """The configured address does not answer, or the connection broke."""

    code = "unreachable"
    usual_hint = "`runner doctor` checks whether the services answer"
    exit_code = 69


class JobFailedError(RunnerError):
    """A tuning job ended in another state than success. `state` is the API's name."""

    code = "job_failed"
    usual_hint = "`runner jobs why JOB` explains the failure"
    exit_code = 5
    details = ("state",)

    def __init__(self, message: str, *, state: str, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.state = state


class WaitTimeoutError(RunnerError):
    """The wait ended before the job did. The job continues."""

    code = "wait_timeout"
    usual_hint = "run the same command again to continue waiting"
    exit_code = 6


class JobStalledError(WaitTimeoutError):
    """The wait ended because the job made no progress for the allowed time. The job may continue."""

    code = "job_stalled"
    usual_hint = "`runner jobs why JOB` explains what the job waits for"


class CostRefusedError(RunnerError):
    """Nothing was started: the price is unknown, exceeds the limit, or was not confirmed."""

    code = "cost_refused"
    usual_hint = "approve the price with --yes or --max-cost"
    exit_code = 7


class HourlyLimitError(CostRefusedError):
    """Nothing was started: all endpoints together would cost more per hour than the limit, or a price is unknown."""


class AmbiguousSubmissionError(RunnerError):
    """A create request was sent and its response lost, or several jobs have one fingerprint. Nothing was repeated."""

    code = "ambiguous_submission"
    usual_hint = "`runner jobs ls` shows whether the job exists; then submit again"
    exit_code = 8


class LockedError(RunnerError):
    """Another process of this machine holds a lock that the command needs, and does not release it."""

    code = "locked"
    usual_hint = "wait until the other process has ended, then run the same command again"
    exit_code = 75


class EngineMissingError(RunnerError):
    """The command needs an optional part of this package, which is not installed."""

    code = "engine_missing"
    usual_hint = "install the extra that the message names"
    exit_code = 9


class StalePlanError(RunnerError):
    """A saved plan is outdated; nothing was changed. `changes` contains the differences."""

    code = "stale_plan"
    usual_hint = "run `runner plan` again"
    exit_code = 10
    details = ("changes",)

    def __init__(self, message: str, *, changes: list[str], hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.changes = changes


class GateFailedError(RunnerError):
    """A model did not meet its gate: it is not better than its base, or not the tuned model."""

    code = "gate_failed"
    usual_hint = "read the report: it compares the scores of both models"
    exit_code = 11


class CanaryFailedError(RunnerError):
    """A canary exceeded its limits and lost its traffic."""

    code = "canary_failed"
    usual_hint = "undeploy the model: `runner endpoints undeploy ENDPOINT --model ID`"
    exit_code = 12


class DiskError(RunnerError):
    """A local file could not be written: the disk is full, over a quota, read-only or broken. `path` is the file."""

    code = "disk"
    usual_hint = "free disk space, then run the same command again"
    exit_code = 74
    details = ("path",)

    def __init__(self, message: str, *, path: str, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.path = path
