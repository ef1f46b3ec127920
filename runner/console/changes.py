"""Changes that users request in the console: each is made once, even after several clicks, in its own thread."""

from __future__ import annotations

import hashlib
import hmac
import logging
import secrets
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

from runner.errors import ConfigurationError, RunnerError

logger = logging.getLogger(__name__)

_KEPT = 500
_LONGEST_SECONDS = 24 * 3600
"""Maximum age of a form."""
Work = Callable[["Change"], str]
"""Makes the change and returns the address of the result's page. Raises RunnerError."""


@dataclass(slots=True, eq=False)
class Change:
    """One running or completed change."""

    id: str
    title: str
    back: str
    """Address of the page of its request."""
    lines: list[str] = field(default_factory=list)
    """Its steps so far."""
    done_bytes: int = 0
    all_bytes: int = 0
    done: int = 0
    all: int = 0
    state: Literal["running", "done", "failed"] = "running"
    location: str = ""
    error: dict[str, Any] = field(default_factory=dict)
    started: float = field(default_factory=time.time)
    _over: threading.Event = field(default_factory=threading.Event, repr=False)

    def tell(self, line: str) -> None:
        """Set the current step."""
        self.lines.append(line)

    def sent(self, done: int, total: int) -> None:
        """Set the progress of an upload."""
        self.done_bytes, self.all_bytes = done, total

    def counted(self, done: int, total: int) -> None:
        """Set the number of answered questions."""
        self.done, self.all = done, total

    def wait(self, seconds: float) -> bool:
        """Return whether it ends within this many seconds."""
        return self._over.wait(seconds)

    def carry_out(self, work: Work) -> None:
        """Run it."""
        try:
            self.location = work(self)
            self.state = "done"
        except RunnerError as error:
            self.error = error.to_json()
            self.state = "failed"
        except Exception as error:
            logger.exception("%s", self.title)
            self.error = {"code": "internal", "message": f"internal error: {type(error).__name__}: {error}"}
            self.state = "failed"
        finally:
            self._over.set()


class Changes:
    """The changes of one console."""

    def __init__(self, changed: Callable[[], None]) -> None:
        """Set the callback after each change."""
        self._changed = changed
        self._secret = secrets.token_bytes(32)
        self._lock = threading.Lock()
        self._known: OrderedDict[str, Change] = OrderedDict()

    def token(self, action: str) -> str:
        """Return the token of a form for an action, so that the form is processed once."""
        head = f"{int(time.time())}-{secrets.token_hex(8)}"
        return f"{head}-{self._sign(head, action)}"

    def start(self, token: str, action: str, title: str, work: Work, *, back: str) -> Change:
        """Return the change of a form, started now unless the form was sent before.

        Raises:
            ConfigurationError: the form does not belong to this console or action, or is too old.
        """
        head, _, signature = token.rpartition("-")
        moment = head.partition("-")[0]
        sound = hmac.compare_digest(signature.encode(), self._sign(head, action).encode())
        if not sound or not 0 <= time.time() - int(moment) <= _LONGEST_SECONDS:
            message = "this form is no longer valid; nothing was changed"
            raise ConfigurationError(message, hint="go back, reload the page and send it again")
        with self._lock:
            known = self._known.get(head)
            if known is not None:
                return known
            change = Change(id=head, title=title, back=back)
            self._known[head] = change
            while len(self._known) > _KEPT:
                self._known.popitem(last=False)
        threading.Thread(target=self._run, args=(change, work), name=f"change-{head}", daemon=True).start()
        return change

    def get(self, identifier: str) -> Change | None:
        """Return a change; None for an unknown one."""
        with self._lock:
            return self._known.get(identifier)

    def running(self) -> list[Change]:
        """Return the running changes, newest first."""
        with self._lock:
            return [change for change in reversed(self._known.values()) if change.state == "running"]

    def _run(self, change: Change, work: Work) -> None:
        def whole(change: Change) -> str:
            try:
                return work(change)
            finally:
                self._changed()

        change.carry_out(whole)

    def _sign(self, head: str, action: str) -> str:
        return hmac.new(self._secret, f"{head}\0{action}".encode(), hashlib.sha256).hexdigest()
