"""What the HTTP client raises becomes this package's errors; what may be repeated is."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest

from runner.errors import (
    AlreadyExistsError,
    ConfigurationError,
    GoogleApiError,
    NotFoundError,
    PermissionDeniedError,
    QuotaExceededError,
    UnreachableError,
)
from runner.gcp import failures
from runner.gcp.failures import ConnectionLostError, call, document_of, maybe_sent, translate
from runner.gcp.rest import ConnectError, RestClient, StatusError, TransportError
from tests.local_server import Handler, LocalServer

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
BODY = b'{"error":{"code":0,"message":"what happened","status":"SOME_STATUS"}}'


@contextmanager
def answering(status: int, body: bytes = b"{}", **headers: str) -> Iterator[RestClient]:
    """Yield a client of a server that gives this answer to everything."""

    @dataclass(slots=True)
    class Server(LocalServer):
        def handler(self) -> type[Handler]:
            class Same(Handler):
                def answer(self) -> None:
                    self.body()
                    self.send_content(status, body, {key.replace("_", "-"): value for key, value in headers.items()})

            return Same

    with Server() as server, RestClient(server.url) as client:
        yield client


@pytest.mark.parametrize("code", KINDS)
def test_error_answers(code: int) -> None:
    with answering(code, BODY) as client, pytest.raises(GoogleApiError) as caught:
        call("things.get", "things/1", lambda: client.get("/x").raise_for_status())
    error = caught.value
    assert type(error) is KINDS[code]
    assert (error.http, error.status) == (code, "SOME_STATUS")
    assert error.message == "things.get things/1: what happened"
    assert (error.method, error.resource) == ("things.get", "things/1")
    assert maybe_sent(error) == (code >= 500)


@pytest.mark.parametrize("body", [b"", b"<html>", b"[]", b'"text"', b'{"error":"text"}', b'{"error":{"message":null}}'])
def test_answers_that_are_not_googles(body: bytes) -> None:
    with answering(502, body) as client, pytest.raises(GoogleApiError) as caught:
        call("things.get", "x", lambda: client.get("/x").raise_for_status())
    assert caught.value.http == 502
    assert caught.value.message.startswith("things.get x: ")


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
    [(ConnectError("refused"), UnreachableError, False), (TransportError("reset"), ConnectionLostError, True)],
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


@dataclass(slots=True)
class Counted(LocalServer):
    """Answers with the statuses of `script`, one a request, then 200."""

    script: list[int] = field(default_factory=list)
    seen: list[str] = field(default_factory=list)

    def handler(self) -> type[Handler]:
        server = self

        class Scripted(Handler):
            def answer(self) -> None:
                server.seen.append(self.path)
                self.send_content(server.script.pop(0) if server.script else 200, b"{}", {"retry-after": "0"})

        return Scripted


@pytest.fixture
def server() -> Iterator[Counted]:
    with Counted() as running:
        yield running


def asked(server: Counted, *, idempotent: bool = True) -> dict[str, Any]:
    with RestClient(server.url) as client:
        answer = call("a", "b", lambda: client.get("/x").raise_for_status(), idempotent=idempotent)
    return document_of(answer, "a", "b")


@pytest.mark.parametrize("code", [408, 429, 500, 502, 503, 504])
def test_passing_failures_are_tried_again(code: int, server: Counted) -> None:
    server.script[:] = [code] * (failures.ATTEMPTS - 1)
    assert asked(server) == {}
    assert len(server.seen) == failures.ATTEMPTS


@pytest.mark.parametrize("code", [302, 400, 401, 403, 404, 409, 412, 501])
def test_refusals_are_not(code: int, server: Counted) -> None:
    server.script[:] = [code]
    with pytest.raises(GoogleApiError):
        asked(server)
    assert len(server.seen) == 1


def test_the_tries_are_bounded_and_a_create_has_one(server: Counted) -> None:
    for idempotent, tries in ((True, failures.ATTEMPTS), (False, 1)):
        server.script[:] = [503] * 20
        server.seen.clear()
        with pytest.raises(GoogleApiError):
            asked(server, idempotent=idempotent)
        assert len(server.seen) == tries


def test_pauses_are_bounded() -> None:
    for attempt in range(1, 40):
        assert 0 <= failures.pause(attempt, ValueError()) <= failures.LONGEST_PAUSE_SECONDS
    for text, expected in (("7", 7.0), ("100000", failures.LONGEST_PAUSE_SECONDS), ("-3", 0.0)):
        with answering(429, retry_after=text) as client:
            assert failures.pause(1, StatusError(client.get("/x"))) == expected


@pytest.mark.parametrize("body", [b"", b"<html></html>", b'{"a":', b"[]", b"[" * 100_000, b"\xff\xfe"])
def test_a_success_that_is_not_a_document_is_an_error_that_may_have_taken_effect(body: bytes) -> None:
    with answering(200, body) as client, pytest.raises(GoogleApiError) as caught:
        document_of(client.post("/x"), "things.create", "things")
    assert (caught.value.status, maybe_sent(caught.value)) == ("DATA_LOSS", True)


@pytest.mark.parametrize(
    ("http", "passes"), [(408, True), (429, True), (500, True), (503, True), (501, False), (404, False)]
)
def test_what_is_waited_out(http: int, passes: bool) -> None:
    assert failures.may_pass(failures.api_error(http, {}, method="m", resource="r")) is passes


def test_a_service_out_of_reach_is_waited_out_and_a_mistake_is_not() -> None:
    assert failures.may_pass(UnreachableError("gone"))
    assert not failures.may_pass(ConfigurationError("wrong"))
