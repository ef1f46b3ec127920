"""`runner jobs`: the group, and shared texts of its commands."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from runner.cli.commands import Group
from runner.wording import state_words, tokens_of

if TYPE_CHECKING:
    import datetime

    from runner.gcp.session import Session
    from runner.gcp.tuning_jobs import TuningJob

command = Group(
    name="jobs",
    help="Submit, follow and cancel tuning jobs. JOB is an ID or its beginning, a name, or `latest`.",
    examples=(
        "runner jobs submit --model meta/llama3_1@llama-3.1-8b-instruct --train train.jsonl --max-cost 20",
        "runner jobs watch latest",
        "runner jobs ls -q | xargs runner jobs wait",
    ),
    lazy={
        "submit": ("runner.cli.jobs.submit:submit", "Submit a job once, after you confirm its price."),
        "ls": ("runner.cli.jobs.read:ls", "List jobs, newest first."),
        "show": ("runner.cli.jobs.read:show", "Show the details of a job."),
        "watch": ("runner.cli.jobs.follow:watch", "Show a job's progress until it ends."),
        "wait": ("runner.cli.jobs.follow:wait", "Wait until jobs have ended; the exit code reports the result."),
        "why": (
            "runner.cli.jobs.why:why",
            "Explain why a job failed, waits or dropped examples, and what to run next.",
        ),
        "logs": ("runner.cli.jobs.read:logs", "Print a job's events, and its log if the service has one."),
        "metrics": ("runner.cli.jobs.metrics:metrics", "Export a job's losses as CSV or JSON Lines."),
        "export": ("runner.cli.jobs.export:export", "Export losses to TensorBoard, MLflow or W&B."),
        "diff": ("runner.cli.jobs.metrics:diff", "Compare two jobs: configuration, data, results."),
        "compare": ("runner.cli.jobs.compare:compare", "Rank jobs by validation loss and price."),
        "clone": ("runner.cli.jobs.change:clone", "Submit a job like another, with some values changed."),
        "cancel": ("runner.cli.jobs.change:cancel", "Cancel a job and show what is billed."),
    },
)


def moment(value: datetime.datetime | None) -> str | None:
    """Return a time in UTC to the second."""
    return value.isoformat(sep=" ", timespec="seconds").replace("+00:00", "Z") if value else None


def job_name(session: Session, text: str) -> str:
    """Return the job's name for the library; `latest` is the newest. Raises NotFoundError if there is none."""
    from runner.jobs import naming

    return naming.job_name(session, text)


def found_job(session: Session, text: str) -> TuningJob:
    """Return the job in a command line. Raises NotFoundError."""
    from runner.gcp import tuning_jobs

    return tuning_jobs.get(session, job_name(session, text))


def _rate(job: TuningJob) -> str | None:
    """Return the learning rate of a job, and its value for the stand-in."""
    if job.learning_rate is None:
        return None
    scaled = f" (the stand-in trains at up to {job.rate_scale:g} times this rate)" if job.rate_scale != 1 else ""
    return f"{job.learning_rate:g}{scaled}"


def described(job: TuningJob) -> list[tuple[str, Any]]:
    """Return the displayed values of a job."""
    error = f"{job.error_message} (code {job.error_code})" if job.error_message or job.error_code else None
    stats = job.data_stats
    tokens = stats.get("totalBillableTokenCount")
    return [
        ("id", job.id),
        ("name", job.display_name),
        ("state", state_words(job.state)),
        ("detail", state_words(job.detail_state) if job.detail_state else None),
        ("error", error),
        ("model", job.base_model),
        ("stand-in" if job.stand_in else "really trained", job.emulator.get("weights")),
        ("custom weights", job.custom_base_model),
        ("mode", job.mode),
        ("epochs", job.epochs),
        ("learning rate", _rate(job)),
        ("adapter size", job.adapter_size),
        ("batch size", job.batch_size),
        ("training data", job.training_dataset_uri),
        ("validation data", job.validation_dataset_uri),
        ("examples", stats.get("tuningDatasetExampleCount")),
        ("billable tokens", tokens_of(int(tokens), job.epochs or 1) if tokens else None),
        ("steps done", job.completed_steps),
        ("created", moment(job.create_time)),
        ("started", moment(job.start_time)),
        ("ended", moment(job.end_time)),
        ("output", job.output_uri),
        ("weights", job.final_checkpoint_uri if job.succeeded else None),
        ("labels", ", ".join(f"{key}={value}" for key, value in job.labels.items())),
        ("resource", job.name),
    ]
