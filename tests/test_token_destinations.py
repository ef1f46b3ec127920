"""Where an access token may go: to Google by TLS, to this machine, or to an address that the user named."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from runner import environment
from runner.errors import ConfigurationError

ADDRESSES = {"vertex": ("vertex_url", "RUNNER_VERTEX_URL"), "storage": ("storage_url", "RUNNER_STORAGE_URL")}
LOCAL = ("http://127.0.0.1:8085", "http://localhost:1", "http://[::1]:8085", "http://127.8.9.1", "https://localhost")
GOOGLE = (
    "https://us-central1-aiplatform.googleapis.com",
    "https://storage-x.p.googleapis.com",
    "https://a.googleapis.com:443",
)
ELSEWHERE = (
    "https://evil.example", "https://googleapis.com.evil.example", "https://evilgoogleapis.com", "https://10.0.0.7",
    "https://localhost.evil.example", "https://127.0.0.1.evil.example", "https://metadata.google.internal",
)  # fmt: skip
PLAIN = (
    "http://us-central1-aiplatform.googleapis.com",
    "http://evil.example",
    "http://10.0.0.7:8085",
    "http://0.0.0.0:1",
)


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for setting in environment.SETTINGS:
        monkeypatch.delenv(setting.variable, raising=False)
    monkeypatch.setenv("RUNNER_STATE_DIR", str(tmp_path / "state"))
    monkeypatch.setenv("RUNNER_TOKEN", "ya29.secret")


def document(which: str, url: str) -> bytes:
    return json.dumps({"version": 1, "project": "demo-project", "apiEndpoints": {which: url}}).encode()


def from_bucket(which: str, url: str, **flags: str) -> environment.Environment:
    return environment.resolve(
        {"environment": "gs://bucket/environment.json", **flags}, read_object=lambda _: document(which, url)
    )


@pytest.mark.parametrize("which", ADDRESSES)
@pytest.mark.parametrize("url", [*LOCAL, *GOOGLE])
def test_a_document_may_name_google_and_this_machine(which: str, url: str) -> None:
    assert getattr(from_bucket(which, url), ADDRESSES[which][0]) == url


@pytest.mark.parametrize("which", ADDRESSES)
@pytest.mark.parametrize("url", [*ELSEWHERE, *PLAIN])
def test_a_document_cannot_send_the_token_elsewhere(which: str, url: str, tmp_path: Path) -> None:
    (tmp_path / "environment.json").write_bytes(document(which, url))
    with pytest.raises(ConfigurationError) as bucket:
        from_bucket(which, url)
    with pytest.raises(ConfigurationError) as file:
        environment.resolve({"environment": str(tmp_path / "environment.json")})
    for caught in (bucket, file):
        assert url in caught.value.message
        assert "ya29" not in str(caught.value.to_json())
        if url in ELSEWHERE:
            assert ADDRESSES[which][1] in caught.value.message


@pytest.mark.parametrize("which", ADDRESSES)
@pytest.mark.parametrize("url", ELSEWHERE)
def test_what_the_user_names_is_trusted_by_tls(which: str, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    field, variable = ADDRESSES[which]
    assert getattr(from_bucket(which, "https://other.example", **{field: url}), field) == url
    monkeypatch.setenv(variable, url)
    assert getattr(from_bucket(which, "https://other.example"), field) == url


@pytest.mark.parametrize("url", PLAIN)
def test_plain_http_leaves_this_machine_for_nobody(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigurationError, match="without TLS"):
        environment.resolve({"vertex_url": url})
    monkeypatch.setenv("RUNNER_STORAGE_URL", url)
    with pytest.raises(ConfigurationError, match="without TLS"):
        environment.resolve({})


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.text(st.sampled_from("abz09.-:@/[]%#?\\ "), max_size=30), st.sampled_from(["http://", "https://"]))
def test_no_spelling_gets_past(text: str, scheme: str) -> None:
    """Whatever is accepted from a document goes to Google or to this machine, by the parser that sends it."""
    import httpx

    try:
        found = from_bucket("vertex", scheme + text).vertex_base
    except ConfigurationError:
        return
    host = httpx.URL(found).host
    assert host == "localhost" or host.startswith("127.") or host == "::1" or host.endswith(".googleapis.com")
