"""The page at the emulator's address in a browser, with links to other pages."""

from __future__ import annotations

import base64
import hashlib
import html

from starlette.requests import Request
from starlette.responses import HTMLResponse, Response

_STYLE = """
:root { color-scheme: light dark; font: 16px/1.55 system-ui, sans-serif; }
main { max-width: 40rem; margin: 12vh auto 4rem; padding: 0 1.25rem; }
h1 { font-size: 1.5rem; line-height: 1.25; }
code { background: light-dark(#eceff3, #272e39); padding: .15em .4em; border-radius: 4px; }
a { color: light-dark(#3049c4, #9db0ff); }
"""
_DIGEST = base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()
_HEADERS = {
    "content-security-policy": f"default-src 'none'; style-src 'sha256-{_DIGEST}'; base-uri 'none'; "
    "frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cache-control": "no-store",
}
CONSOLE = "http://127.0.0.1:8090/"
"""The console's address unless another port was selected."""


def page(request: Request) -> Response | None:
    """Return the page for a browser that requests `/`; None for other requests."""
    asks = request.scope["path"] == "/" and request.method in ("GET", "HEAD")
    if not asks or "text/html" not in request.headers.get("accept", ""):
        return None
    where = html.escape(request.headers.get("host", ""))
    body = f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>Emulator</title><style>{_STYLE}</style></head><body><main>
<h1>This is the emulator of open-model-tuning</h1>
<p>It answers the requests of Google Cloud's tuning, serving and storage services at <code>{where}</code>. Programs talk
to it; nothing here is charged.</p>
<p>Its pages are in the console. Open it from a terminal:</p>
<p><code>runner console --open</code></p>
<p>If the console is running and this browser has opened it before: <a href="{CONSOLE}">{CONSOLE}</a></p>
</main></body></html>
"""
    return HTMLResponse(body, headers=_HEADERS)
