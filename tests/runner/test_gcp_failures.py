"""What clients raise becomes this package's errors; what may be repeated is."""

from __future__ import annotations

import http.server
import threading
from collections.abc import Callable, Iterator

import google.api_core.exceptions as core
import google.auth.exceptions
import google.genai.errors as genai
import httpx
import pytest
import requests

from runner.errors import (
    AlreadyExistsError,
    GoogleApiError,
    NotFoundError,
    PermissionDeniedError,
    QuotaExceededError,
    UnreachableError,
)
from runner.gcp import failures
from runner.gcp.failures import ConnectionLostError, call, maybe_sent, translate

KINDS = {
    400: GoogleApiError,
    401: PermissionDeniedError,
    403: PermissionDeniedError,
    404: NotFoundError,
    409: AlreadyExistsError,
    412: AlreadyExistsError,
    429: QuotaExceededError,
    500: GoogleApiError,
    503: GoogleApiError,
}
BODY = {"error": {"code": 0, "message": "what happened", "status": "SOME_STATUS"}}


def rest(code: int) -> Exception:
    request = httpx.Request("GET", "http://example.com/x")
    response = httpx.Response(code, json=BODY, request=request)
    return httpx.HTTPStatusError("raised", request=request, response=response)


def storage(code: int) -> Exception:
    response = requests.Response()
    response.status_code = code
    response._content = b'{"error":{"code":0,"message":"what happened","status":"SOME_STATUS"}}'
    error: Exception = core.from_http_status(code, "GET http://example.com: what happened", response=response)
    return error


def generative(code: int) -> Exception:
    return (genai.ServerError if code >= 500 else genai.ClientError)(code, BODY)


@pytest.mark.parametrize("make", [rest, storage, generative])
@pytest.mark.parametrize("code", KINDS)
def test_error_answers(code: int, make: Callable[[int], Exception]) -> None:
    error = translate(make(code), "things.get", "things/1")
    assert type(error) is KINDS[code]
    assert isinstance(error, GoogleApiError)
    assert (error.http, error.status) == (code, "SOME_STATUS")
    assert error.message == "things.get things/1: what happened"
    assert (error.method, error.resource) == ("things.get", "things/1")
    assert maybe_sent(error) == (code >= 500)


@pytest.mark.parametrize("body", [b"", b"<html>", b"[]", b'"text"', b'{"error":"text"}', b'{"error":{"message":null}}'])
def test_answers_that_are_not_googles(body: bytes) -> None:
    request = httpx.Request("GET", "http://example.com/x")
    response = httpx.Response(502, content=body, request=request)
    error = translate(httpx.HTTPStatusError("raised", request=request, response=response), "things.get", "x")
    assert isinstance(error, GoogleApiError)
    assert error.http == 502
    assert error.message.startswith("things.get x: ")


def test_a_disabled_api_names_the_next_command() -> None:
    detail = {
        "reason": "SERVICE_DISABLED",
        "metadata": {"service": "aiplatform.googleapis.com", "consumer": "projects/7"},
    }
    error = failures.api_error(403, {"error": {"message": "m", "details": [detail]}}, method="a", resource="b")
    assert error.hint == "`gcloud services enable aiplatform.googleapis.com --project 7`"


def test_a_missing_grant_names_role_and_principal() -> None:
    text = "service-1@gcp-sa-x.iam.gserviceaccount.com does not have storage.objects.get access to the object."
    error = failures.api_error(403, {"error": {"message": text}}, method="a", resource="b")
    assert error.hint is not None
    assert "roles/storage.objectUser" in error.hint
    assert "service-1@gcp-sa-x.iam.gserviceaccount.com" in error.hint


