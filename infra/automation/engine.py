"""The verbs that use Pulumi's engine. `infra.automation.installation` finds the engine and its state."""

from __future__ import annotations

import json
import shutil
import sys
import tempfile
from argparse import Namespace
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from infra.automation import invocation
from infra.automation.failures import Cause, EngineError, causes, failure
from infra.automation.installation import backend, packs, require, secrets_provider
from infra.automation.invocation import Ended, InterruptedRunError
from infra.automation.state import Exported, exported, protected
from infra.consistency import TAKEN
from infra.stack_files import text_of, without_secrets
from infra.urns import key_of
from runner.errors import ConfigurationError

if TYPE_CHECKING:
    from infra.automation.adoption import Found
    from infra.embedded.rest import Rest
    from infra.evaluation import Evaluation

_UNCHANGED = frozenset({"same", "read"})
_ROUNDS = 5
"""How many times `up` continues after it has adopted existing resources."""


def preview(options: Namespace, directory: Path) -> dict[str, Any]:
    """Refresh, then preview what the stack would change. A stack that does not exist is previewed as a new one."""
    require()
    _place(options, directory)
    chosen = ["--stack", options.stack, "--diff", *packs(options, directory)]
    if _exists(options, directory):
        ended = invocation.run(["preview", "--refresh", *chosen], directory, shown=False)
    else:
        with _nowhere(options, directory) as (more, variables):
            ended = invocation.run(["preview", *chosen, *more], directory, shown=False, variables=variables)
    _show(ended.said)
    _check(ended, "preview", options)
    summary = _summary(ended)
    changes = sum(count for key, count in summary.items() if key not in _UNCHANGED)
    return {"summary": summary, "changes": changes, "diff": ended.said, "text": _counted(summary, "to ")}


def up(options: Namespace, directory: Path) -> dict[str, Any]:
    """Refresh and apply. First, adopt what an earlier run created but did not record.

    Raises:
        ConfigurationError: the change was not confirmed, or the settings have mistakes.
        EngineError: the update failed; a broken mandatory rule fails it before anything is created.
    """
    _ready(options, directory, "up")
    if options.policies:
        _check_rules(options, directory)
    if not _exists(options, directory):
        _create(options, directory)
    adopted = _look_for_lost(options, directory)
    arguments = ["up", "--yes", "--skip-preview", "--refresh", "--stack", options.stack, *packs(options, directory)]
    for left in reversed(range(_ROUNDS)):
        ended = invocation.run(arguments, directory)
        taken = [cause for cause in causes(ended.events) if TAKEN.search(cause.text)]
        if not ended.status or not taken or ended.interrupted or not left:
            break
        found = _adopt(options, directory, taken)
        if not found.adopted:
            _refuse(ended, options, found)
        adopted += found.adopted
        arguments = [*arguments, "--continue-on-error"] if "--continue-on-error" not in arguments else arguments
    _check(ended, "up", options)
    summary = _summary(ended)
    text = _counted(summary) + (f"; taken over: {', '.join(adopted)}" if adopted else "")
    return {"summary": summary, "adopted": adopted, "text": text, "outputs": _outputs(options, directory)}


def refresh(options: Namespace, directory: Path) -> dict[str, Any]:
    """Update the state to match what exists."""
    _ready(options, directory, "refresh")
    exported(options.stack, directory)
    more = ["--expect-no-changes"] if options.expect_no_changes else []
    ended = invocation.run(["refresh", "--yes", "--skip-preview", "--stack", options.stack, *more], directory)
    _check(ended, "refresh", options)
    summary = _summary(ended)
    return {"summary": summary, "text": _counted(summary)}


def destroy(options: Namespace, directory: Path) -> dict[str, Any]:
    """Delete what is not protected. Report what remains.

    Raises:
        ObstacleError: a resource to delete contains or serves something; nothing was deleted.
    """
    from infra.embedded.obstacles import look

    _ready(options, directory, "destroy")
    state = exported(options.stack, directory)
    rest = _rest(options)
    try:
        look(rest, state.doomed(staying=protected(state.resources)))
    finally:
        rest.close()
    ended = invocation.run(
        ["destroy", "--yes", "--skip-preview", "--exclude-protected", "--stack", options.stack], directory
    )
    _check(ended, "destroy", options)
    left = sorted(key_of(item["urn"]) for item in exported(options.stack, directory).resources if item.get("protect"))
    summary = _summary(ended)
    named = [f"protected: {name}" for name in left]
    return {"summary": summary, "protected": left, "text": "\n".join([*named, _counted(summary)])}


def outputs(options: Namespace, directory: Path) -> dict[str, Any]:
    """Return the outputs of the last `up`; {} if there was none."""
    require()
    _place(options, directory)
    exported(options.stack, directory)
    return _outputs(options, directory)


def confirm(options: Namespace, verb: str) -> None:
    """Raise ConfigurationError if a verb that changes something was not confirmed."""
    if not options.confirmed:
        problem = f"{verb} of stack {options.stack} was not confirmed"
        raise ConfigurationError(problem, hint="run `runner infra preview` to see the changes; confirm them with --yes")


def _ready(options: Namespace, directory: Path, verb: str) -> None:
    require()
    confirm(options, verb)
    _place(options, directory)


def _place(options: Namespace, directory: Path) -> None:
    if not backend(directory):
        problem = "it is not said where Pulumi's state is"
        raise ConfigurationError(
            problem,
            hint="set PULUMI_BACKEND_URL=gs://BUCKET; `runner infra bootstrap` creates the bucket",
        )


