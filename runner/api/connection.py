"""The default connection."""

from __future__ import annotations

import threading

from runner.api.boundary import public
from runner.gcp.connecting import connect as open_session
from runner.gcp.session import Session

_lock = threading.Lock()
_flags: dict[str, str | None] = {}
_default: Session | None = None


@public
def init(*, project: str | None = None, location: str | None = None, environment: str | None = None) -> None:
    """Set the target of functions that get no `session`; the default is that of `runner environment show`.

    Args:
        project: Google Cloud project.
        location: location of jobs and endpoints, such as `us-central1`.
        environment: environment document: a file or a `gs://` object.

    Raises:
        ConfigurationError: a name, a variable or the document is wrong.

    >>> import runner
    >>> runner.init(location="us-central1")
    """
    global _default, _flags
    flags = {"project": project, "location": location, "environment": environment}
    opened = open_session(flags)
    with _lock:
        before, _default, _flags = _default, opened, flags
    if before is not None:
        before.close()


@public
def connect(*, project: str | None = None, location: str | None = None, environment: str | None = None) -> Session:
    """Return an additional connection, to pass as `session`; the arguments are those of `init`.

    >>> import runner
    >>> with runner.connect(location="us-central1") as session:
    ...     session.environment.location
    'us-central1'
    """
    return open_session({"project": project, "location": location, "environment": environment})


def forget() -> None:
    """Close the default connection. The next function without a session opens it again, with the variables then."""
    global _default, _flags
    with _lock:
        before, _default, _flags = _default, None, {}
    if before is not None:
        before.close()


def current(given: Session | None = None) -> Session:
    """Return the given session, otherwise the default one. Raises ConfigurationError."""
    global _default
    if given is not None:
        return given
    with _lock:
        if _default is None:
            _default = open_session(_flags)
        return _default
