"""Who is answered: each request is made over a socket, as a browser or an attacker would make it."""

from __future__ import annotations

import hashlib
import html
import os
import re
import tempfile
from collections.abc import Iterator
from importlib import resources
from pathlib import Path

import httpx
import pytest
from playwright.sync_api import Browser, expect

from runner.console import application
from runner.console.application import FORM_BYTES
from runner.console.pages import load_assets
from runner.console.security import POLICY
from runner.emulator.server import EmulatorServer
from runner.gcp import tuning_jobs
from runner.gcp.session import Session
from tests.console.running import RunningConsole
from tests.loopback import NO_TLS
from tests.projects import environment_of
from tests.provisioning import provision

ROUTES = application._routes()
READ = sorted(route.path for route in ROUTES if "GET" in (route.methods or ()))
CHANGE = sorted(route.path for route in ROUTES if "POST" in (route.methods or ()))
CHANGING = ("/tuning/create", "/models/deploy", "/evaluations/new")
"""Where the ways to a change begin."""
FILLED = {"{id:resource}": "1", "{form}": "json", "{digest}": "0", "{name:path}": "console.css"}


@pytest.fixture(scope="module")
def idle_client(emulator: EmulatorServer) -> Iterator[httpx.Client]:
    """Asks a console on an empty project."""
    environment = environment_of(provision(emulator.url, f"odd-{os.getpid()}"))
    with Session(environment) as session, RunningConsole(session) as running, running.client() as client:
        yield client


def filled(path: str) -> str:
    for name, value in FILLED.items():
        path = path.replace(name, value)
    return path


def test_nothing_is_shown_without_a_session(console: RunningConsole) -> None:
    for path in READ:
        if path.startswith(("/static", "/open")):
            continue
        answer = httpx.get(console.url + filled(path), timeout=120)
        assert (answer.status_code, "has no session" in answer.text) == (403, True), path
        assert console.console.target.project not in answer.text


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"origin": "https://evil.example"},
        {"origin": "null", "sec-fetch-site": "same-origin"},
        {"origin": "http://127.0.0.1:1"},
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site"},
        {"sec-fetch-site": "none"},
        {"origin": "http://evil.example", "sec-fetch-site": "same-origin"},
    ],
    ids=str,
)
def test_other_pages_change_nothing(console: RunningConsole, headers: dict[str, str]) -> None:
    with console.client() as client:
        for name in ("origin", "sec-fetch-site"):
            del client.headers[name]
        for path in CHANGE:
            answer = client.post(filled(path), headers=headers, data={"once": "x"})
            refused = (403, "only the console's own pages may change anything\n")
            assert (answer.status_code, answer.text) == refused, path


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1", "127.0.0.1:1", "localhost.evil.example:{port}", "[::1]"])
def test_a_rebound_name_is_refused_everywhere(console: RunningConsole, host: str) -> None:
    with console.client() as client:
        for path, method in [*((path, "GET") for path in READ), *((path, "POST") for path in CHANGE)]:
            answer = client.request(method, filled(path), headers={"host": host.format(port=console.port)})
            assert (answer.status_code, answer.text) == (400, "this host is not served here\n"), path


