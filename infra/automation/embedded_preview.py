"""What an apply without the engine would change, and what the last one published."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from infra.embedded.reconcile import Reconciler
from infra.embedded.registry import find_type
from infra.embedded.resource_type import Context, differences
from infra.embedded.rest import PLACEHOLDER_TOKEN, EmbeddedError, Rest
from infra.embedded.state import Record, opened
from infra.evaluation import CHANNEL, GUARD_URL, evaluate
from infra.settings.stack import Settings

_Key = tuple[str, str]
"""Type token and name."""
_MARKS = {"created": "+", "updated": "~", "replaced": "+-", "deleted": "-"}


def preview(config: dict[str, str], state: Path, stack: str) -> dict[str, Any]:
    """Compare the program with the records of the last apply. This does not find drift; `up` does.

    Raises:
        ConfigurationError: the settings have mistakes.
        TakenError: a resource that the stack did not create has a name that the stack uses.
        LockedError: another process has locked the state.
        EmbeddedError: the emulator does not answer.
    """
    settings = Settings.load(config)
    labels = {**settings.labels, "managed-by": "pulumi"}
    wanted: dict[tuple[str, str], dict[str, Any]] = {}
    rest = _rest(settings)
    try:
        number = str(rest.call("projects", "GET", f"projects/{settings.project}")["projectNumber"])
        resources = evaluate(config, stack=stack, number=number).resources
        with opened(state if state.exists() else None, settings.project, stack) as remembered:
            Reconciler(Context(rest, settings.project, settings.region, labels), remembered).refuse_taken(resources)
            records = {(record.type, record.name): record for record in remembered.records}
    finally:
        rest.close()
    for item in resources:
        if item.custom and not item.type.startswith("pulumi:"):
            wanted[(item.type, item.name)] = find_type(item.type).with_labels(item.inputs, labels)
    chosen = _chosen(wanted, records)
    known = [(key, _told(inputs, chosen), records[key].inputs) for key, inputs in wanted.items() if key in records]
    replaced = [_key(key) for key, inputs, before in known if find_type(key[0]).replaced(before, inputs)]
    done = {
        "created": [_key(key) for key in wanted if key not in records],
        "updated": [
            _key(key) for key, inputs, before in known if _key(key) not in replaced and _differs(key[0], inputs, before)
        ],
        "replaced": replaced,
        "deleted": [record.key for key, record in records.items() if key not in wanted],
    }
    lines = [f"{_MARKS[what]} {name}" for what, names in done.items() for name in names]
    changes = len(lines)
    lines.append(", ".join(f"{len(names)} to {what.removesuffix('d')}" for what, names in done.items()))
    return {**done, "changes": changes, "text": "\n".join(lines)}


def refresh(config: dict[str, str], state: Path, stack: str) -> dict[str, Any]:
    """Compare the records of the last apply with what exists, and remove the records of what no longer exists.

    Raises:
        ConfigurationError: the settings have mistakes.
        LockedError: another process has locked the state.
        EmbeddedError: the emulator does not answer.
    """
    settings = Settings.load(config)
    gone: list[str] = []
    changed: dict[str, list[str]] = {}
    rest = _rest(settings)
    try:
        with opened(state if state.exists() else None, settings.project, stack) as remembered:
            records = remembered.records
            context = Context(rest, settings.project, settings.region, {})
            for record in records:
                live = find_type(record.type).read(context, record.id, record.inputs)
                if live is None:
                    remembered.forget(record)
                    gone.append(record.key)
                elif fields := sorted(differences(record.body, live.body)):
                    changed[record.key] = fields
    finally:
        rest.close()
    lines = [f"- {key}" for key in gone] + [f"~ {key}: {', '.join(fields)}" for key, fields in changed.items()]
    unchanged = len(records) - len(lines)
    lines.append(f"{len(gone)} gone, {len(changed)} changed by others, {unchanged} as they were made")
    changes = len(gone) + len(changed)
    return {"gone": gone, "changed": changed, "unchanged": unchanged, "changes": changes, "text": "\n".join(lines)}


def published(config: dict[str, str]) -> dict[str, Any]:
    """Return the outputs of the last apply: the environment document in the contract bucket.

    Raises:
        EmbeddedError: nothing was applied, or the emulator does not answer.
    """
    settings = Settings.load(config)
    bucket = settings.home.bucket("contract").name
    rest = _rest(settings)
    try:
        document = rest.find("storage", f"b/{bucket}/o/environment.json", params={"alt": "media"})
    finally:
        rest.close()
    if document is None:
        raise EmbeddedError(f"gs://{bucket}/environment.json is not there", hint="`runner infra up --embedded`")
    return {"environment": json.loads(json.dumps(document))}


def _rest(settings: Settings) -> Rest:
    return Rest(settings.api_endpoints, token=settings.access_token or PLACEHOLDER_TOKEN)


def _chosen(wanted: Mapping[_Key, dict[str, Any]], records: Mapping[_Key, Record]) -> dict[str, str]:
    """Return the values that the service chose in the last apply, by their placeholders in an evaluation."""
    found: dict[str, str] = {}
    for key, inputs in wanted.items():
        if (record := records.get(key)) is None:
            continue
        if key[0].endswith(":NotificationChannel"):
            found[f"{CHANNEL}{inputs['labels']['email_address']}"] = record.id
        elif key[0].endswith(":Job"):
            found[GUARD_URL] = str(record.inputs["httpTarget"]["uri"])
    return found


def _told(value: Any, chosen: Mapping[str, str]) -> Any:
    """Return inputs with the values that the service chose."""
    if isinstance(value, dict):
        return {key: _told(item, chosen) for key, item in value.items()}
    if isinstance(value, list):
        return [_told(item, chosen) for item in value]
    return chosen.get(value, value) if isinstance(value, str) else value


def _differs(type_: str, inputs: dict[str, Any], remembered: dict[str, Any]) -> bool:
    """Return whether an apply would change a resource that has the recorded inputs."""
    if "archive" in inputs.get("source", {}):
        # An evaluation has only the names of an archive's files. The archive's object is named after their content.
        inputs = {**inputs, "source": remembered.get("source", {})}
    kind = find_type(type_)
    return bool(kind.body(inputs) != kind.body(remembered))


def _key(key: tuple[str, str]) -> str:
    return f"{key[0].rsplit(':', 1)[-1]} {key[1]}"
