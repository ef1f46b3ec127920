"""A page as one file that loads nothing and runs no script, so that it can be mailed and archived."""

from __future__ import annotations

import base64
import datetime
import functools
import hashlib
from importlib import resources
from importlib.metadata import version

from runner.design.elements import Content, Html, element, joined, markup
from runner.installation import NAME


@functools.cache
def stylesheet() -> str:
    """Return the style sheet of all pages."""
    return resources.files("runner.design").joinpath("design.css").read_text("utf-8")


def page(title: str, *content: Content) -> str:
    """Return the file. Its content security policy allows only this style sheet."""
    style = stylesheet()
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    policy = f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
    head = joined(
        (
            Html('<meta charset="utf-8">'),
            Html(f'<meta http-equiv="Content-Security-Policy" content="{policy}">'),
            Html('<meta name="viewport" content="width=device-width, initial-scale=1">'),
            Html('<meta name="color-scheme" content="light dark">'),
            element("title", title),
            Html(f"<style>{style}</style>"),
        )
    )
    body = element("main", *content, class_="report")
    return f'<!doctype html>\n<html lang="en"><head>{head}</head><body>{body}</body></html>\n'


def made(of: str, *, when: float, settings: str = "") -> Html:
    """Return the line about the subject, time, origin and settings of a page.

    Args:
        of: a verb and its object, such as `Checked for MODEL`.
        when: seconds since 1970.
        settings: other settings that affect the contents.
    """
    moment = datetime.datetime.fromtimestamp(when, datetime.UTC)
    stamp = element("time", f"{moment:%Y-%m-%d %H:%M} UTC", datetime=moment.isoformat(timespec="seconds"))
    end = f"; {settings}." if settings else "."
    return element("p", f"{of} on ", stamp, f" by open-model-tuning {version(NAME)}", markup(end), class_="dim made")
