"""Templates, the functions that they can call, and the files that pages load."""

from __future__ import annotations

import base64
import datetime
import hashlib
import json
import math
import mimetypes
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from typing import Any
from urllib.parse import urlencode

from jinja2 import Environment, PackageLoader, StrictUndefined, pass_context
from jinja2.runtime import Context
from markupsafe import Markup, escape
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response

from runner.design.elements import bar
from runner.formatting import duration, size, visible
from runner.prices import amount, cents, exact
from runner.wording import counted, state_words

_STATIC = (
    "design.css",
    "console.css",
    "console.js",
    "chart.js",
    "playground.js",
    "icon.svg",
    "vendor/htmx-2.0.10.min.js",
    "vendor/uplot-1.6.32.iife.min.js",
    "vendor/uplot-1.6.32.min.css",
)
NOTHING = "–"  # noqa: RUF001 - the sign for no value
HTMX_SETTINGS = {"allowEval": False, "includeIndicatorStyles": False, "historyCacheSize": 0, "selfRequestsOnly": True}
STATES = {
    "JOB_STATE_QUEUED": ("waiting", "Queued"),
    "JOB_STATE_PENDING": ("waiting", "Pending"),
    "JOB_STATE_RUNNING": ("running", "Running"),
    "JOB_STATE_SUCCEEDED": ("good", "Succeeded"),
    "JOB_STATE_PARTIALLY_SUCCEEDED": ("good", "Partially succeeded"),
    "JOB_STATE_FAILED": ("bad", "Failed"),
    "JOB_STATE_CANCELLING": ("waiting", "Cancelling"),
    "JOB_STATE_CANCELLED": ("over", "Cancelled"),
    "JOB_STATE_PAUSED": ("waiting", "Paused"),
    "JOB_STATE_EXPIRED": ("bad", "Expired"),
}
_FINER = {
    "TUNING_JOB_STATE_WAITING_FOR_QUOTA": "Waiting for quota",
    "TUNING_JOB_STATE_WAITING_FOR_CAPACITY": "Waiting for a machine",
    "TUNING_JOB_STATE_PROCESSING_DATASET": "Reading the dataset",
    "TUNING_JOB_STATE_TUNING": "Tuning",
    "TUNING_JOB_STATE_POST_PROCESSING": "Saving the model",
}


@dataclass(frozen=True, slots=True)
class Asset:
    """A file that pages load."""

    content: bytes
    digest: str
    kind: str

    @property
    def integrity(self) -> str:
        """Return the integrity hash of the file."""
        return "sha256-" + base64.b64encode(hashlib.sha256(self.content).digest()).decode()


def load_assets() -> dict[str, Asset]:
    """Return every file by its name."""
    folder = resources.files("runner.console").joinpath("static")
    design = resources.files("runner.design")
    found = {}
    for name in _STATIC:
        content = (design if name == "design.css" else folder).joinpath(name).read_bytes()
        kind = mimetypes.guess_type(name)[0] or "application/octet-stream"
        kind = "text/javascript; charset=utf-8" if name.endswith(".js") else kind
        found[name] = Asset(content, hashlib.sha256(content).hexdigest()[:16], kind)
    return found


