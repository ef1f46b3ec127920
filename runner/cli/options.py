"""The options of every command, accepted anywhere on the line, and the objects that commands get from them."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import click

from runner.cli.completing import completed
from runner.cli.output import Output
from runner.cli.values import Count, DataFile, LocalPath, Location, Money, OneOf, Quantity, Whole
from runner.errors import ConfigurationError

if TYPE_CHECKING:
    from runner.environment import Environment
    from runner.environment.targets import Target
    from runner.gcp.session import Session

Command = TypeVar("Command", bound=Callable[..., Any])


@dataclass(slots=True)
class Invocation:
    """The global options of one command line. Commands get it with `@click.pass_obj`."""

    format: Literal["text", "json"] = "text"
    environment: str | None = None
    context: str | None = None
    project: str | None = None
    location: str | None = None
    quiet: bool = False
    verbose: bool = False
    debug: bool = False
    no_color: bool = False
    yes: bool = False
    max_cost: float | None = None
    """The price limit of the command line in US dollars; see `cost_options`."""
    accept_unknown_cost: bool = False
    interrupted: str = ""
    """The message after Ctrl-C: what continues, and how to resume."""
    command: str = ""
    """The current command, such as `runner jobs ls`."""
    options: dict[str, list[str]] = field(default_factory=dict)
    """The options of the current command, by parameter name."""
    announces: bool = False
    """Whether the command changes or costs something, so that its first line names the target."""
    target: Target | None = None
    """The target of the command, if known."""
    sessions: list[Session] = field(default_factory=list)
    """The opened sessions."""
    has_listed_findings: bool = False
    """Whether the command's own output already contains the findings of its dataset error."""

    @property
    def output(self) -> Output:
        """Return the printer."""
        return Output(self.format, self.quiet, False if self.no_color else None)

    def flags(self, **others: str | None) -> dict[str, str | None]:
        """Return the flags for `runner.environment.resolve`."""
        own = {"environment": self.environment, "context": self.context}
        return {**own, "project": self.project, "location": self.location, **others}

    def resolved(self, **others: str | None) -> Environment:
        """Return the environment. Raises ConfigurationError."""
        return self.session(**others).environment

    def session(self, **others: str | None) -> Session:
        """Return the session. Raises ConfigurationError."""
        from runner.gcp.connecting import connect

        session = connect(self.flags(**others))
        self.sessions.append(session)
        before, self.target = self.target, session.environment.target
        if self.announces and self.target.project and self.target != before:
            self.output.target(self.target)
        return session


def _store_json(ctx: click.Context, parameter: click.Parameter, value: bool) -> None:
    if value:
        ctx.ensure_object(Invocation).format = "json"


def _store(ctx: click.Context, parameter: click.Parameter, value: Any) -> None:
    source = ctx.get_parameter_source(str(parameter.name))
    if source is click.core.ParameterSource.COMMANDLINE:
        setattr(ctx.ensure_object(Invocation), str(parameter.name), value)
        if parameter.name == "verbose":
            _log()


def _log() -> None:
    """Log requests and messages of the library to standard error."""
    import logging

    logging.basicConfig(format="%(asctime)s %(name)s: %(message)s", level=logging.INFO)
    logging.getLogger("runner").setLevel(logging.DEBUG)


def global_options() -> list[click.Option]:
    """Return new options for a command. The last one on the line counts."""

    def option(*names: str, **attributes: Any) -> click.Option:
        return click.Option(names, expose_value=False, callback=_store, **attributes)

    return [
        option("--format", type=OneOf(["text", "json"]), help="Format of results and errors [default: text]."),
        click.Option(
            ["--json"], is_flag=True, expose_value=False, callback=_store_json, help="The same as --format json."
        ),
        option("--environment", metavar="FILE", help="Environment document: a file or a gs:// object."),
        option(
            "--context",
            metavar="NAME",
            shell_complete=completed("contexts"),
            help="Context to work in: emulator, google, or one of `runner context ls`.",
        ),
        option("--project", metavar="ID", help="Google Cloud project."),
        option(
            "--location",
            type=Location(),
            metavar="NAME",
            help="Location of jobs and endpoints, for example us-central1.",
        ),
        option("-y", "--yes", is_flag=True, help="Skip confirmation prompts."),
        option("-q", "--quiet", is_flag=True, help="Print only names, without progress."),
        option("-v", "--verbose", is_flag=True, help="Log to standard error."),
        option("--debug", is_flag=True, help="Also print the traceback of an error."),
        option("--no-color", is_flag=True, help="Disable colors; the NO_COLOR variable does the same."),
    ]