def test_other_methods_are_refused(console: RunningConsole) -> None:
    with console.client() as client:
        for method in ("PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "PROPFIND"):
            assert client.request(method, "/").status_code == 405


def test_the_address_works_once_and_the_next_one_is_told(console: RunningConsole) -> None:
    address = console.access.address
    first = httpx.get(address, timeout=120)
    assert (first.status_code, "url=/" in first.text) == (200, True)
    cookie = first.headers["set-cookie"]
    assert cookie.startswith(f"runner_console_{console.port}=")
    assert {"HttpOnly", "SameSite=strict", "Path=/"} <= set(cookie.split("; "))
    assert httpx.get(address, timeout=120).status_code == 403
    assert console.announced == [console.access.address]
    assert console.access.address != address
    assert httpx.get(console.url, headers={"cookie": cookie.split(";")[0]}, timeout=120).status_code == 200


@pytest.mark.parametrize("given", ["", "x", "0" * 43])
def test_a_guessed_session_is_none(console: RunningConsole, given: str) -> None:
    assert (
        httpx.get(console.url, headers={"cookie": f"runner_console_{console.port}={given}"}, timeout=120).status_code
        == 403
    )
    assert httpx.get(f"{console.url}/open", params={"token": given}, timeout=120).status_code == 403


def test_every_answer_says_what_its_page_may_do(console: RunningConsole) -> None:
    with console.client() as client:
        answers = [client.get(filled(path)) for path in READ]
        answers += [client.get("/no/such/page"), client.get("/", headers={"host": "evil.example"})]
    for answer in answers:
        assert answer.headers["content-security-policy"] == POLICY
        assert "unsafe" not in POLICY
        assert answer.headers["x-frame-options"] == "DENY"
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["referrer-policy"] == "same-origin"
        assert answer.headers["cross-origin-opener-policy"] == "same-origin"
        assert answer.headers["cross-origin-resource-policy"] == "same-origin"
        assert "access-control-allow-origin" not in answer.headers
        if answer.request.url.path.startswith("/static/"):
            continue
        assert answer.headers["cache-control"] == "no-store"


def test_pages_hold_no_script_no_style_and_no_address_of_the_outside(console: RunningConsole) -> None:
    secret = console.access.address.partition("=")[2]
    with console.client() as client:
        for path in READ:
            text = client.get(filled(path)).text
            assert not re.search(r"<style|\sstyle=|\son[a-z]+=|javascript:|<script(?![^>]*\ssrc=)", text), path
            assert not re.search(r'(?:src|href|action|hx-get)="(?:https?:)?//', text), path
            assert secret not in text


def test_looking_changes_nothing(idle_console: RunningConsole, untrained: Session) -> None:
    def everything() -> object:
        with httpx.Client(base_url=untrained.environment.vertex_base, timeout=120) as plain:
            parent = f"/v1beta1/{untrained.environment.parent}"
            return [plain.get(f"{parent}/{kind}").json() for kind in ("tuningJobs", "endpoints", "models")]

    before = everything()
    with idle_console.client() as client:
        for path in READ:
            for query in ("", "?base_model=meta/llama3_1@llama-3.1-8b&training=gs://a-bucket/b.jsonl&resource=x&q=x"):
                client.get(filled(path) + query)
                client.head(filled(path) + query)
    assert everything() == before


def test_bodies_are_bounded(console: RunningConsole) -> None:
    with console.client() as client:
        answer = client.post("/bill/clean", data={"resource": "x" * (FORM_BYTES + 1)})
    assert answer.status_code == 413
    assert answer.headers["content-security-policy"] == POLICY
    assert re.search(r"a file of 1\.0 GiB, pictures of 32\.0 MiB, texts of 1\.0 MiB", answer.text)


@pytest.mark.parametrize("name", ["lease", "idle", "percent", "machine_type", "checkpoint", "endpoint", "source"])
@pytest.mark.parametrize("value", ["abc", "²", "-1", "9" * 5000, "9" * 400 + "d", "\x00", "x" * 3000])
def test_nothing_that_a_deployment_is_given_is_a_bug(idle_client: httpx.Client, name: str, value: str) -> None:
    answer = idle_client.get("/models/deploy/review", params={"source": "gs://no-such-bucket/weights", name: value})
    assert "internal error" not in answer.text


@pytest.mark.parametrize("agreed", ["abc", "nan", "-1", "inf", "1e400"])
def test_a_price_that_is_none_is_refused(idle_client: httpx.Client, agreed: str) -> None:
    answer = idle_client.post("/models/deploy/review", data={"source": "gs://a/b", "agreed": agreed, "once": "x"})
    assert (answer.status_code, "is not a price" in answer.text) == (400, True)


@pytest.mark.parametrize(
    ("path", "given"),
    [
        (
            "/tuning/create/review",
            {"base_model": "meta/llama3_1@llama-3.1-8b-instruct", "training": "gs://abc/d", "display_name": "my name"},
        ),
        ("/models/deploy/review", {"source": "gs://abc/weights", "display_name": "my name"}),
    ],
)
def test_a_form_of_an_earlier_console_can_be_tried_again(
    idle_client: httpx.Client, path: str, given: dict[str, str]
) -> None:
    answer = idle_client.post(path, data={**given, "once": "1-2-3", "agreed": "0.5"})
    assert answer.status_code in (400, 404)
    [again] = re.findall(r'href="([^"]+)">Try again', answer.text)
    page = idle_client.get(html.unescape(again))
    assert (page.status_code, "my name" in page.text) == (200, True)


@pytest.mark.parametrize("role", ["training", "validation"])
@pytest.mark.parametrize("path", ["/etc/hostname", "train.jsonl", "../train.jsonl", "x" * 3000, "~/train.jsonl"])
def test_data_is_never_a_file_of_this_machine(idle_client: httpx.Client, role: str, path: str) -> None:
    given = {"base_model": "meta/llama3_1@llama-3.1-8b-instruct", "training": "gs://a/b.jsonl", role: path}
    for step in ("data", "review"):
        page = idle_client.get(f"/tuning/create/{step}", params=given)
        assert (page.status_code, "is not gs://BUCKET/NAME" in page.text) == (200, True), step


@pytest.mark.parametrize("name", ["evil.exe", "../../etc/passwd", "x.jsonl/../../y", "\u202egnp.jsonl.exe", ""])
def test_names_of_uploads_are_the_consoles_own(console: RunningConsole, name: str) -> None:
    with console.client() as client:
        files = {"training_file": (name or "blob", b'{"prompt": "a", "completion": "b"}\n')}
        answer = client.post("/datasets", files=files)
    assert answer.status_code == 400
    assert "datasets end in" in answer.text


def test_what_is_no_fault_of_the_disk_is_not_told_as_one(
    session: Session, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with RunningConsole(session) as running, running.client() as client:
        [folder] = tmp_path.glob("runner-console-*")
        folder.rmdir()  # as what tidies up a temporary directory does
        answer = client.post("/datasets", files={"training_file": ("train.jsonl", b"{}")})
    assert (answer.status_code, "free some space" in answer.text) == (500, False)
    assert "FileNotFoundError" in answer.text
    assert "bug while answering POST /datasets" in caplog.text


def test_a_read_only_console_refuses_every_change(session: Session) -> None:
    with RunningConsole(session, read_only=True) as running, running.client() as client:
        for path in CHANGE:
            answer = client.post(filled(path), data={"once": "x"})
            assert (answer.status_code, "read-only" in answer.text) == (403, True), path
        assert "read-only" in client.get("/").text
        assert '<form method="post"' not in client.get("/tuning/create/review").text


def test_a_read_only_console_offers_no_change(session: Session) -> None:
    """On no page that can be reached from the first one: what a read-only console shows can be used."""
    seen: set[str] = set()
    base = f"{session.environment.vertex_base}/v1beta1/{session.environment.parent}/endpoints"
    httpx.post(
        base, params={"endpointId": "one"}, json={"displayName": "one"}, verify=NO_TLS, timeout=120
    ).raise_for_status()
    asked = [path.replace("{id:resource}", "one") for path in READ if path.startswith("/endpoints/{id:resource}")]
    ahead = ["/", *asked]
    with RunningConsole(session, read_only=True) as running, running.client() as client:
        while ahead and len(seen) < 80:
            path = ahead.pop(0)
            seen.add(path)
            text = client.get(path).text
            assert 'method="post"' not in text, path
            links = [html.unescape(link) for link in re.findall(r'href="(/[^"#]*)"', text)]
            assert not [link for link in links if link.startswith(CHANGING)], path
            ahead += [link for link in dict.fromkeys(links) if link not in seen and link not in ahead]
    assert len(seen) > 10


def test_a_form_is_sent_once(idle_console: RunningConsole, untrained: Session) -> None:
    with idle_console.client() as client:
        sent = {"training_file": ("train.jsonl", b'{"prompt": "a", "completion": "b"}\n' * 1)}
        model = "meta/llama3_1@llama-3.1-8b-instruct"
        page = client.post("/tuning/create/data", files=sent, data={"base_model": model})
        review = client.get(str(page.url).replace("/create/data", "/create/review") + "&force_new=1")
        fields = dict(re.findall(r'<input type="hidden" name="([a-z_]+)" value="([^"]*)"', review.text))
        assert {"once", "agreed", "training"} <= set(fields), review.text
        first = client.post("/tuning/create/review", data=fields)
        again = [client.post("/tuning/create/review", data=fields) for _ in range(3)]
        assert {answer.status_code for answer in (first, *again)} == {200}
        assert len(tuning_jobs.list_jobs(untrained)) == 1
        forged = {**fields, "once": fields["once"][:-1] + ("0" if fields["once"][-1] != "0" else "1")}
        assert client.post("/tuning/create/review", data=forged).status_code == 400
        # A token of one form is none for another.
        assert client.post("/bill/clean", data={"once": fields["once"]}).status_code == 400
        dearer = dict(re.findall(r'<input type="hidden" name="([a-z_]+)" value="([^"]*)"', client.get(review.url).text))
        refused = client.post("/tuning/create/review", data={**dearer, "agreed": "0.0000001"})
        assert "more than the price that was shown" in refused.text
    assert len(tuning_jobs.list_jobs(untrained)) == 1


def test_vendored_files_are_what_was_taken_over() -> None:
    folder = resources.files("runner.console").joinpath("static/vendor")
    lines = folder.joinpath("SHA256SUMS").read_text().splitlines()
    listed = {name: digest for digest, name in map(str.split, lines)}
    files = {item.name for item in folder.iterdir()}
    assert files - set(listed) == {"SHA256SUMS", "htmx-LICENSE.txt", "uplot-LICENSE.txt"}
    for name, digest in listed.items():
        assert hashlib.sha256(folder.joinpath(name).read_bytes()).hexdigest() == digest
    assert sum(len(asset.content) for asset in load_assets().values()) < 200_000


def test_a_link_of_another_page_opens_it_too(console: RunningConsole, browser: Browser) -> None:
    """A terminal in a web page is another site: its link leads here without cookies, the next step has them."""
    context = browser.new_context()
    page = context.new_page()
    page.route(
        "http://elsewhere.example/",
        lambda route: route.fulfill(body=f'<a href="{console.access.address}">go</a>', content_type="text/html"),
    )
    page.goto("http://elsewhere.example/")
    page.get_by_role("link", name="go").click()
    expect(page.get_by_role("heading", name="Overview")).to_be_visible()
    context.close()


@pytest.mark.parametrize(
    ("method", "path", "status", "title"),
    [
        ("GET", "/nowhere", 404, "Not found"),
        ("GET", "/endpoints/4711", 404, "Not found"),
        ("POST", "/tuning", 405, "Not allowed"),
    ],
)
def test_a_page_of_an_error_is_titled_after_it(
    method: str, path: str, status: int, title: str, idle_client: httpx.Client
) -> None:
    answer = idle_client.request(method, path)
    assert answer.status_code == status
    assert f"<title>{title}" in answer.text
    assert f"<h1>{title}</h1>" in answer.text
