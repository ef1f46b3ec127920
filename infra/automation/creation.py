"""Creates a stack from answers: its file, and the Pulumi project around it if there is none."""

from __future__ import annotations

import shlex
from argparse import Namespace
from functools import partial
from pathlib import Path
from typing import Any

from infra import stack_files
from infra.settings.examples import refuse_examples
from infra.settings.reader import NAMESPACE, as_texts
from infra.settings.stack import DEFAULT_REGION, Settings
from runner.errors import ConfigurationError
from runner.infrastructure import make_project, project_files, stack_file


def create(options: Namespace) -> dict[str, Any]:
    """Write a stack that needs no further settings. Return its files, its settings and the commands to run next.

    Raises:
        ConfigurationError: an answer is missing, malformed or an example value, or a file exists; all are listed,
            and nothing is written.
    """
    folder = Path(options.directory or ".")
    file = stack_file(options.stack, folder)
    values = _answers(options)
    _check(values, options)
    if file.exists() and not options.force:
        raise ConfigurationError(f"{file} exists", hint="overwrite it with --force")
    stack_files.text_of(file)
    made = [] if any(path.exists() for path in project_files(folder)) else make_project(folder)
    stack_files.write(file, values, fresh=True)
    files = [str(path) for path in (*made, file)]
    return {
        "directory": str(folder),
        "stack": options.stack,
        "files": files,
        "settings": values,
        "next": _next(options, folder),
        "text": "\n".join(files),
    }


def _answers(options: Namespace) -> dict[str, Any]:
    """Return the settings for the answers that were given."""
    own = {
        "environment": stack_files.kind_of(options.stack) if options.kind is None else options.kind,
        "emulator": options.emulator,
        "runnerImpersonators": options.operator,
        "budgetAmount": options.budget,
        "budgetCurrency": options.currency,
        "billingAccount": options.billing_account,
        "notificationEmails": options.notify,
    }
    project = options.project or ("local-project" if options.emulator else "")
    place = {"gcp:project": project, "gcp:region": options.location or DEFAULT_REGION}
    return {**place, **{f"{NAMESPACE}:{name}": value for name, value in own.items() if value}}


_OPTIONS = {
    "gcp:project": "--project",
    "gcp:region": "--location",
    "environment": "--kind",
    "emulator": "--emulator",
    "runnerImpersonators": "--operator",
    "budgetAmount": "--budget and --billing-account",
    "budgetCurrency": "--currency",
    "billingAccount": "--billing-account",
    "notificationEmails": "--notify",
}


def _check(values: dict[str, Any], options: Namespace) -> None:
    """Raise ConfigurationError with all mistakes in the answers, each with the option that corrects it."""
    problems: list[str] = []
    texts = as_texts(values)
    for check in (Settings.load, *(() if options.emulator else (partial(refuse_examples, stack=options.stack),))):
        try:
            check(texts)
        except ConfigurationError as error:
            keys = {problem.split(" ", 1)[0] for problem in problems}
            problems += [problem for problem in error.problems if problem.split(" ", 1)[0] not in keys]
    if problems:
        named = {key.removeprefix(f"{NAMESPACE}:"): key for key in (problem.split(" ", 1)[0] for problem in problems)}
        hint = ", ".join(dict.fromkeys(_OPTIONS[key] for key in named if key in _OPTIONS))
        listed = "\n  ".join(problems)
        message = f"stack {options.stack} would have mistakes:\n  {listed}" if len(problems) > 1 else listed
        raise ConfigurationError(message, problems=problems, hint=f"set {hint}" if hint else None)


def _next(options: Namespace, folder: Path) -> str:
    verb = "up --embedded" if options.emulator else "bootstrap"
    place = "" if folder.resolve() == Path().resolve() else f" --directory {shlex.quote(str(folder))}"
    return f"runner infra {verb} --stack {shlex.quote(options.stack)}{place}"