class Pages:
    """Renders the templates of one console."""

    def __init__(self, **always: Any) -> None:
        """Set the functions for all templates."""
        self.assets = load_assets()
        self.templates = Environment(
            loader=PackageLoader("runner.console"),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
            finalize=_harmless,
        )
        self.templates.filters |= {
            "exact": exact,
            "money": money,
            "cents": cents,
            "duration": duration,
            "size": size,
            "when": when,
            "number": number,
            "percent": percent,
            "counted": lambda count, noun: counted(count, noun) if count < 1000 else f"{count:,} {noun}s",
            "last": lambda name: str(name).rsplit("/", 1)[-1],
            "multiline": lambda text: Markup(escape(visible(str(text), lines=True))),  # noqa: S704 - escaped
            "ticks": ticks,
            "sentence": lambda text: f"{text[:1].upper()}{text[1:]}.",
            "chip": chip,
            "query": address,
        }
        self.templates.globals |= {
            "asset": self._asset,
            "integrity": lambda name: self.assets[name].integrity,
            "htmx_settings": json.dumps(HTMX_SETTINGS),
            "live": self._live,
            "bar": bar,
            **always,
        }

    def render(self, template: str, **context: Any) -> str:
        """Return a template's text."""
        return self.templates.get_template(template).render(context)

    def answer(self, request: Request, template: str, *, status: int = 200, part: str = "", **context: Any) -> Response:
        """Return a page; for a request of a live part, only this part, or 204 if it has not changed.

        Args:
            request: the request.
            template: template of the whole page, which shows the part with `live(part, …)`.
            status: HTTP status.
            part: template of the part that is updated.
            context: values for both; `over` says that nothing is updated any more, so that the page is loaded again.
        """
        context |= {"request": request, "path": request.url.path, "here": _here(request)}
        if part and request.headers.get("hx-request") == "true":
            body = self.render(part, **context)
            if context.get("over"):
                return Response(status_code=204, headers={"hx-refresh": "true"})
            if request.headers.get("x-seen") == _digest(body):
                return Response(status_code=204)
            return HTMLResponse(self._wrapped(body, _here(request), context.get("every", 2)), status)
        return HTMLResponse(self.render(template, part=part, **context), status)

    def _live(self, context: Context) -> Markup:
        everything = dict(context.get_all())
        body = self.render(everything["part"], **everything)
        return Markup(self._wrapped(body, everything["here"], everything.get("every", 2)))  # noqa: S704 - rendered

    _live = pass_context(_live)

    @staticmethod
    def _wrapped(body: str, url: str, every: int) -> str:
        asks = f' hx-get="{escape(url)}" hx-trigger="every {every}s" hx-swap="outerHTML"' if every else ""
        return f'<div id="live"{asks} data-seen="{_digest(body)}">{body}</div>'

    def _asset(self, name: str) -> str:
        return f"/static/{self.assets[name].digest}/{name}"


def address(path: str, **parameters: Any) -> str:
    """Return a path with parameters; those that are None or empty are omitted."""
    given = [(key, value) for key, value in parameters.items() if value not in (None, "", False)]
    return f"{path}?{urlencode(given, doseq=True)}" if given else path


def _here(request: Request) -> str:
    """Return the address that shows a page again; for a submitted form, that of the form's page."""
    if again := getattr(request.state, "again", ""):
        return str(again)
    return request.url.path + (f"?{request.url.query}" if request.url.query else "")


def _harmless(value: Any) -> Any:
    """Escape control characters in every text of a template; markup was already created from such texts."""
    return visible(value) if isinstance(value, str) and not hasattr(value, "__html__") else value


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def money(usd: float | None) -> str:
    """Return a price for people."""
    return "not published" if usd is None else amount(usd)


def number(value: float | None, digits: int = 4) -> str:
    """Return a number with thousands separators, or with this many significant digits."""
    if value is None:
        return NOTHING
    if not math.isfinite(value):
        return str(value)
    if isinstance(value, int) or abs(value) >= 10**digits:
        return f"{value:,.0f}"
    return f"{value:.{digits}g}"


def ticks(text: str) -> Markup:
    """Return a text whose parts between backticks are formatted as code."""
    parts = visible(text, lines=True).split("`")
    if len(parts) % 2 == 0:
        return Markup(escape("`".join(parts)))  # noqa: S704 - escaped
    marked = (f"<code>{escape(part)}</code>" if index % 2 else str(escape(part)) for index, part in enumerate(parts))
    return Markup("".join(marked))  # noqa: S704 - each part is escaped


def percent(share: float | None) -> str:
    """Return a share as a percentage."""
    return NOTHING if share is None else f"{100 * share:.0f}%"


def when(moment: datetime.datetime | float | str | None) -> Markup:
    """Return a time as an element that a script converts to an age; without a script, it is shown in UTC."""
    if isinstance(moment, int | float):
        moment = datetime.datetime.fromtimestamp(moment, datetime.UTC)
    elif isinstance(moment, str):
        try:
            moment = datetime.datetime.fromisoformat(moment)
        except ValueError:
            moment = None
    if moment is None:
        return Markup(escape(NOTHING))  # noqa: S704 - escaped
    moment = moment.astimezone(datetime.UTC)
    return Markup('<time datetime="{}">{} UTC</time>').format(
        moment.isoformat(timespec="seconds"), moment.strftime("%Y-%m-%d %H:%M")
    )


def chip(state: str, detail: str = "") -> Markup:
    """Return the state of a job as a colored word."""
    kind, word = STATES.get(state, ("waiting", visible(state_words(state).title())))
    if kind in ("waiting", "running") and detail in _FINER:
        word = _FINER[detail]
        kind = "waiting" if "WAITING" in detail else kind
    return Markup('<span class="chip {}">{}</span>').format(kind, word)


def plain(body: Mapping[str, Any] | list[Any]) -> str:
    """Return JSON for people to read and copy."""
    return json.dumps(body, indent=2, ensure_ascii=False)
