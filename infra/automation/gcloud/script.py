"""Turns a graph into a script."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping

from infra.automation.gcloud.writers import GIVEN, WRITERS, Step
from infra.evaluation import CHANNEL, GUARD_URL, NUMBER, Evaluation, Registered

ORDER = (
    ":Service",
    ":ServiceIdentity",
    ":WorkloadIdentityServiceAgent",
    ":CryptoKeyIAMMember",
    "bucket:Bucket",
    ":Account",
    ":IAMCustomRole",
    ":WorkloadIdentityPool",
    ":WorkloadIdentityPoolProvider",
    "projects/iAMMember:IAMMember",
    ":BucketIAMMember",
    "serviceaccount/iAMMember:IAMMember",
    ":AiEndpoint",
    ":Function",
    ":ServiceIamMember",
    ":Job",
    ":NotificationChannel",
    ":AlertPolicy",
    ":Budget",
)
"""Dependencies: the engine derives them from the program, but a list of commands must be in order."""
_LAST = ":BucketObject"
"""Types that are published last: readers can rely on everything else being there."""


def commands(evaluation: Evaluation) -> list[str]:
    """Return the commands that create the program's resources; the shell looks up values that are not known here.

    Raises:
        KeyError: the program has a resource type without a command.
    """
    ranked = sorted((item for item in evaluation.resources if _is_made(item)), key=_rank)
    (provider,) = evaluation.of_type("pulumi:providers:gcp")
    project = str(provider.inputs["project"])
    labels = _labels(provider)
    lines = [
        "mkdir -p build",
        f"PROJECT_NUMBER=\"$(gcloud projects describe {project} --format='value(projectNumber)')\"",
    ]
    known = {NUMBER: "${PROJECT_NUMBER}"}
    channels = evaluation.of_type(":NotificationChannel")
    titles = {str(item.inputs["labels"]["email_address"]): str(item.inputs["displayName"]) for item in channels}
    if any("@gs-project-accounts." in str(item.inputs.get("member")) for item in ranked):
        # The program asks for this account, and the request creates it.
        lines.append(f"gcloud storage service-agent --project={project}")
    for item in ranked:
        if item.type.endswith(":Function"):
            name, region = item.inputs["name"], item.inputs["location"]
            known[GUARD_URL] = (
                f"$(gcloud functions describe {name} --region={region} --project={project} --format='value(url)')"
            )
            lines.append("python -m infra.idle_guard build/idle-guard")
        write = next(write for kind, write in WRITERS.items() if item.type.endswith(kind))
        for step in write(item, labels):
            lines.append(_spelled(step, {**known, **_channels(item, project, titles)}))
    return lines


def _is_made(item: Registered) -> bool:
    # The command that creates the function also uploads its archive.
    archive = item.type.endswith(":BucketObject") and "content" not in item.inputs
    return item.custom and not item.type.startswith("pulumi:") and not archive


def _rank(item: Registered) -> tuple[int, str, str]:
    last = len(ORDER) + (1 if item.type.endswith(_LAST) else 0)
    return next((rank for rank, kind in enumerate(ORDER) if item.type.endswith(kind)), last), item.type, item.name


def _labels(provider: Registered) -> dict[str, str]:
    import json

    given = provider.inputs.get("defaultLabels") or "{}"
    labels: dict[str, str] = json.loads(given) if isinstance(given, str) else dict(given)
    return labels


def _channels(item: Registered, project: str, titles: Mapping[str, str]) -> dict[str, str]:
    """Return shell code that finds the channels of a resource: Google chooses their names."""
    found = {}
    for name in re.findall(rf"{re.escape(CHANNEL)}[^\"',\]]+", str(item.inputs)):
        title = titles[name.removeprefix(CHANNEL)]
        found[name] = (
            f"$(gcloud beta monitoring channels list --project={project} "
            f"--filter='displayName=\\\"{title}\\\"' --format='value(name)')"
        ).replace('\\"', '"')
    return found


def _spelled(step: Step, known: Mapping[str, str]) -> str:
    line = " ".join(_quoted(word, known) for word in step.words)
    if not step.given:
        return line
    given = f"printf %s {_quoted(step.given, known)}"
    return f"{given} > {GIVEN} && {line}" if GIVEN in line else f"{given} | {line}"


def _quoted(word: str, known: Mapping[str, str]) -> str:
    """Return a shell word: literal text, except for what the shell must look up."""
    found = [part for part in known if part in word]
    if not found:
        return shlex.quote(word)
    escaped = re.sub(r'(["\\$`])', r"\\\1", word)
    for part in found:
        escaped = escaped.replace(re.sub(r'(["\\$`])', r"\\\1", part), known[part])
    return f'"{escaped}"'