def require_absent(path: Path, *, force: bool) -> None:
    """Return normally if a file does not exist, or may be overwritten. Raises ConfigurationError."""
    if path.exists() and not force:
        raise ConfigurationError(f"{path} exists", hint="overwrite it with --force")


def together(*decorators: Callable[..., Any]) -> Callable[[Command], Command]:
    """Return a decorator that adds several options in this order."""

    def add(function: Command) -> Command:
        for decorator in reversed(decorators):
            function = decorator(function)
        return function

    return add


cost_options = together(
    click.option(
        "--max-cost",
        type=Money(),
        expose_value=False,
        callback=_store,
        help="Approve a price up to this limit, and refuse anything above it, without a prompt.",
    ),
    click.option(
        "--accept-unknown-cost",
        is_flag=True,
        expose_value=False,
        callback=_store,
        help="Continue even if no price is published.",
    ),
)
"""The allowed price; the invocation stores it for `runner.cli.cost_gate.terms`."""
job_argument = click.argument("job", metavar="JOB", shell_complete=completed("jobs"))
jobs_argument = click.argument("jobs", nargs=-1, required=True, metavar="JOB...", shell_complete=completed("jobs"))
endpoint_argument = click.argument("endpoint", metavar="ENDPOINT", shell_complete=completed("endpoints"))
endpoint_option = click.option(
    "--endpoint",
    metavar="ID",
    shell_complete=completed("endpoints"),
    help="Endpoint: ID, name or full name [default: the environment's, or the only one].",
)
"""The endpoint that gets the request."""
mode_option = click.option(
    "--mode",
    type=OneOf(["FULL", "PEFT_ADAPTER"], case_sensitive=False),
    help="Tuning mode: all parameters, or an adapter (LoRA) [default: the model's first].",
)
epochs_option = click.option("--epochs", type=Count(1), help="Number of epochs [default: 3].")
tokenizer_option = click.option(
    "--tokenizer",
    type=LocalPath(folder=True, exists=True),
    metavar="DIRECTORY",
    help="Tokenizer for token counts [default: the model's in the Hugging Face cache; otherwise an estimate].",
)
limits_options = together(
    click.option(
        "--model",
        metavar="ID",
        shell_complete=completed("models"),
        help="Base model whose limits apply; `runner models ls` lists them.",
    ),
    mode_option,
    tokenizer_option,
)
"""`model`, `mode` and `tokenizer`: the use of a dataset."""
SAMPLING = ("max_tokens", "temperature", "top_p", "top_k", "seed")
sampling_options = together(
    click.option("--max-tokens", type=Count(1), help="Maximum number of tokens in an answer."),
    click.option(
        "--temperature", type=Quantity(0, 2), help="Sampling temperature; 0 always picks the most likely token."
    ),
    click.option("--top-p", type=Quantity(0, 1), help="Cumulative probability to sample from."),
    click.option("--top-k", type=Count(1), help="Number of most likely tokens to sample from."),
    click.option("--seed", type=Whole(), help="Random seed; the same seed gives the same answer."),
)
"""The arguments of `SAMPLING`, each None if not given."""
replace_output_option = click.option(
    "--replace-output", is_flag=True, help="Delete the results of another job from the output folder."
)


def base_model_option(name: str) -> Callable[[Command], Command]:
    """Return the option of the base model to tune, as the argument `name`."""
    return click.option(
        "--model",
        name,
        required=True,
        metavar="ID",
        shell_complete=completed("models"),
        help="Base model; `runner models ls` lists them.",
    )


def limit_mistakes(invocation: Invocation, given: Mapping[str, Any]) -> list[str]:
    """Return the errors in --model and --mode."""
    from runner.catalog import UnknownModelError, find_model
    from runner.datasets.checks import limit_problems

    try:
        return limit_problems(find_model(given["model"]) if "model" in given else None, given.get("mode"))
    except UnknownModelError as error:
        return [error.message]


@dataclass(frozen=True, slots=True)
class Dataset:
    """A dataset in a command line, and its use."""

    training: Path | str
    validation: Path | str | None = None
    model: str | None = None
    mode: Any = None
    tokenizer: Path | None = None


def dataset_options(function: Command) -> Command:
    """Add `dataset`, a `Dataset`."""

    @functools.wraps(function)
    def command(
        *arguments: Any,
        training: Path | str,
        validation: Path | str | None,
        model: str | None,
        mode: Any,
        tokenizer: Path | None,
        **options: Any,
    ) -> Any:
        return function(*arguments, dataset=Dataset(training, validation, model, mode, tokenizer), **options)

    add = together(
        click.argument("training", type=DataFile(exists=True)),
        click.option("--validation", type=DataFile(exists=True), help="Validation dataset."),
        limits_options,
    )
    return add(command)  # type: ignore[return-value]
