"""A console on a project of the emulator, and a browser that looks at it."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Page, expect, sync_playwright

from runner.emulator.server import EmulatorServer
from runner.gcp.session import Session
from tests.console.running import RunningConsole
from tests.jobs.conftest import untrained
from tests.projects import Tuned, environment_of, train_small
from tests.provisioning import Provisioned

__all__ = ["untrained"]

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
Open = Callable[..., Page]
expect.set_options(timeout=60_000)  # a state is waited for, on a machine with much else to do


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Debian's Chromium. For a module only: Playwright's loop would be in the way of other tests' own."""
    if CHROMIUM is None:
        pytest.skip("needs Chromium")
    with sync_playwright() as playwright:
        # Without what grows: the machine of CI has little shared memory.
        options = ["--no-sandbox", "--disable-dev-shm-usage"]
        started = playwright.chromium.launch(executable_path=CHROMIUM, args=options)
        yield started
        started.close()


@pytest.fixture
def session(project: Provisioned, state_directory: Path) -> Iterator[Session]:
    """A session on a project of its own."""
    with Session(environment_of(project)) as opened:
        yield opened


@pytest.fixture
def console(session: Session) -> Iterator[RunningConsole]:
    """A console on an empty project."""
    with RunningConsole(session) as running:
        yield running


@pytest.fixture(scope="session")
def tuned(emulator: EmulatorServer, tmp_path_factory: pytest.TempPathFactory) -> Tuned:
    """One tuned model for the console's tests of a process."""
    return train_small(emulator, tmp_path_factory.mktemp("state"), f"console-{os.getpid()}")


@pytest.fixture
def idle_console(untrained: Session) -> Iterator[RunningConsole]:
    """A console on a project whose jobs wait for ever."""
    with RunningConsole(untrained) as running:
        yield running


class Complaints(list[str]):
    """What browsers complained of: scripts, the policy, files that are not there."""


@pytest.fixture
def complaints() -> Complaints:
    return Complaints()


@pytest.fixture
def open_page(browser: Browser, complaints: Complaints) -> Iterator[Open]:
    """Opens a console in a browser of its own, with a session; nothing may complain."""
    contexts: list[BrowserContext] = []

    def complain(message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            complaints.append(message.text)

    def open_console(running: RunningConsole, path: str = "/", *, first: str = "/", **options: object) -> Page:
        context = browser.new_context(base_url=running.url, **options)  # type: ignore[arg-type]
        contexts.append(context)
        context.set_default_timeout(120_000)
        page = context.new_page()
        page.on("console", complain)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("dialog", lambda dialog: complaints.append(f"dialog: {dialog.message}"))
        # Heard from the start: Playwright tells the browser not to open its own dialog only while somebody listens, and
        # an Enter that is pressed in the same moment as the listening begins can get there first.
        page.on("filechooser", lambda _: None)
        if first == "/":
            page.goto(running.access.address)
            page.wait_for_url("**/")
        else:  # the overview would ask the service
            context.request.get(running.access.address)
        if path != "/":
            page.goto(path)
        return page

    yield open_console
    for context in contexts:
        context.close()
    assert list(complaints) == []