def _exists(options: Namespace, directory: Path) -> bool:
    done = invocation.read(["stack", "ls", "--json"], directory)
    if done.status:
        raise failure(done, "opening the state", options.stack)
    names = {str(item["name"]).rsplit("/", 1)[-1] for item in json.loads(done.said or "[]")}
    return options.stack in names


def _create(options: Namespace, directory: Path) -> None:
    key = secrets_provider(directory, options.stack)
    done = invocation.read(["stack", "init", options.stack, *(["--secrets-provider", key] if key else [])], directory)
    if done.status:
        raise failure(done, "making the stack", options.stack)


@contextmanager
def _nowhere(options: Namespace, directory: Path) -> Iterator[tuple[list[str], dict[str, str]]]:
    """Give a stack that does not exist a temporary state; yield extra arguments and variables for the engine."""
    with tempfile.TemporaryDirectory(prefix="runner-infra-") as folder:
        copy = Path(folder, f"Pulumi.{options.stack}.yaml")
        own = without_secrets(text_of(directory / copy.name))
        copy.write_text(own, "utf-8", newline="")
        Path(folder, "state").mkdir()
        variables = {"PULUMI_BACKEND_URL": f"file://{folder}/state", "PULUMI_CONFIG_PASSPHRASE": "preview"}
        shutil.copy(directory / "Pulumi.yaml", folder)
        done = invocation.read(["stack", "init", options.stack], Path(folder), variables=variables)
        if done.status:
            raise failure(done, "preview", options.stack)
        yield ["--config-file", str(copy)], variables


def _evaluation(options: Namespace, state: Exported, number: str) -> Evaluation:
    from infra.automation.stack import configuration
    from infra.evaluation import evaluate

    return evaluate(configuration(options), stack=options.stack, number=number, state=state.recorded())


def _check_rules(options: Namespace, directory: Path) -> None:
    """Check the rules before anything is created: the engine runs rules about a whole stack only afterwards."""
    from infra.policy import of_evaluation, violations

    evaluation = _evaluation(options, Exported(options.stack, directory, {}), number="123456789012")
    broken = [item for item in violations(of_evaluation(evaluation)) if item.level == "mandatory"]
    if broken:
        problems = [f"{item.resource}: rule {item.rule}: {item.message}" for item in broken]
        raise EngineError(
            f"stack {options.stack} breaks mandatory rules, and nothing was made: {'; '.join(problems)}",
            hint=f"`runner infra doctor --stack {options.stack}` checks all rules offline",
            problems=problems,
        )


def _rest(options: Namespace) -> Rest:
    from infra.automation.google import rest

    return rest(options)


def _look_for_lost(options: Namespace, directory: Path) -> list[str]:
    """Adopt what an interrupted run created, if the state has traces of such a run."""
    state = exported(options.stack, directory)
    if not state.resources:
        return []
    found = _search(options, directory, state, [])
    for line in found.foreign:
        sys.stderr.write(f"{line}\n")
    return found.adopted


def _adopt(options: Namespace, directory: Path, taken: list[Cause]) -> Found:
    return _search(options, directory, exported(options.stack, directory), [cause.urn for cause in taken])


def _search(options: Namespace, directory: Path, state: Exported, refused: list[str]) -> Found:
    from infra.automation.adoption import Found, adopt, explain
    from infra.automation.stack import configuration
    from infra.embedded.rest import EmbeddedError
    from infra.settings.stack import Settings

    settings = Settings.load(configuration(options))
    rest = _rest(options)
    try:
        number = str(rest.call("projects", "GET", f"projects/{settings.project}")["projectNumber"])
        return adopt(state, _evaluation(options, state, number), settings, rest, refused=refused)
    except EmbeddedError as error:
        sys.stderr.write(f"{explain(error)}\n")
        return Found()
    finally:
        rest.close()


def _refuse(ended: Ended, options: Namespace, found: Found) -> None:
    error = failure(ended, "up", options.stack)
    if found.foreign:
        error.hint = "; ".join(found.foreign)
    raise error


def _check(ended: Ended, verb: str, options: Namespace) -> None:
    if ended.interrupted:
        counted = _counted(_summary(ended))
        again = "ended at once: what it was making may not be in the state" if ended.interrupted > 1 else "finished"
        raise InterruptedRunError(
            f"{verb} of stack {options.stack} was stopped; what it had begun was {again} ({counted})",
            hint=f"to continue, run `runner infra {verb} --stack {options.stack}`",
        )
    if ended.status:
        _show(ended.complained if ended.events else "")
        raise failure(ended, verb, options.stack)


def _outputs(options: Namespace, directory: Path) -> dict[str, Any]:
    done = invocation.read(["stack", "output", "--json", "--show-secrets", "--stack", options.stack], directory)
    if done.status:
        raise failure(done, "outputs", options.stack)
    found: dict[str, Any] = json.loads(done.said)
    return found


def _summary(ended: Ended) -> dict[str, int]:
    last: dict[str, Any] = next(
        (event["summaryEvent"] for event in reversed(ended.events) if event.get("summaryEvent")), {}
    )
    changes: dict[str, int] = last.get("resourceChanges") or {}
    return dict(changes)


def _counted(summary: dict[str, int], prefix: str = "") -> str:
    """Return one line for people: everything else was shown while the engine ran."""
    words = {"same": "unchanged"}
    parts = [f"{count} {words.get(name, prefix + name)}" for name, count in sorted(summary.items())]
    return ", ".join(parts) or "nothing to do"


def _show(text: str) -> None:
    sys.stderr.write(text)
