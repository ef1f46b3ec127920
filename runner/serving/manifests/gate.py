"""The gate in a manifest's evaluation section: losses before a deployment, or answers before traffic."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runner.errors import ConfigurationError, GateFailedError

if TYPE_CHECKING:
    from collections.abc import Callable

    from runner.gcp.endpoints import DeployedModel, Endpoint
    from runner.gcp.session import Session
    from runner.gcp.tuning_jobs import TuningJob
    from runner.jobs.manifests.records import Run
    from runner.serving.evaluation import Question
    from runner.serving.saga import Check

LOSS_METRIC = "validationLoss"


def check_losses(session: Session, run: Run, job: TuningJob) -> None:
    """Raise GateFailedError if there is a maximum validation loss and the reported loss is not below it."""
    from runner.jobs.following.results import results_of

    if run.evaluation is None or run.evaluation.get("metric", LOSS_METRIC) != LOSS_METRIC:
        return
    limit = float(run.evaluation["maximum"])
    measured = results_of(session, job).losses("evaluation")
    if not measured:
        problem = "the service reported no validation loss, so the evaluation gate stays closed"
    elif measured[-1] > limit:
        problem = f"the validation loss {measured[-1]:.4f} is above the gate's {limit}"
    else:
        return
    raise GateFailedError(problem, hint="to deploy it anyway, run `runner endpoints deploy`")


def answers_check(session: Session, run: Run, job: TuningJob, tell: Callable[[str], None]) -> Check | None:
    """Return the check of the deployed model's answers before it has traffic; None if the section requires none.

    The check raises GateFailedError.

    Raises:
        ConfigurationError, DatasetError, GoogleApiError: the questions or the base do not exist.
    """
    wanted = run.evaluation
    if wanted is None or wanted.get("metric", LOSS_METRIC) == LOSS_METRIC:
        return None
    from runner.serving.comparing import hold_gate
    from runner.serving.contest import evaluate
    from runner.serving.respondents import Respondent, respondent

    questions = _questions(session, wanted, job)
    base = respondent(session, wanted["base_endpoint"], wanted["base_model"])

    def check(endpoint: Endpoint, model: DeployedModel) -> None:
        tell(f"sending {len(questions)} held-out questions to it and to {base.name}")
        tuned = Respondent(name=model.display_name or endpoint.id, endpoint=endpoint, deployed_model=model.id)
        sampling = {"max_tokens": int(wanted["max_tokens"])}
        found = evaluate(session, questions, base, tuned, primary=wanted["metric"], sampling=sampling)
        hint = "to deploy it anyway, run `runner endpoints deploy`; to compare again, run `runner eval`"
        hold_gate(found, wanted["require"], hint=hint)

    return check


def _questions(session: Session, wanted: dict[str, Any], job: TuningJob) -> list[Question]:
    from runner.gcp import downloads
    from runner.serving.questions import read_questions

    uri = wanted.get("questions") or job.validation_dataset_uri
    if not uri:
        raise ConfigurationError("the evaluation section names no questions, and the job has no validation file")
    with tempfile.TemporaryDirectory(prefix="runner-questions-") as folder:
        path = Path(folder, "questions.jsonl")
        path.write_bytes(downloads.read_bytes(session, uri))
        return read_questions(path, limit=int(wanted["limit"]))
