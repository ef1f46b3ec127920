"""Descriptions of a job's events for people."""

from __future__ import annotations

from typing import Any

from runner.gcp.events import JobEvent
from runner.wording import counted, state_words

_OWN = frozenset({"step", "evaluation", "checkpoint", "message"})
"""Kinds whose description says what kind it is."""


def event_text(event: JobEvent) -> str:
    """Return a description of an event, without its time and kind."""
    data = event.data
    message = str(data.get("message") or data.get("text") or "")
    match event.kind:
        case "state":
            state = state_words(str(data.get("detail") or data.get("state") or ""))
            return f"{state} {message}".strip()
        case "dataset":
            return _dataset(data)
        case "step":
            total = data.get("total_steps", data.get("totalSteps"))
            of = f"/{total}" if total else ""
            epoch, loss = _number(data.get("epoch"), 2), _number(data.get("loss"), 4)
            return f"step {data.get('step')}{of}  epoch {epoch}  loss {loss}"
        case "evaluation":
            return f"step {data.get('step')}  validation loss {_number(data.get('loss'), 4)}"
        case "checkpoint":
            return f"checkpoint {data.get('id')} after epoch {data.get('epoch')}, step {data.get('step')}"
        case "done":
            loss = _number(data.get("train_loss"), 4)
            return f"training ended at step {data.get('step')}, epoch {data.get('epoch')}, mean loss {loss}"
        case _:
            pairs = (f"{key} {value}" for key, value in data.items() if isinstance(value, str | int | float))
            return message or ", ".join(pairs)


def event_line(event: JobEvent) -> str:
    """Return a description of an event that says what kind it is."""
    text = event_text(event)
    return text if event.kind in _OWN else f"{event.kind} {text}".rstrip()


def _dataset(data: dict[str, Any]) -> str:
    statistics = data.get("statistics")
    known: dict[str, Any] = statistics if isinstance(statistics, dict) else {}
    examples, tokens = (str(known.get(key, "")) for key in ("tuningDatasetExampleCount", "totalBillableTokenCount"))
    parts = [
        counted(int(examples), "example") if examples.isdecimal() else "",
        f"{int(tokens):,} billable tokens per epoch" if tokens.isdecimal() else "",
        f"trains {data['weights']}" if data.get("weights") else "",
        f"peak learning rate {data['peakLearningRate']:g}" if isinstance(data.get("peakLearningRate"), float) else "",
    ]
    return ", ".join(filter(None, parts))


def _number(value: Any, digits: int) -> str:
    return f"{value:.{digits}f}" if isinstance(value, int | float) else "?"
