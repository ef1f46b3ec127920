"""Logging in by the key of a service account: the same requests as google-auth's, and google-auth for all else."""

from __future__ import annotations

import base64
import json
import re
import socket
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from google.auth import jwt
from google.oauth2 import credentials, service_account

from runner.environment import Environment
from runner.errors import PermissionDeniedError, RunnerError
from runner.gcp import google_login, login
from runner.gcp.session import Session
from tests.local_server import Handler, LocalServer

KEY = rsa.generate_private_key(65537, 2048)


def pem(key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey = KEY) -> str:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()


@dataclass(slots=True)
class TokenServer(LocalServer):
    """Gives out tokens after the answers that were put in."""

    statuses: list[int] = field(default_factory=list)
    answer: dict[str, Any] = field(default_factory=lambda: {"access_token": "t0", "expires_in": 3600})
    asked: list[dict[str, list[str]]] = field(default_factory=list)
    days: int = 0
    """By how much its clock is ahead."""

    def handler(self) -> type[Handler]:
        """Return what answers."""
        server = self

        class Answering(Handler):
            def date_time_string(self, timestamp: float | None = None) -> str:
                return super().date_time_string(time.time() + server.days * 86400)

            def answer(self) -> None:
                server.asked.append(parse_qs(self.body().decode()))
                status = server.statuses.pop(0) if server.statuses else 200
                self.send_json(
                    status, server.answer if status == 200 else {"error": "invalid_grant", "error_description": "no"}
                )

        return Answering


@pytest.fixture
def info(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(tmp_path / "key.json"))
    return {
        "type": "service_account",
        "project_id": "p",
        "private_key_id": "0a1b",
        "private_key": pem(),
        "client_email": "robot@p.iam.gserviceaccount.com",
        "token_uri": "https://oauth2.googleapis.com/token",
    }


def found(info: Any, tmp_path: Path) -> login.Login:
    (tmp_path / "key.json").write_text(json.dumps(info))
    return Session(Environment(project="p")).credentials


def test_the_assertion_is_google_auths(info: dict[str, Any], tmp_path: Path) -> None:
    key = found(info, tmp_path)
    assert isinstance(key, login.ServiceAccountKey)
    theirs = service_account.Credentials.from_service_account_info(info, scopes=[login.SCOPE])
    wanted = theirs._make_authorization_grant_assertion().decode()
    claims = jwt.decode(wanted, verify=False)
    assert key.assertion(claims["iat"]) == wanted
    for part in wanted.split(".")[:2]:
        assert json.loads(base64.urlsafe_b64decode(part + "=="))


def test_a_token_is_asked_for_and_ends(info: dict[str, Any], tmp_path: Path) -> None:
    with TokenServer(statuses=[503]) as server:
        key = found({**info, "token_uri": server.url}, tmp_path)
        assert not key.valid
        key.refresh()
        assert (key.token, key.valid) == ("t0", True)
        assert [asked["grant_type"] for asked in server.asked] == [["urn:ietf:params:oauth:grant-type:jwt-bearer"]] * 2
        server.answer = {"access_token": "t1", "expires_in": int(login.EARLY_SECONDS)}
        key.refresh()
        assert (key.token, key.valid) == ("t1", False)


@pytest.mark.parametrize("status", [400, 401, 403, 404])
def test_a_refused_key_says_how_to_log_in(info: dict[str, Any], tmp_path: Path, status: int) -> None:
    with TokenServer(statuses=[status]) as server:
        key = found({**info, "token_uri": server.url}, tmp_path)
        with pytest.raises(PermissionDeniedError, match="cannot be refreshed") as caught:
            key.refresh()
    assert "gcloud auth application-default login" in str(caught.value.hint)
    assert "invalid_grant: no" in caught.value.message
    assert len(server.asked) == 1


def ours_or_googles(kind: str, info: dict[str, Any], tmp_path: Path) -> login.Login:
    """Return the login of a key file, read here or by google-auth."""
    ours = found(info, tmp_path)
    if kind == "ours":
        return ours
    theirs = service_account.Credentials.from_service_account_file(str(tmp_path / "key.json"), scopes=[login.SCOPE])
    return google_login.DefaultLogin(theirs)


