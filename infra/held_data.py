"""Refuses a change that would delete data, before any of the change is planned.

The engine compares with its state only after the program has declared its resources, and it allows a change that
removes a resource together with its protection. The program therefore checks what the last update left
(`infra.recorded`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from infra.naming import BUCKET_KINDS, ENVIRONMENT_OBJECT, bucket_name
from infra.recorded import Recorded
from infra.settings.reader import NAMESPACE
from infra.settings.stack import Settings
from runner.errors import ConfigurationError

BUCKET = "gcp:storage/bucket:Bucket"
OUTPUT = "managedBuckets"
"""The stack's output that records which buckets were imported and which are protected."""
_OWN_OBJECTS = (ENVIRONMENT_OBJECT, "functions/")


@dataclass(frozen=True, slots=True, kw_only=True)
class Leaving:
    """A bucket that a change would delete."""

    resource: str
    """Its name in the program."""
    bucket: str
    urn: str
    why: str
    hint: str


def imported(settings: Settings, recorded: Recorded) -> frozenset[str]:
    """Return the buckets that existed before the stack: those to import now, and those imported before."""
    given = {spec.name for stamp in settings.stamps for spec in stamp.buckets if spec.mode == "import"}
    return frozenset(given | {name for name, flags in _flags(recorded).items() if flags.get("imported")})


def managed(settings: Settings, recorded: Recorded) -> dict[str, dict[str, bool]]:
    """Return what to record about the stack's buckets, by name."""
    taken = imported(settings, recorded)
    names = [spec.name for stamp in settings.stamps for spec in stamp.buckets if spec.mode != "attach"]
    return {name: {"imported": name in taken, "protected": settings.protect or name in taken} for name in sorted(names)}


def refuse_losses(settings: Settings, recorded: Recorded, objects: Callable[[str], list[str]]) -> None:
    """Do nothing if no bucket with data would be deleted or replaced.

    Args:
        settings: the new settings.
        recorded: what the last update left.
        objects: function that returns names of objects in a bucket, [] if the bucket does not exist.

    Raises:
        ConfigurationError: names every such bucket, the reason, and the two ways to continue.
    """
    found = [item for item in _leaving(settings, recorded, objects) if item is not None]
    if not found:
        return
    problems = [f"this change would delete gs://{item.bucket}, {item.why}" for item in found]
    raise ConfigurationError("\n".join(problems), problems=problems, hint="; ".join(item.hint for item in found))


def _leaving(settings: Settings, recorded: Recorded, objects: Callable[[str], list[str]]) -> list[Leaving | None]:
    wanted = {
        f"{spec.kind}{stamp.suffix}": (spec.name, stamp.region)
        for stamp in settings.stamps
        for spec in stamp.buckets
        if spec.mode != "attach"
    }
    staying = {name: resource for resource, (name, _) in wanted.items()}
    found = []
    for resource, outputs in recorded.of_type(BUCKET):
        if not outputs.get("name"):
            continue  # its create has an unknown result, so its content is unknown
        name = str(outputs["name"])
        place = (name, str(outputs.get("location", "")).lower())
        renamed = staying.get(name) if (BUCKET, staying.get(name, "")) not in recorded.resources else None
        if place == wanted.get(resource) or (renamed and place == wanted[renamed]):
            continue
        found.append(_judge(settings, recorded, resource, outputs, objects, replaced=resource in wanted))
    return found


def _judge(
    settings: Settings,
    recorded: Recorded,
    resource: str,
    outputs: Mapping[str, Any],
    objects: Callable[[str], list[str]],
    *,
    replaced: bool,
) -> Leaving | None:
    name = str(outputs["name"])
    flags = _flags(recorded).get(name, _assumed(settings, recorded, outputs))
    urn = recorded.urns.get((BUCKET, resource), "URN")
    forget = (
        f"`pulumi state delete '{urn}' --force --target-dependents` makes the stack forget it and leaves it as it is"
    )

    def leaving(why: str, keep: str, let_go: str) -> Leaving:
        return Leaving(resource=resource, bucket=name, urn=urn, why=why, hint=f"to keep it, {keep}; or {let_go}")

    place = _place(settings, resource)
    as_it_is = f"`pulumi config set --path '{NAMESPACE}:buckets{place}.name' {name}`" if place else "undo the change"
    if flags.get("imported"):
        return leaving("which was imported and holds data that this stack did not make", as_it_is, forget)
    if flags.get("protected"):
        first = f"`pulumi config set {NAMESPACE}:protect false` and `up` before this change"
        return leaving("which is protected", as_it_is, forget if settings.retain else first)
    if outputs.get("forceDestroy") and not replaced and resource != "contract":
        return None
    held = [item for item in objects(name) if not item.startswith(_OWN_OBJECTS)]
    if not held:
        return None
    example = f"which holds objects, such as {held[0]}"
    return leaving(
        example, as_it_is, "delete the objects first: " + f"`gcloud storage rm --recursive 'gs://{name}/**'`"
    )


def _place(settings: Settings, resource: str) -> str:
    """Return a bucket's place in the setting `buckets`: `.datasets`, `["europe-west4/outputs"]`."""
    for stamp in settings.stamps:
        for spec in stamp.buckets:
            if f"{spec.kind}{stamp.suffix}" == resource:
                return f".{spec.kind}" if stamp.home else f'["{stamp.region}/{spec.kind}"]'
    return ""


def _flags(recorded: Recorded) -> dict[str, dict[str, bool]]:
    found: dict[str, dict[str, bool]] = recorded.outputs.get(OUTPUT) or {}
    return found


def _assumed(settings: Settings, recorded: Recorded, outputs: Mapping[str, Any]) -> dict[str, bool]:
    """Return the flags to assume if an older program recorded none: names other than the default are a user's."""
    own = {bucket_name(settings.name_prefix, kind) for kind in BUCKET_KINDS}
    own |= {bucket_name(settings.name_prefix, kind, str(outputs.get("location", "")).lower()) for kind in BUCKET_KINDS}
    before = recorded.outputs.get("environment") or {}
    is_own = outputs["name"] in own or bool(outputs.get("forceDestroy"))
    return {"imported": not is_own, "protected": before.get("environment") == "prod"}
