"""Send every line of a file to an endpoint, concurrently, and continue where an interrupted run stopped.

Each answer is first appended to the journal beside the output and fsynced; a question with an answer there is not sent
again. When every line has an answer, the complete output is written in the order of the input.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from runner.errors import GoogleApiError, RunnerError, UnreachableError
from runner.gcp import prediction
from runner.gcp.endpoints import Endpoint
from runner.gcp.session import Session
from runner.serving.batches.lines import OWN_KEYS, Journal, Lines, journal_of, opened, write_output

ATTEMPTS = 7
"""Number of attempts for one line; with the pauses below, about a minute in total."""
FIRST_PAUSE_SECONDS = 1.0
LONGEST_PAUSE_SECONDS = 20.0
_OF_ALL = frozenset({401, 403, 404})
"""Statuses that apply to every line."""
_PASSING = frozenset({408, 409, 425, 429})
"""Statuses that refer to the request but can be temporary."""


@dataclass(frozen=True, slots=True)
class BatchProgress:
    """The progress of a batch."""

    done: int
    total: int
    asked: int
    """Number of lines answered by this run; earlier runs answered the others."""
    failed: int
    tokens: int
    """Number of generated tokens in this run, if the service reports it."""
    seconds: float
    """Seconds since this run started."""

    @property
    def per_second(self) -> float:
        """Return the answers per second of this run."""
        return self.asked / self.seconds if self.seconds > 0 else 0.0

    @property
    def seconds_left(self) -> float | None:
        """Return the remaining seconds at this rate; None before the first answer."""
        return (self.total - self.done) / self.per_second if self.asked else None

    def to_json(self) -> dict[str, Any]:
        """Return the stable JSON form."""
        left = self.seconds_left
        return {
            "done": self.done,
            "total": self.total,
            "asked": self.asked,
            "failed": self.failed,
            "tokens": self.tokens,
            "seconds": round(self.seconds, 3),
            "answersPerSecond": round(self.per_second, 3),
            "secondsLeft": None if left is None else round(left, 1),
        }


def run_batch(
    session: Session,
    endpoint: Endpoint,
    source: Path,
    output: Path,
    *,
    concurrency: int = 8,
    sampling: dict[str, Any] | None = None,
    restart: bool = False,
    progress: Callable[[BatchProgress], None] | None = None,
) -> BatchProgress:
    """Answer every line of `source` and write `output`; return the progress at the end.

    Args:
        session: the project and location.
        endpoint: the endpoint.
        source: JSON Lines: `{"messages": […]}` is sent as a chat, `{"prompt": …}` as a prediction. Other keys are sent
            as well, except `id` and `custom_id`, which are copied to the answer.
        output: JSON Lines in the same order: `line`, `id`, and `answer`, `finishReason`, `usage`, or `error`.
        concurrency: number of concurrent requests.
        sampling: `max_tokens`, `temperature`, … for lines that do not contain them.
        restart: discard the answers of earlier runs.
        progress: called repeatedly.

    Raises:
        ConfigurationError: the file cannot be read, a line is incorrect, the journal belongs to another input, or
            another run holds it.
        DiskError: the journal or the output cannot be written; a later run continues.
        GoogleApiError, UnreachableError: the endpoint does not exist, or refuses every line; a later run continues.
    """
    given = {key: value for key, value in (sampling or {}).items() if value is not None}
    with opened(source) as lines, journal_of(output, lines, {"endpoint": endpoint.name}, given, restart) as journal:
        run = _Run(session, endpoint, lines, journal, given, progress)
        run.ask_all(concurrency)
        write_output(output, lines, journal)
        with suppress(OSError):  # a remaining journal says that every question has an answer
            journal.path.unlink()
        return run.state()


def _of_line(error: GoogleApiError) -> bool:
    """Return whether an error concerns one line; others, such as a redirect, concern the connection to the service."""
    return 400 <= error.http < 500 and error.http not in _OF_ALL | _PASSING


class _Run:
    def __init__(
        self,
        session: Session,
        endpoint: Endpoint,
        lines: Lines,
        journal: Journal,
        sampling: dict[str, Any],
        progress: Callable[[BatchProgress], None] | None,
    ) -> None:
        self.session = session
        self.endpoint = endpoint
        self.lines = lines
        self.journal = journal
        self.sampling = sampling
        self.progress = progress
        self.start = time.monotonic()
        self.asked = 0
        self.tokens = 0
        self.stopped = False

    def state(self) -> BatchProgress:
        return BatchProgress(
            done=len(self.journal.places),
            total=len(self.lines.places),
            asked=self.asked,
            failed=self.journal.failed,
            tokens=self.tokens,
            seconds=time.monotonic() - self.start,
        )

    def ask_all(self, concurrency: int) -> None:
        todo = (index for index in range(len(self.lines.places)) if index not in self.journal.places)
        pool = ThreadPoolExecutor(concurrency, thread_name_prefix="batch")
        pending: dict[Future[dict[str, Any]], int] = {}
        failure: RunnerError | None = None
        try:
            while True:
                while failure is None and len(pending) < concurrency:
                    index = next(todo, None)
                    if index is None:
                        break
                    pending[pool.submit(self._answer, index)] = index
                if not pending:
                    break
                done, _ = wait(pending, return_when=FIRST_COMPLETED)
                failure = self._keep(done, pending) or failure
                if self.progress:
                    self.progress(self.state())
        finally:
            self.stopped = True
            pool.shutdown(wait=failure is not None or not pending, cancel_futures=True)
        if failure is not None:
            raise failure

    def _keep(
        self, done: set[Future[dict[str, Any]]], pending: dict[Future[dict[str, Any]], int]
    ) -> RunnerError | None:
        """Write the completed answers to the journal; return the first failure that ends the run."""
        results: list[tuple[int, dict[str, Any]]] = []
        failure: RunnerError | None = None
        for future in done:
            index = pending.pop(future)
            try:
                body = future.result()
            except RunnerError as error:
                failure = failure or error
                continue
            results.append((index, body))
            self.tokens += (body.get("usage") or {}).get("completion_tokens", 0)
        if results:
            self.journal.add(results)
            self.asked += len(results)
        return failure

    def _answer(self, index: int) -> dict[str, Any]:
        """Return the answer or error of a line. Raises RunnerError for an error that concerns every line."""
        body = self.lines.body(index)
        pause = FIRST_PAUSE_SECONDS
        for attempt in range(1, ATTEMPTS + 1):
            try:
                return self._ask(body)
            except GoogleApiError as error:
                if _of_line(error):
                    return {"error": error.to_json()}
                if error.http in _OF_ALL or attempt == ATTEMPTS or self.stopped:
                    raise
                time.sleep(random.uniform(0, pause))
            except UnreachableError:
                if attempt == ATTEMPTS or self.stopped:
                    raise
                time.sleep(random.uniform(0, pause))
            pause = min(LONGEST_PAUSE_SECONDS, 2 * pause)
        raise AssertionError("unreachable")

    def _ask(self, line: dict[str, Any]) -> dict[str, Any]:
        options = {**self.sampling, **{key: value for key, value in line.items() if key not in OWN_KEYS}}
        if "messages" in options:
            messages = options.pop("messages")
            answer = prediction.chat(self.session, endpoint=self.endpoint, messages=messages, **options)
            return {"answer": answer.text, "finishReason": answer.finish_reason, "usage": answer.usage}
        options.setdefault("raw_response", True)
        return {"answer": prediction.predict(self.session, self.endpoint, [options], repeat=False)[0]}
