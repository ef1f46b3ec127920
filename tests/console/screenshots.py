"""The pictures of docs/console.md: `python -m tests.console.screenshots docs/images/console`.

They are of a real console on a real emulator with a tuned and deployed tiny model.
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from playwright.sync_api import Page, expect, sync_playwright

from runner.emulator.server import EmulatorServer
from runner.emulator.settings import EmulatorSettings
from runner.gcp.session import Session
from runner.gcp.tuning_jobs import TuningJob
from runner.jobs.following import watching
from runner.jobs.specification import TuningJobSpec
from runner.jobs.submitting import offers
from runner.jobs.submitting.offers import Request
from runner.prices import AGREED
from runner.quickstart.story import fast_story
from runner.serving import deployment, past_evaluations
from runner.serving.comparing import compare
from runner.serving.plan import plan_deployment
from tests.console.conftest import CHROMIUM
from tests.console.running import RunningConsole
from tests.projects import environment_of
from tests.provisioning import provision

SIZE = (1280, 860)
PHONE = (390, 844)


def tune(session: Session, folder: Path, name: str, *, rate: float, epochs: int) -> TuningJob:
    """Submit a job on the quickstart's few definitions."""
    story = fast_story(folder)
    rows = story.training.read_text("utf-8").splitlines()
    validation = folder / "validation.jsonl"
    validation.write_text("\n".join(rows[:3]) + "\n", "utf-8")
    spec = TuningJobSpec(
        base_model=story.base_model,
        mode="FULL",
        training_dataset=str(story.training),
        validation_dataset=str(validation),
        epochs=epochs,
        learning_rate=rate,
        batch_size=4,
        display_name=name,
        labels={"sweep": "rates"},
    )
    with offers.offered(session, Request(spec=spec)) as offer:
        return offers.carry_out(offer, terms=AGREED).job


@contextmanager
def stage() -> Iterator[tuple[RunningConsole, dict[str, str]]]:
    """Yield a console with something to see, and names of it."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        os.environ["RUNNER_STATE_DIR"] = str(folder / "state")
        settings = EmulatorSettings(directory=folder / "emulator", stand_in="tiny")
        emulator = stack.enter_context(EmulatorServer(settings))
        project = provision(emulator.url, "dictionary")
        session = stack.enter_context(Session(environment_of(project)))
        first = tune(session, folder, "devils-dictionary", rate=2e-4, epochs=40)
        watching.wait(session, first.name, 300, poll=0.5)
        slow = tune(session, folder, "devils-dictionary-slow", rate=2e-5, epochs=40)
        watching.wait(session, slow.name, 300, poll=0.5)
        endpoint = deployment.deploy(session, plan_deployment(session, first.name))
        other = plan_deployment(
            session, slow.name, checkpoint="4", display_name="devils-dictionary-early", lease_seconds=1
        )
        base = deployment.deploy(session, other)
        questions = folder / "questions.jsonl"
        questions.write_text(
            "\n".join(fast_story(folder).training.read_text("utf-8").splitlines()[:16]) + "\n", "utf-8"
        )
        asked = {"max_tokens": 24}
        evaluation = compare(session, questions, sampling=asked, endpoint=endpoint.id, base_endpoint=base.id)
        tune(session, folder, "devils-dictionary-long", rate=1e-4, epochs=100)
        names = {
            "job": first.id,
            "slow": slow.id,
            "endpoint": endpoint.id,
            "data": first.training_dataset_uri,
            "evaluation": past_evaluations.keep(session.environment, evaluation),
        }
        yield stack.enter_context(RunningConsole(session)), names


def talk(page: Page) -> None:
    """Ask one question in the playground."""
    page.get_by_label("max_tokens").fill("24")
    page.get_by_label("temperature").fill("0")
    page.get_by_label("Question").fill('Define the word "tomb".')
    page.get_by_label("Question").press("Enter")
    expect(page.locator("#talk-status")).to_have_text("Answered", timeout=60_000)


def main(target: Path) -> None:
    """Take all of them."""
    target.mkdir(parents=True, exist_ok=True)
    with stage() as (running, names), sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        state = browser.new_context()
        state.new_page().goto(running.access.address)
        chosen = f"base_model=meta/llama3_1@llama-3.1-8b-instruct&mode=FULL&training={names['data']}"
        pictures = {
            "overview": ("/", "light", SIZE),
            "tuning": ("/tuning", "light", SIZE),
            "job": (f"/tuning/jobs/{names['job']}?smoothing=0.6", "light", SIZE),
            "job-dark": (f"/tuning/jobs/{names['job']}", "dark", SIZE),
            "compare": (f"/tuning/compare?job={names['job']}&job={names['slow']}", "light", SIZE),
            "data": (f"/tuning/create/data?{chosen}", "light", SIZE),
            "review": (f"/tuning/create/review?{chosen}&epochs=3", "light", SIZE),
            "deploy": (f"/models/deploy/review?source={names['job']}", "light", SIZE),
            "playground": (f"/endpoints/{names['endpoint']}/playground", "light", SIZE),
            "endpoint": (f"/endpoints/{names['endpoint']}", "light", SIZE),
            "evaluation": (f"/evaluations/{names['evaluation']}", "light", SIZE),
            "bill": ("/bill", "light", SIZE),
            "phone": (f"/tuning/jobs/{names['job']}", "dark", PHONE),
        }
        for name, (path, mode, (width, height)) in pictures.items():
            context = browser.new_context(
                base_url=running.url,
                storage_state=state.storage_state(),
                color_scheme="dark" if mode == "dark" else "light",
                viewport={"width": width, "height": height},
            )
            page = context.new_page()
            page.goto(path)
            page.wait_for_load_state("networkidle")
            if name == "tuning":  # the small pictures come with the first look after the page
                expect(page.locator(".spark")).to_have_count(3)
            if name == "playground":
                talk(page)
            if name == "data":
                page.locator("#live").scroll_into_view_if_needed()
                page.locator("#live").evaluate("element => element.scrollIntoView()")
            page.screenshot(path=str(target / f"{name}.png"))
            context.close()
        browser.close()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
