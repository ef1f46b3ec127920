"""The verbs: how each runs with the engine, without it, and as a dry run."""

from __future__ import annotations

import os
from argparse import Namespace
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from infra import stack_files
from infra.automation.stack import EMULATOR, configuration, directory
from infra.settings.reader import NAMESPACE
from infra.settings.stack import Settings
from runner.environment import state_directory
from runner.errors import RunnerError
from runner.infrastructure import stack_file

if TYPE_CHECKING:
    from infra.evaluation import Evaluation

Result = dict[str, Any]


class ChangesError(RunnerError):
    """Changes are pending, although none were expected."""

    code = "changes"
    usual_hint = "to make the changes, run `runner infra up`"


def run(options: Namespace) -> Result:
    """Run the verb that the options name and return its JSON document; `text` is the part for people.

    Raises:
        ConfigurationError: the stack's file or the options have mistakes; all are listed.
        EngineMissingError: the verb needs the Pulumi engine, which is not installed.
        RunnerError: the engine, Google or the emulator refused.
    """
    verbs: dict[str, Callable[[Namespace], Result]] = {
        "init": _init,
        "bootstrap": _bootstrap,
        "preview": _preview,
        "up": _up,
        "refresh": _refresh,
        "destroy": _destroy,
        "outputs": _outputs,
        "graph": _graph,
        "iam": _iam,
        "doctor": _doctor,
    }
    return _target(options) if options.only_check else verbs[options.verb](options)


def _target(options: Namespace) -> Result:
    """Return where a verb would act, if its local inputs are valid: the stack's settings and the engine."""
    if options.verb == "bootstrap":
        from infra.automation.bootstrap import place

        project, region = place(options, stack_file(options.stack, directory(options)))
        return {"project": project, "location": region, "address": options.emulator or ""}
    settings = Settings.load(configuration(options))
    if not options.embedded:
        from infra.automation import installation

        directory(options, runs=True)
        installation.require()
    address = settings.api_endpoints.get("vertexAiCustomEndpoint", "")
    return {"project": settings.project, "location": settings.region, "address": address}


def _with_engine(options: Namespace) -> Result:
    """Run the verb with the engine. The stack's file stays the same, except for how secrets are encrypted."""
    from infra.automation import engine

    verbs = {
        "preview": engine.preview,
        "up": engine.up,
        "refresh": engine.refresh,
        "destroy": engine.destroy,
        "outputs": engine.outputs,
    }
    Settings.load(configuration(options))  # report the user's own mistakes before a missing engine
    folder = directory(options, runs=True)
    with stack_files.kept(stack_file(options.stack, folder)):
        return verbs[options.verb](options, folder)


def _evaluated(options: Namespace) -> Evaluation:
    # This module loads pulumi, which the verbs that use the engine do not need.
    from infra.evaluation import evaluate

    return evaluate(configuration(options), stack=options.stack)


def _state(options: Namespace) -> Path:
    return Path(options.state) if options.state else state_directory() / "emulator" / "infra.json"


def _init(options: Namespace) -> Result:
    from infra.automation.creation import create

    return create(options)


def _bootstrap(options: Namespace) -> Result:
    if options.install_engine:
        from infra.automation.installation import install

        return {"engine": install(), "text": "the engine is installed"}
    from infra.automation.bootstrap import bootstrap

    return bootstrap(options, directory(options))


def _preview(options: Namespace) -> Result:
    if options.dry_run:
        return _commands(options)
    if options.embedded:
        from infra.automation.embedded_preview import preview

        result = preview(configuration(options), _state(options), options.stack)
    else:
        result = _with_engine(options)
    if options.expect_no_changes and result["changes"]:
        raise ChangesError(
            f"stack {options.stack} would change:\n{result['text']}", hint=f"`runner infra up --stack {options.stack}`"
        )
    return result


def _up(options: Namespace) -> Result:
    if options.dry_run:
        return _commands(options)
    if options.embedded:
        from infra.embedded import apply
        from infra.local_environment import announce

        values = configuration(options)
        settings = Settings.load(values)
        own = {key: value for key, value in values.items() if key not in {"gcp:project", "gcp:region"}}
        done = apply(
            options.emulator or EMULATOR,
            project=settings.project,
            location=settings.region,
            config={f"{NAMESPACE}:forceDestroy": "false", **own},
            state=_state(options),
            stack=options.stack,
        )
        announce(done.environment)
        return _counted(done, {"environment": done.environment})
    return _with_engine(options)


def _refresh(options: Namespace) -> Result:
    if not options.embedded:
        return _with_engine(options)
    from infra.automation.embedded_preview import refresh

    result = refresh(configuration(options), _state(options), options.stack)
    if options.expect_no_changes and result["changes"]:
        raise ChangesError(
            f"what is there is not what stack {options.stack} made:\n{result['text']}",
            hint=f"to correct it, run `runner infra up --stack {options.stack}`",
        )
    return result


def _destroy(options: Namespace) -> Result:
    if options.embedded:
        from infra.automation.engine import confirm
        from infra.embedded import destroy

        confirm(options, "destroy")
        project = Settings.load(configuration(options)).project
        token = os.environ.get("RUNNER_EMULATOR_TOKEN")
        done = destroy(_state(options), project=project, url=options.emulator, token=token, stack=options.stack)
        return _counted(done, {})
    return _with_engine(options)


_MARKS = {"created": "+", "updated": "~", "deleted": "-", "kept": "kept:", "protected": "protected:"}


def _counted(done: Any, extra: Result) -> Result:
    counts = {name: list(getattr(done, name)) for name in _MARKS}
    unchanged = len(done.unchanged)
    lines = [f"{_MARKS[name]} {item}" for name, items in counts.items() for item in items]
    total = ", ".join(f"{len(items)} {name}" for name, items in counts.items() if items or name in list(_MARKS)[:3])
    lines.append(f"{total}, {unchanged} unchanged")
    if counts["kept"]:
        lines.append("what is kept is meant to outlive the stack, and no longer of it")
    if counts["protected"]:
        lines.append("what is protected goes after `open-model-tuning:protect: false` and another `up`")
    return {**extra, **counts, "unchanged": unchanged, "text": "\n".join(lines)}


def _outputs(options: Namespace) -> Result:
    if options.embedded:
        from infra.automation.embedded_preview import published

        outputs = published(configuration(options))
    else:
        outputs = _with_engine(options)
    import json

    return {"outputs": outputs, "text": json.dumps(outputs, indent=2, sort_keys=True)}


def _graph(options: Namespace) -> Result:
    from infra.graph import mermaid, to_json

    evaluation = _evaluated(options)
    return {"graph": to_json(evaluation), "mermaid": mermaid(evaluation), "text": mermaid(evaluation).rstrip("\n")}


def _iam(options: Namespace) -> Result:
    from infra.graph import roles

    rows = [{"who": who, "role": role, "on": target} for who, role, target in roles(_evaluated(options))]
    widths = [max(len(row[key]) for row in rows) for key in ("who", "role")]
    lines = [f"{row['who']:{widths[0]}}  {row['role']:{widths[1]}}  {row['on']}" for row in rows]
    return {"grants": rows, "text": "\n".join(lines)}


def _doctor(options: Namespace) -> Result:
    from infra.automation.doctor import examine

    return examine(options)


def _commands(options: Namespace) -> Result:
    from infra.automation.gcloud import commands

    lines = commands(_evaluated(options))
    return {"commands": lines, "changes": len(lines), "text": "\n".join(lines)}
