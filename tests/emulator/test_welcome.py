"""What a browser sees at the emulator's address."""

from __future__ import annotations

import httpx

from runner.emulator.server import EmulatorServer

BROWSER = {"accept": "text/html,application/xhtml+xml;q=0.9,*/*;q=0.8"}


def test_a_browser_gets_a_page_that_leads_to_the_console(emulator: EmulatorServer) -> None:
    answer = httpx.get(emulator.url, headers=BROWSER, timeout=120)
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/html")
    assert "runner console --open" in answer.text
    assert "unsafe" not in answer.headers["content-security-policy"]


def test_programs_and_pages_of_others_do_not(emulator: EmulatorServer) -> None:
    assert "text/html" not in httpx.get(emulator.url, timeout=120).headers["content-type"]
    evil = {**BROWSER, "sec-fetch-site": "cross-site"}
    assert httpx.get(emulator.url, headers=evil, timeout=120).status_code == 403
    assert httpx.get(emulator.url, headers={**BROWSER, "host": "evil.example"}, timeout=120).status_code == 421
