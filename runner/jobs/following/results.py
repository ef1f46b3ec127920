"""The measurements of a job: losses from its events, from the metrics in its output folder, or from its experiment."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from runner.errors import NotFoundError
from runner.gcp import curves, downloads, events
from runner.gcp.curves import Point
from runner.gcp.events import JobEvent
from runner.gcp.session import Session
from runner.gcp.tuning_jobs import TuningJob
from runner.json_text import parsed

Form = Literal["csv", "jsonl"]
_WORDS = re.compile(r"[^a-z0-9]+")
_TRAINING_LOSS = frozenset({"train_loss", "train_total_loss", "loss"})
_EVALUATION_LOSS = frozenset({"eval_loss", "eval_total_loss", "validation_loss", "val_loss"})
_CURVES = {
    "epoch": ("train_epoch", "epoch"),
    "learning_rate": ("train_learning_rate", "learning_rate"),
    "tokens": ("train_tokens", "tokens", "train_num_tokens", "num_tokens"),
}
COLUMNS = ("kind", "step", "epoch", "loss", "learning_rate", "tokens", "time")


@dataclass(frozen=True, slots=True, kw_only=True)
class Measurement:
    """One measured loss."""

    kind: Literal["step", "evaluation"]
    """Whether it was measured in a training step or on the validation file."""
    step: int
    epoch: float | None
    loss: float | None
    learning_rate: float | None = None
    tokens: int | None = None
    """Tokens trained so far."""
    time: str = ""
    """RFC 3339."""

    def to_json(self) -> dict[str, Any]:
        """Return the columns of the export."""
        return {name: getattr(self, name) for name in COLUMNS}


@dataclass(slots=True, kw_only=True)
class Results:
    """All measurements of a job, in order."""

    measurements: list[Measurement] = field(default_factory=list)
    source: str = ""
    """The source: `events`, the address of an object, the name of an experiment, or "" if there are no measurements."""

    def losses(self, kind: str = "step") -> list[float]:
        """Return the losses of one kind, in order."""
        return [loss for _, loss in curve(self.measurements, kind)]

    def summary(self) -> dict[str, Any]:
        """Return the first and last losses and the number of steps; {} if there are no measurements."""
        training, validation = self.losses(), self.losses("evaluation")
        body = {
            "steps": len(training) or None,
            "firstLoss": training[0] if training else None,
            "lastLoss": training[-1] if training else None,
            "lastValidationLoss": validation[-1] if validation else None,
            "bestValidationLoss": min(validation) if validation else None,
        }
        return {key: value for key, value in body.items() if value is not None}


def results_of(session: Session, job: TuningJob) -> Results:
    """Return the measurements of a job. Raises GoogleApiError, UnreachableError."""
    found = measurements_of(events.job_events(session, job.name))
    if found:
        return Results(measurements=found, source="events")
    uri = str(job.raw.get("gcsMetricsUri") or "")
    if uri.endswith(".jsonl") and (found := _left_in(session, uri)):
        return Results(measurements=found, source=uri)
    experiment = str(job.raw.get("experiment") or "")
    if experiment and (found := of_curves(curves.curves_of(session, experiment))):
        return Results(measurements=found, source=experiment)
    return Results()


def _left_in(session: Session, uri: str) -> list[Measurement]:
    try:
        lines = downloads.read_bytes(session, uri).splitlines()
    except NotFoundError:
        return []
    return [item for line in lines if (item := _line(line)) is not None]


def of_curves(found: Mapping[str, Sequence[Point]]) -> list[Measurement]:
    """Return the curves, joined by step: `train/loss`, `eval/loss`, `train/learning_rate` and so on.

    The names that different trainers use differ only in the separators between the words.
    """
    named: dict[str, list[Point]] = {}
    for name, points in found.items():
        named.setdefault(_WORDS.sub("_", name.lower()), []).extend(points)
    values: dict[str, dict[int, float | None]] = {
        field: {point.step: point.value for key, points in named.items() if key in names for point in points}
        for field, names in _CURVES.items()
    }
    kinds: tuple[tuple[Literal["step", "evaluation"], frozenset[str]], ...] = (
        ("evaluation", _EVALUATION_LOSS),
        ("step", _TRAINING_LOSS),
    )
    made = [
        Measurement(
            kind=kind,
            step=point.step,
            epoch=values["epoch"].get(point.step),
            loss=point.value,
            learning_rate=values["learning_rate"].get(point.step) if kind == "step" else None,
            tokens=_whole(values["tokens"].get(point.step)) if kind == "step" else None,
            time=point.time,
        )
        for kind, names in kinds
        for key, points in named.items()
        if key in names
        for point in points
    ]
    return sorted(made, key=lambda item: (item.step, item.kind != "step"))


def _whole(value: float | None) -> int | None:
    return None if value is None else int(value)


def curve(measured: Iterable[Measurement], kind: str = "step") -> list[tuple[float, float]]:
    """Return (step, loss) of the measurements of one kind, in order."""
    return [(float(item.step), item.loss) for item in measured if item.kind == kind and item.loss is not None]


def require_measurements(job: TuningJob, results: Results) -> None:
    """Return normally if a job has measurements. Raises NotFoundError."""
    if not results.measurements:
        message, hint = f"job {job.id} has no measurements yet", f"`runner jobs watch {job.id}`"
        raise NotFoundError(message, resource=job.name, hint=hint)


def measurements_of(happened: Iterable[JobEvent]) -> list[Measurement]:
    """Return the measurements in the events of a job."""
    kinds = ("step", "evaluation")
    return [_measurement(event.kind, event.time, event.data) for event in happened if event.kind in kinds]


def export(results: Results, form: Form) -> str:
    """Return the measurements as CSV with a header, or as one JSON object per line."""
    if form == "jsonl":
        return "".join(json.dumps(item.to_json(), separators=(",", ":")) + "\n" for item in results.measurements)
    import csv  # imported here, so that read-only commands start fast

    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(item.to_json() for item in results.measurements)
    return text.getvalue()


def _line(line: bytes) -> Measurement | None:
    try:
        body = parsed(line)
    except ValueError:
        return None
    if not isinstance(body, dict) or body.get("kind") not in ("step", "evaluation"):
        return None
    return _measurement(body["kind"], str(body.get("time", "")), body)


def _measurement(kind: str, time: str, data: dict[str, Any]) -> Measurement:
    def number(name: str) -> float | None:
        value = data.get(name)
        return float(value) if isinstance(value, int | float) else None

    tokens = number("tokens")
    return Measurement(
        kind="step" if kind == "step" else "evaluation",
        step=int(number("step") or 0),
        epoch=number("epoch"),
        loss=number("loss"),
        learning_rate=number("learning_rate"),
        tokens=None if tokens is None else int(tokens),
        time=time,
    )