@pytest.mark.parametrize("kind", ["ours", "google-auth's"])
@pytest.mark.parametrize(("days", "words"), [(-2, "ahead of"), (3, "behind"), (0, "")])
def test_a_refusal_names_the_file_and_a_clock_that_is_off(
    kind: str, days: int, words: str, info: dict[str, Any], tmp_path: Path
) -> None:
    with TokenServer(statuses=[400], days=days) as server:
        login_ = ours_or_googles(kind, {**info, "token_uri": server.url}, tmp_path)
        with pytest.raises(PermissionDeniedError, match="invalid_grant") as caught:
            login_.refresh()
    assert str(tmp_path / "key.json") in caught.value.message
    if words:
        assert re.search(rf"this machine's clock is [23] d \d+ h {words} the service's", caught.value.message)
        assert "timedatectl" in str(caught.value.hint)
    else:
        assert "clock" not in caught.value.message
        assert "gcloud auth application-default login" in str(caught.value.hint)


def test_a_refusal_of_gclouds_login_names_its_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GOOGLE_APPLICATION_CREDENTIALS", raising=False)
    monkeypatch.setenv("CLOUDSDK_CONFIG", str(tmp_path))
    file = tmp_path / "application_default_credentials.json"
    with TokenServer(statuses=[400, 400]) as server:
        user = credentials.Credentials(None, refresh_token="r", token_uri=server.url, client_id="c", client_secret="s")
        for place in ("metadata server", str(file)):
            with pytest.raises(PermissionDeniedError, match=re.escape(place)):
                google_login.DefaultLogin(user).refresh()
            file.touch()


@pytest.mark.parametrize("kind", ["ours", "google-auth's"])
@pytest.mark.parametrize("address", ["http://evil.example/t", "ftp://evil.example/", "evil.example", "http://[", ""])
def test_secrets_are_sent_by_tls_or_to_this_machine(
    kind: str, address: str, info: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Any] = []
    monkeypatch.setattr(socket, "getaddrinfo", lambda host, *_, **__: asked.append(host))
    with pytest.raises(PermissionDeniedError):
        ours_or_googles(kind, {**info, "token_uri": address}, tmp_path).refresh()
    assert asked == []


@pytest.mark.parametrize("answer", [{}, {"access_token": ""}, {"access_token": "t", "expires_in": "soon"}])
def test_an_answer_without_a_token_is_a_refusal(info: dict[str, Any], tmp_path: Path, answer: dict[str, Any]) -> None:
    with TokenServer(answer=answer) as server:
        key = found({**info, "token_uri": server.url}, tmp_path)
        with pytest.raises(RunnerError):
            key.refresh()
    assert not key.valid


def test_a_damaged_key_signs_nothing(info: dict[str, Any], tmp_path: Path) -> None:
    numbers = KEY.private_numbers()
    wrong = rsa.RSAPrivateNumbers(
        numbers.p, numbers.q, numbers.d + 2, numbers.dmp1 + 2, numbers.dmq1, numbers.iqmp, numbers.public_numbers
    )
    damaged = wrong.private_key(unsafe_skip_rsa_key_validation=True)
    with TokenServer() as server:
        key = found({**info, "private_key": pem(damaged), "token_uri": server.url}, tmp_path)
        with pytest.raises(PermissionDeniedError, match="is damaged"):
            key.refresh()
        assert not server.asked


@pytest.mark.parametrize(
    "changes",
    [
        {"type": "authorized_user", "client_id": "c", "client_secret": "s", "refresh_token": "r"},
        {"universe_domain": "example.com"},
        {"private_key": "no key"},
        {"private_key": pem(ec.generate_private_key(ec.SECP256R1()))},
        {"token_uri": None},
        {"client_email": None},
        {"type": "what"},
    ],
)
def test_google_auth_reads_all_other_credentials(info: dict[str, Any], tmp_path: Path, changes: dict[str, Any]) -> None:
    body = {name: value for name, value in {**info, **changes}.items() if value is not None}
    with suppress(PermissionDeniedError):  # which google-auth refuses
        assert not isinstance(found(body, tmp_path), login.ServiceAccountKey)


def test_a_key_file_that_is_missing_is_told(info: dict[str, Any]) -> None:
    with pytest.raises(PermissionDeniedError, match="no Google credentials"):
        _ = Session(Environment(project="p")).credentials
