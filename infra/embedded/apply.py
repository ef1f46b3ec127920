"""Evaluate the program against an emulator."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from infra import event_loop
from infra.addresses import emulator_endpoints
from infra.embedded.monitor import EmulatorMocks, OptionsMonitor
from infra.embedded.reconcile import Reconciler
from infra.embedded.resource_type import Context
from infra.embedded.rest import PLACEHOLDER_TOKEN, EmbeddedError, Rest
from infra.embedded.state import LOCAL, State, opened
from infra.evaluation import evaluate
from infra.program import deploy
from infra.settings.stack import DEFAULT_REGION, NAMESPACE, Settings

DEFAULT_PROJECT = "local-project"
LOCAL_CONFIG = {f"{NAMESPACE}:forceDestroy": "true"}
"""What `Pulumi.local.yaml` sets besides the addresses: here, everything can be created again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ApplyResult:
    """The result of an apply: resources as `Type name`, in the order of their processing."""

    environment: dict[str, Any]
    """The environment document; {} after `destroy`."""
    created: tuple[str, ...] = ()
    updated: tuple[str, ...] = ()
    unchanged: tuple[str, ...] = ()
    deleted: tuple[str, ...] = ()
    kept: tuple[str, ...] = ()
    """No longer part of the stack, but not deleted, because it is to outlive the stack."""
    protected: tuple[str, ...] = ()
    """Still part of the stack after `destroy`: protected resources and their dependencies."""


def configuration(url: str, *, project: str, location: str, config: Mapping[str, str]) -> dict[str, str]:
    """Return the full configuration of a local stack. Keys without a namespace are the program's own."""
    given = {key if ":" in key else f"{NAMESPACE}:{key}": value for key, value in config.items()}
    place = {"gcp:project": project, "gcp:region": location, f"{NAMESPACE}:emulator": url}
    return {**LOCAL_CONFIG, **place, **given}


def apply(
    url: str,
    *,
    project: str = DEFAULT_PROJECT,
    location: str = DEFAULT_REGION,
    config: Mapping[str, str] | None = None,
    state: Path | None = None,
    stack: str = LOCAL,
) -> ApplyResult:
    """Make the emulator at `url` match the program.

    Args:
        url: `http://host:port` of a running emulator.
        project: project ID; the emulator accepts any project.
        location: region of the buckets and the endpoint.
        config: settings in the form that `pulumi config set` accepts; lists and objects as JSON.
        state: file that records what was created; it can hold several stacks. With None, nothing is recorded: existing
            resources of the stack are adopted, and resources that the program no longer has remain.
        stack: name of the stack; a project can have several.

    Raises:
        ConfigurationError: the settings have mistakes; all are listed.
        TakenError: a resource that the stack did not create has one of its names. Nothing was changed.
        EmbeddedError: the emulator refused or does not answer. What was created before that is recorded.
    """
    values = configuration(url, project=project, location=location, config=config or {})
    Settings.load(values)  # before anything is opened or sent
    with opened(state, project, stack) as remembered:
        digest = _digest(values)
        if digest != remembered.settings:
            _refuse_taken(values, remembered, stack)
        mocks = EmulatorMocks(remembered)
        try:
            outputs = _evaluate(mocks, values, stack)
            reconciler = mocks.reconciler
            if reconciler is None:
                raise EmbeddedError("the program made nothing")
            remembered.publish({key: value for key, value in outputs.items() if key != "environment"})
            reconciler.remove_unseen()
            remembered.settle(digest)
        finally:
            mocks.close()
    return _result(reconciler, outputs["environment"])


def destroy(
    state: Path,
    *,
    project: str = DEFAULT_PROJECT,
    url: str | None = None,
    token: str | None = None,
    stack: str = LOCAL,
) -> ApplyResult:
    """Delete everything in `state` that belongs to a stack and is not protected, newest first.

    Args:
        state: the file that `apply` used.
        project: the stack's project.
        url: current address of the emulator; None means the address of the last apply.
        token: token of an emulator that requires one.
        stack: name of the stack.

    Raises:
        EmbeddedError: a bucket holds objects, or the emulator does not answer.
    """
    with opened(state, project, stack) as remembered:
        rest = Rest(emulator_endpoints(url) if url else remembered.endpoints, token=token or PLACEHOLDER_TOKEN)
        try:
            reconciler = Reconciler(Context(rest, project, "", {}), remembered)
            reconciler.remove_all()
        finally:
            rest.close()
    return _result(reconciler, {})


def _digest(values: Mapping[str, str]) -> str:
    """Return what distinguishes settings from others; a token does not count."""
    kept = {key: value for key, value in values.items() if key != "gcp:accessToken"}
    return hashlib.sha256(json.dumps(kept, sort_keys=True).encode()).hexdigest()


def _refuse_taken(values: Mapping[str, str], remembered: State, stack: str) -> None:
    """Check every name of the stack before anything is changed. If the settings are unchanged, everything exists."""
    settings = Settings.load(values)
    rest = Rest(settings.api_endpoints, token=settings.access_token or PLACEHOLDER_TOKEN)
    try:
        number = str(rest.call("projects", "GET", f"projects/{settings.project}")["projectNumber"])
        wanted = evaluate(values, stack=stack, number=number, state=remembered.recorded()).resources
        labels = {**settings.labels, "managed-by": "pulumi"}
        Reconciler(Context(rest, settings.project, settings.region, labels), remembered).refuse_taken(wanted)
    finally:
        rest.close()


def _evaluate(mocks: EmulatorMocks, values: dict[str, str], stack: str) -> dict[str, Any]:
    try:
        outputs = event_loop.evaluated(
            mocks, OptionsMonitor(mocks), deploy, values, stack=stack, log="infra.embedded.pulumi"
        )
    except Exception as error:
        # The monitor wraps and repeats errors; the first cause is the actual one.
        raise (mocks.failure or error) from None
    if mocks.failure is not None:
        raise mocks.failure
    return outputs


def _result(reconciler: Reconciler, environment: dict[str, Any]) -> ApplyResult:
    tally = reconciler.tally
    return ApplyResult(
        environment=environment,
        created=tuple(tally.created),
        updated=tuple(tally.updated),
        unchanged=tuple(tally.unchanged),
        deleted=tuple(tally.deleted),
        kept=tuple(tally.kept),
        protected=tuple(tally.protected),
    )
