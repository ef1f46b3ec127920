"""The ASGI application: checks every request, then calls the method of the right service.

The checks protect a developer's machine from its own browser: a page on another origin can send requests to loopback,
and with DNS rebinding it can read the responses. Therefore, the `Host` must be one of this server's, a request with an
`Origin` is refused, and no CORS header is ever sent.
"""

from __future__ import annotations

import hmac
import logging
import re
import time
from collections.abc import Iterable

from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from runner.emulator import access_log, fault_routes, welcome
from runner.emulator.clock import Clock
from runner.emulator.context import Emulator
from runner.emulator.definitions import checking
from runner.emulator.errors import ApiError, disk_error
from runner.emulator.iam import needs
from runner.emulator.remembered import HOST, remembered
from runner.emulator.routing import ApiRequest, Method, Router, json_response
from runner.emulator.storage import virtual_hosts
from runner.emulator.storage.downloads import http_date

logger = logging.getLogger(__name__)

_HOST = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[^\[\]:@/\s]+)(?::\d{1,5})?\Z")
_LOOPBACK_NAMES = frozenset({"localhost", "127.0.0.1", "[::1]"})
_STORAGE_PREFIXES = ("/storage/", "/upload/storage/", "/download/storage/", "/batch/storage/", "/b/")


def _dated(clock: Clock, scope: Scope, receive: Receive, send: Send) -> Send:
    """Return a function that logs a response, and sends it with its time on the emulator's own clock.

    Clients compare the times of resources with this one, so both use the same clock. A header contains its speed, so
    that clients do not consider their own clock wrong. If the client has disconnected, the function raises
    ClientDisconnect, which ends the handler.
    """
    server = getattr(receive, "__self__", None)
    started = time.monotonic()
    told = [] if clock.scale == 1 else [(b"x-emulator-time-scale", f"{clock.scale:g}".encode())]

    async def dating_send(message: Message) -> None:
        if message["type"] == "http.response.start":
            access_log.note(scope, message["status"], started)
            headers = message.get("headers", ())
            if b"date" in dict(headers):
                headers = [pair for pair in headers if pair[0] != b"date"]
            date = http_date(int(clock.now().timestamp())).encode()
            message = {**message, "headers": [*told, (b"date", date), *headers]}
        await send(message)
        if getattr(server, "disconnected", False):
            raise ClientDisconnect

    return dating_send


class EmulatorApp:
    """Dispatches requests of all services of one emulator on one port."""

    def __init__(self, emulator: Emulator, methods: Iterable[Method]) -> None:
        self.emulator = emulator
        self.router = Router(list(methods))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            return
        send = _dated(self.emulator.clock, scope, receive, send)
        request = ApiRequest(scope, receive)
        scope = virtual_hosts.placed(scope, request.headers.get("host", ""))
        instead = request.headers.get("x-http-method-override") if scope["method"] == "POST" else None
        if instead:
            # For clients behind proxies that allow only GET and POST.
            scope = {**scope, "method": instead.upper()}
        request.scope, request.emulator = scope, self.emulator
        storage_style = scope["path"].startswith(_STORAGE_PREFIXES)
        response: ASGIApp | None
        try:
            self._guard(request)
            welcome_page = welcome.page(request)
            if welcome_page is not None:
                await welcome_page(scope, receive, send)
                return
            found = self.router.find(scope)
            if found is None or not checking.exists(found[0], scope["path"]):
                raise checking.absent(scope["method"], scope["path"])
            method, request.fields = found
            storage_style = method.style == "storage"
            needs.require(request, method)
            response = await fault_routes.answer(method, request)
        except ApiError as error:
            response = _error_response(error, storage_style=storage_style)
        except ClientDisconnect:
            return  # the client disconnected during its request
        except Exception as error:
            full = disk_error(error, self.emulator.settings.directory)
            if full is None:
                logger.exception("bug while answering %s %s", scope["method"], scope["path"])
                full = ApiError("INTERNAL", "Internal error encountered.")
            else:
                logger.warning("%s %s: %s", scope["method"], scope["path"], full.message)
            response = _error_response(full, storage_style=storage_style)
        if response is not None:
            try:
                await response(scope, receive, send)
            except ClientDisconnect:
                return

    def _guard(self, request: ApiRequest) -> None:
        settings = self.emulator.settings
        hosts = request.headers.getlist("host")
        if len(hosts) != 1:
            raise ApiError("INVALID_ARGUMENT", f"A request has one Host header, this one has {len(hosts)}.")
        host = hosts[0]
        name = _bare(host)
        if name not in _LOOPBACK_NAMES and name not in settings.allowed_hosts and not virtual_hosts.is_storage(name):
            raise ApiError("PERMISSION_DENIED", f"Host {host!r} is not served here.", http=421)
        self._guard_origin_and_token(request)

    def _guard_origin_and_token(self, request: ApiRequest) -> None:
        settings = self.emulator.settings
        if "origin" in request.headers or request.headers.get("sec-fetch-site") == "cross-site":
            raise ApiError("PERMISSION_DENIED", "Requests from web pages are refused.")
        if settings.token is not None:
            given = request.headers.get("authorization", "").removeprefix("Bearer ")
            if not hmac.compare_digest(given.encode(), settings.token.encode()):
                raise ApiError("UNAUTHENTICATED", "Request had invalid authentication credentials.")


@remembered(HOST)
def _bare(host: str) -> str:
    """Return a host without its port; "" for an invalid one."""
    found = _HOST.match(host)
    return found[1].lower() if found else ""


def _error_response(error: ApiError, *, storage_style: bool) -> Response:
    body = error.to_storage() if storage_style else error.to_rpc()
    return json_response(body, error.http, error.headers)