@pytest.mark.parametrize(
    ("error", "kind", "sent"),
    [
        (httpx.ConnectError("refused"), UnreachableError, False),
        (httpx.ConnectTimeout("slow"), UnreachableError, False),
        (httpx.ReadTimeout("slow"), ConnectionLostError, True),
        (httpx.ReadError("reset"), ConnectionLostError, True),
        (httpx.RemoteProtocolError("closed"), ConnectionLostError, True),
        (httpx.WriteError("broken pipe"), ConnectionLostError, True),
        (requests.exceptions.ConnectTimeout("slow"), UnreachableError, False),
        (requests.exceptions.ConnectionError("[Errno 111] Connection refused"), UnreachableError, False),
        (requests.exceptions.ConnectionError("Connection aborted."), ConnectionLostError, True),
        (requests.exceptions.ReadTimeout("slow"), ConnectionLostError, True),
        (core.RetryError("Timeout of 120s exceeded", cause=None), ConnectionLostError, True),
        (google.auth.exceptions.TransportError("no route"), UnreachableError, False),
        (google.auth.exceptions.RefreshError("expired"), PermissionDeniedError, False),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else "",
)
def test_connections(error: Exception, kind: type[Exception], sent: bool) -> None:
    found = translate(error, "things.get", "x")
    assert type(found) is kind
    assert maybe_sent(found) == sent


def test_bugs_are_not_disguised() -> None:
    bug = KeyError("x")
    assert translate(bug, "a", "b") is bug
    with pytest.raises(KeyError):
        call("a", "b", lambda: {"y": 1}["x"], idempotent=True)


class Counted(http.server.BaseHTTPRequestHandler):
    """Answers with the statuses of `script`, one a request, then 200."""

    script: list[int]
    seen: list[str]

    def do_GET(self) -> None:
        self.seen.append(self.path)
        code = self.script.pop(0) if self.script else 200
        self.send_response(code)
        self.send_header("retry-after", "0")
        self.send_header("content-length", "2")
        self.end_headers()
        self.wfile.write(b"{}")

    def log_message(self, format: str, *arguments: object) -> None:
        """Say nothing."""


@pytest.fixture
def server() -> Iterator[tuple[str, type[Counted]]]:
    handler = type("Handler", (Counted,), {"script": [], "seen": []})
    running = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
    yield f"http://127.0.0.1:{running.server_address[1]}", handler
    running.shutdown()
    running.server_close()


@pytest.mark.parametrize("code", [408, 429, 500, 502, 503, 504])
def test_passing_failures_are_tried_again(code: int, server: tuple[str, type[Counted]]) -> None:
    url, handler = server
    handler.script[:] = [code] * (failures.ATTEMPTS - 1)
    answer = call("a", "b", lambda: failures.check(httpx.get(url), "a", "b"), idempotent=True)
    assert answer == {}
    assert len(handler.seen) == failures.ATTEMPTS


@pytest.mark.parametrize("code", [400, 401, 403, 404, 409, 412, 501])
def test_refusals_are_not(code: int, server: tuple[str, type[Counted]]) -> None:
    url, handler = server
    handler.script[:] = [code]
    with pytest.raises(GoogleApiError):
        call("a", "b", lambda: failures.check(httpx.get(url), "a", "b"), idempotent=True)
    assert len(handler.seen) == 1


def test_the_tries_are_bounded_and_a_create_has_one(server: tuple[str, type[Counted]]) -> None:
    url, handler = server
    for idempotent, tries in ((True, failures.ATTEMPTS), (False, 1)):
        handler.script[:] = [503] * 20
        handler.seen.clear()
        with pytest.raises(GoogleApiError):
            call("a", "b", lambda: failures.check(httpx.get(url), "a", "b"), idempotent=idempotent)
        assert len(handler.seen) == tries


def test_pauses_are_bounded() -> None:
    for attempt in range(1, 40):
        assert 0 <= failures._pause(attempt, ValueError()) <= failures.LONGEST_PAUSE_SECONDS
    request = httpx.Request("GET", "http://example.com")
    for text, expected in (("7", 7.0), ("100000", failures.LONGEST_PAUSE_SECONDS), ("-3", 0.0)):
        response = httpx.Response(429, headers={"retry-after": text}, request=request)
        error = httpx.HTTPStatusError("raised", request=request, response=response)
        assert failures._pause(1, error) == expected
