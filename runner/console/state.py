"""The state of one console: its connection, its data, its changes, and its uploads."""

from __future__ import annotations

import functools
import re
import secrets
import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO
from urllib.parse import quote

from starlette.concurrency import run_in_threadpool
from starlette.datastructures import FormData, UploadFile
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from runner.console.changes import Change, Changes, Work
from runner.console.observing import Observer
from runner.console.pages import Pages, address
from runner.console.security import Access
from runner.environment.targets import Target
from runner.errors import ConfigurationError, RunnerError
from runner.gcp.session import Session
from runner.prices import Terms, dollars_of

SUFFIXES = (".jsonl", ".json", ".csv", ".tsv", ".parquet", ".xlsx", ".ods", ".txt", ".ndjson", ".gz", ".zst", ".zip")
_QUICK_SECONDS = 1.5
"""Changes that take less time are shown immediately; for others, a page shows the progress."""
_UPLOAD = "upload:"
_OF_THE_PRESS = frozenset({"once", "agreed", "unknown"})
"""Fields of one click on a button; the others identify its subject, like the address of the previous page."""


class Uploads:
    """Uploaded files, in a folder that is deleted at the end."""

    def __init__(self) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="runner-console-"))

    def close(self) -> None:
        """Remove them."""
        shutil.rmtree(self._folder, ignore_errors=True)

    def keep(self, name: str, content: BinaryIO) -> str:
        """Store a file and return its new name. Raises ConfigurationError."""
        plain = re.sub(r"[^A-Za-z0-9._-]+", "-", name.replace("\\", "/").rsplit("/", 1)[-1]).strip("-.")[-80:]
        if not plain.lower().endswith(SUFFIXES):
            raise ConfigurationError(f"{name[:80] or 'the file'}: datasets end in {', '.join(SUFFIXES)}")
        identifier = secrets.token_hex(8)
        (self._folder / identifier).mkdir()
        with (self._folder / identifier / plain).open("wb") as target:
            shutil.copyfileobj(content, target)
        return f"{_UPLOAD}{identifier}"

    def path(self, name: str) -> Path:
        """Return the file for a name. Raises ConfigurationError for a deleted one."""
        folder = self._folder / name.removeprefix(_UPLOAD)
        if re.fullmatch(r"upload:[0-9a-f]{16}", name) and folder.is_dir():
            return next(folder.iterdir())
        message = "the uploaded file is no longer here: the console was restarted"
        raise ConfigurationError(message, hint="upload it again")

    def sent(self, form: FormData, name: str) -> str:
        """Store the file in a form's field, and return its name; "" if no file was selected."""
        sent = form.get(name)
        return self.keep(sent.filename, sent.file) if isinstance(sent, UploadFile) and sent.filename else ""

    @staticmethod
    def is_one(name: str) -> bool:
        """Return whether a text is the name of an upload, and not an address."""
        return name.startswith(_UPLOAD)


@dataclass(slots=True)
class Console:
    """The shared state of a console's views."""

    session: Session
    observer: Observer
    changes: Changes
    access: Access
    pages: Pages
    target: Target
    read_only: bool
    uploads: Uploads = field(default_factory=Uploads)

    def close(self) -> None:
        """Stop reading and delete uploads. The owner closes the connection."""
        self.observer.close()
        self.uploads.close()

    def change(self, request: Request, form: FormData, title: str, work: Work, *, back: str) -> Response:
        """Start the change of a form once, and show its result, or its progress if it takes longer."""
        change = self.changes.start(text(form, "once"), request.url.path, title, work, back=back)
        change.wait(_QUICK_SECONDS)
        return RedirectResponse(self.after(change), 303)

    def after(self, change: Change) -> str:
        """Return the page after a change."""
        if change.state == "done" and change.location:
            joint = "&" if "?" in change.location else "?"
            return f"{change.location}{joint}done={quote(change.id)}"
        return f"/changes/{change.id}"

    def confirmation(
        self,
        request: Request,
        *,
        title: str,
        button: str,
        back: str,
        facts: list[tuple[str, str]],
        price: str = "",
        danger: bool = False,
        fields: dict[str, str] | None = None,
    ) -> Response:
        """Return the page for confirming a change."""
        path = request.url.path
        return self.pages.answer(
            request,
            "confirm.html",
            title=title,
            button=button,
            back=back,
            facts=facts,
            price=price,
            danger=danger,
            fields=fields or {},
            action=path,
            once=self.changes.token(path),
        )


View = Callable[[Console, Request], Response]
ChangingView = Callable[[Console, Request, FormData], Response]
Form = Callable[[Console, Request, Mapping[str, str], dict[str, Any]], Response]
"""Shows a form with the given values and their errors."""


def reading(view: View, form: Form | None = None) -> Callable[[Request], Response]:
    """Return the endpoint of a view that changes nothing; it runs in a thread.

    Args:
        view: shows the page.
        form: shows the form whose values are in the address, if the view refuses them.
    """

    @functools.wraps(view)
    def endpoint(request: Request) -> Response:
        console: Console = request.app.state.console
        with console.observer.page():
            try:
                return view(console, request)
            except RunnerError as problem:
                if form is None:
                    raise
                return form(console, request, _texts(request.query_params), problem.to_json())

    return endpoint


def changing(view: ChangingView, form: Form | None = None) -> Callable[[Request], object]:
    """Return the endpoint of a view for a form.

    Args:
        view: starts the change.
        form: shows the form again with the sent values, if the view refuses them.
    """

    def answer(console: Console, request: Request, sent: FormData) -> Response:
        with console.observer.page():
            try:
                return view(console, request, sent)
            except RunnerError as problem:
                if form is None:
                    kept = {name: value for name, value in _texts(sent).items() if name not in _OF_THE_PRESS}
                    request.state.again = address(request.url.path, **kept)
                    raise
                response = form(console, request, _texts(sent), problem.to_json())
                response.status_code = 400
                return response

    @functools.wraps(view)
    async def endpoint(request: Request) -> Response:
        async with request.form(max_files=4, max_fields=200) as sent:
            return await run_in_threadpool(answer, request.app.state.console, request, sent)

    return endpoint


def blank(form: Form) -> View:
    """Return the view of a form whose values are in the address."""
    return lambda console, request: form(console, request, _texts(request.query_params), {})


def _texts(values: Mapping[str, Any]) -> dict[str, str]:
    return {name: value for name, value in values.items() if isinstance(value, str)}


def given(values: Any, names: Sequence[str]) -> dict[str, str]:
    """Return the named fields of a form or a query that are non-empty texts."""
    return {name: str(values[name]).strip() for name in names if isinstance(values.get(name), str) and values[name]}


def text(form: FormData, name: str) -> str:
    """Return a text field, "" if there is none."""
    value = form.get(name)
    return value.strip() if isinstance(value, str) else ""


def whole(given: str) -> int | None:
    """Return a number of at most nine digits; None for any other text."""
    return int(given) if re.fullmatch("[0-9]{1,9}", given.strip()) else None


def agreed_terms(form: FormData) -> Terms:
    """Return the price on a page as the limit for its form. Raises ConfigurationError."""
    shown = text(form, "agreed")
    try:
        limit = dollars_of(shown) if shown else None
    except ValueError as error:
        message = f"{shown[:20]!r} is not a price"
        raise ConfigurationError(message, hint="go back, reload the page and send it again") from error
    return Terms(limit=limit, accept_unknown=text(form, "unknown") == "1", limit_name="the price that was shown")


__all__ = ["Change", "Console", "Uploads", "address", "agreed_terms", "changing", "given", "reading", "text", "whole"]
