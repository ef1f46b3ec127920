"""Read the specification of a job, and change it with `name=value` settings."""

from __future__ import annotations

import dataclasses
from typing import Any

from runner.errors import require_sound
from runner.gcp.session import Session
from runner.gcp.tuning_jobs import TuningJob
from runner.jobs.labels import FINGERPRINT_LABEL, MANAGED_LABEL
from runner.jobs.specification import TuningJobSpec

_WHOLE = frozenset({"epochs", "adapter_size", "batch_size"})
_NUMBERS = frozenset({"learning_rate"})
_FLAGS = {"true": True, "yes": True, "false": False, "no": False}
SETTABLE = tuple(field.name for field in dataclasses.fields(TuningJobSpec) if field.name != "labels")
"""The names that `name=value` accepts, besides `labels.KEY`."""
SETTING_HINT = "for example --set epochs=5"
_REQUIRED = frozenset({"base_model", "training_dataset"})
_ALIASES = {
    "model": "base_model",
    "train": "training_dataset",
    "validation": "validation_dataset",
    "name": "display_name",
}


def specification_of(session: Session, job: TuningJob) -> TuningJobSpec:
    """Return the specification of a job, without the values that this tool itself filled in.

    The folder and the name that come from the job's fingerprint are omitted. The same specification therefore has the
    same fingerprint, and a changed one gets its own folder.
    """
    spec = job.raw.get("supervisedTuningSpec") or {}
    short = job.labels.get(FINGERPRINT_LABEL, "\0")[:10]
    output: str | None = job.output_uri.rstrip("/") or None
    name = job.display_name
    if (
        output
        and output.endswith(f"-{short}")
        and output.startswith(f"gs://{session.environment.outputs_bucket}/tuned/")
    ):
        output = None
    if name.endswith(f"-{short}"):
        name = ""
    labels = {key: value for key, value in job.labels.items() if key not in (FINGERPRINT_LABEL, MANAGED_LABEL)}
    return TuningJobSpec(
        base_model=job.base_model,
        training_dataset=job.training_dataset_uri,
        mode=job.mode or None,  # type: ignore[arg-type]
        validation_dataset=job.validation_dataset_uri or None,
        output_uri=output,
        epochs=job.epochs,
        learning_rate=job.learning_rate,
        adapter_size=job.adapter_size if job.mode == "PEFT_ADAPTER" else None,
        batch_size=job.batch_size,
        display_name=name,
        description=job.description,
        labels={key: value for key, value in labels.items() if not key.startswith("runner-")},
        custom_base_model=job.custom_base_model or None,
        export_last_checkpoint_only=bool(spec.get("exportLastCheckpointOnly")),
        service_account=str(job.raw.get("serviceAccount") or "") or None,
        kms_key=str((job.raw.get("encryptionSpec") or {}).get("kmsKeyName") or "") or None,
    )


def changed(
    spec: TuningJobSpec, settings: list[str] | tuple[str, ...], problems: list[str] | None = None
) -> TuningJobSpec:
    """Return a specification with some values replaced; an empty value restores the default.

    Dependent values are reset unless they are set as well: a new model or mode resets the learning rate and the adapter
    size, and any change of the training resets the output folder.

    Args:
        spec: the specification to change.
        settings: `epochs=5`, `learning_rate=1e-4`, `labels.team=search`, …
        problems: receives all errors; the valid settings are applied.

    Raises:
        ConfigurationError: contains all errors, unless `problems` receives them.
    """
    values: dict[str, Any] = {}
    labels = dict(spec.labels)
    found: list[str] = []
    for setting in settings:
        name, equals, text = setting.partition("=")
        name = _ALIASES.get(name.strip(), name.strip())
        if not equals:
            found.append(f"{setting!r} is not NAME=VALUE")
        elif name.startswith("labels.") and name != "labels.":
            labels.pop(name[7:], None)
            labels |= {name[7:]: text} if text else {}
        elif name not in SETTABLE:
            found.append(f"{name!r} is not a value of a job: {', '.join(SETTABLE)}, labels.KEY")
        else:
            try:
                values[name] = _value(name, text.strip())
            except ValueError as error:
                found.append(str(error))
    if problems is None:
        require_sound(found, hint=SETTING_HINT)
    else:
        problems += found
    resets = dict.fromkeys(("learning_rate", "adapter_size"), None) if {"base_model", "mode"} & set(values) else {}
    if set(values) - {"display_name", "description"}:
        resets["output_uri"] = None
    return dataclasses.replace(spec, **{**resets, **values}, labels=labels)


def _value(name: str, text: str) -> Any:
    if not text:
        if name in _REQUIRED:
            raise ValueError(f"{name} cannot be empty")
        return "" if name in ("display_name", "description") else False if name.startswith("export") else None
    if name in _WHOLE or name in _NUMBERS:
        try:
            return int(text) if name in _WHOLE else float(text)
        except ValueError:
            raise ValueError(f"{name}: {text!r} is no {'whole ' if name in _WHOLE else ''}number") from None
    if name == "export_last_checkpoint_only":
        if text.lower() not in _FLAGS:
            raise ValueError(f"{name}: {text!r} is neither true nor false")
        return _FLAGS[text.lower()]
    return text.upper() if name == "mode" else text
