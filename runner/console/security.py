"""Access to the console: only from this machine's browser with a session, and from the console's own pages.

A page of another origin can send requests to loopback, and with DNS rebinding it can read the responses. Therefore,
every request must name one of the console's own hosts, every change must come from the console's own origin, and all
requests need the session that a one-time address creates.
"""

from __future__ import annotations

import hashlib
import secrets
import threading
from collections.abc import Callable

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import cookie_parser
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
_HEADERS = {
    "content-security-policy": POLICY,
    "x-frame-options": "DENY",
    "x-content-type-options": "nosniff",
    # With `no-referrer`, the console's own forms would come from the origin `null`.
    "referrer-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
}
_READING = frozenset({"GET", "HEAD"})


class Access:
    """Sessions of browsers, each started by an address that works once."""

    def __init__(self, port: int, announce: Callable[[str], None] | None = None) -> None:
        """Set the port, and the callback for each new address after the previous one was used."""
        self.cookie = f"runner_console_{port}"
        self._port = port
        self._announce = announce
        self._lock = threading.Lock()
        self._sessions: set[str] = set()
        self._unused = secrets.token_urlsafe(32)

    @property
    def address(self) -> str:
        """Return the address that starts the next session."""
        return f"http://127.0.0.1:{self._port}/open?token={self._unused}"

    def admit(self, token: str) -> str | None:
        """Return a new session for the token of the unused address, which is then used; None for another token."""
        with self._lock:
            if not secrets.compare_digest(token.encode(), self._unused.encode()):
                return None
            self._unused = secrets.token_urlsafe(32)
            session = secrets.token_urlsafe(32)
            self._sessions.add(_digest(session))
        if self._announce is not None:
            self._announce(self.address)
        return session

    def knows(self, headers: Headers) -> bool:
        """Return whether a request has a session."""
        given = cookie_parser(headers.get("cookie", "")).get(self.cookie, "")
        return bool(given) and _digest(given) in self._sessions


class Guard:
    """Refuses unauthorized requests, and adds the security policy to every response."""

    def __init__(
        self, app: ASGIApp, *, access: Access, port: int, read_only: bool, locked: ASGIApp, too_large: ASGIApp
    ) -> None:
        """Set the application, and the pages for requests without a session and for bodies that are too large."""
        self.app = app
        self.access = access
        self.hosts = frozenset(f"{name}:{port}" for name in ("127.0.0.1", "localhost", "[::1]"))
        self.read_only = read_only
        self.locked = locked
        self.too_large = too_large

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
            return
        if scope["type"] != "http":
            return
        headers = Headers(scope=scope)
        static = scope["path"].startswith("/static/")

        async def sealed(message: Message) -> None:
            if message["type"] == "http.response.start":
                found = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    found[name] = value
                # The addresses of the console's files contain a digest of their content.
                found["cache-control"] = "public, max-age=31536000, immutable" if static else "no-store"
            await send(message)

        refusal = self._refusal(scope["method"], headers)
        if refusal is not None:
            status, reason = refusal
            await PlainTextResponse(reason + "\n", status)(scope, receive, sealed)
        elif not static and scope["path"] != "/open" and not self.access.knows(headers):
            await self.locked(scope, receive, sealed)
        else:
            await self._answer(scope, receive, sealed)

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let the application answer; convert the plain text of the body limit to a page."""
        limited = False

        async def noticing(message: Message) -> None:
            nonlocal limited
            limited = limited or message.get("status") == 413
            if not limited:
                await send(message)

        await self.app(scope, receive, noticing)
        if limited:
            await self.too_large(scope, receive, send)

    def _refusal(self, method: str, headers: Headers) -> tuple[int, str] | None:
        host = headers.get("host", "").lower()
        if host not in self.hosts or len(headers.getlist("host")) != 1:
            return 400, "this host is not served here"
        if method in _READING:
            return None
        if method != "POST":
            return 405, "only GET and POST are answered here"
        origin, site = headers.get("origin"), headers.get("sec-fetch-site")
        # Browsers send both; a request with neither does not come from a page of the console.
        if (site is not None and site != "same-origin") or (origin is None and site is None):
            return 403, "only the console's own pages may change anything"
        if origin is not None and origin != f"http://{host}":
            return 403, "only the console's own pages may change anything"
        if self.read_only:
            return 403, "this console is read-only: restart it without --read-only"
        return None


def _digest(session: str) -> str:
    return hashlib.sha256(session.encode()).hexdigest()
