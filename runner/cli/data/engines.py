"""Where a dataset is read: on this machine, or by workers of an Apache Beam pipeline at an approved price."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from runner.cli.options import Command, Invocation, cost_options, together
from runner.cli.values import OneOf
from runner.errors import ConfigurationError, require_sound
from runner.prices import up_to

if TYPE_CHECKING:
    from runner.datasets.distributed.pipelines import Beam
    from runner.datasets.distributed.pricing import PipelineEstimate


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineChoice:
    """The options of the engine."""

    name: str
    runner: str
    pipeline: tuple[str, ...]
    dry_run: bool

    def options(self, invocation: Invocation) -> list[str]:
        """Return the options of the pipeline; Dataflow's project and region come from the environment."""
        from runner.datasets.distributed.pricing import DATAFLOW

        given = [f"--{option.removeprefix('--')}" for option in self.pipeline]
        if self.runner == DATAFLOW:
            names = {option.partition("=")[0] for option in given}
            environment = invocation.resolved()
            known = {"--project": environment.project, "--region": environment.location}
            given += [f"{name}={value}" for name, value in known.items() if name not in names and value]
        return given


def engine_mistakes(given: Mapping[str, Any], limit: float | None) -> list[str]:
    """Return an error if options of a pipeline are given without --engine beam."""
    wanted = [given.get(name) for name in ("beam_runner", "pipeline", "dry_run")]
    if given.get("engine_name", "local") == "local" and (any(wanted) or limit is not None):
        return ["--runner, --pipeline, --dry-run and --max-cost require --engine beam"]
    return []


def engine_options(function: Command) -> Command:
    """Add `engine`, an `EngineChoice`."""
    add = together(
        click.option(
            "--engine",
            "engine_name",
            type=OneOf(["local", "beam"]),
            default="local",
            help="Read the files on this machine or in an Apache Beam pipeline [default: local].",
        ),
        click.option(
            "--runner",
            "beam_runner",
            metavar="NAME",
            help="Beam runner, for example DataflowRunner [default: DirectRunner].",
        ),
        click.option("--pipeline", multiple=True, metavar="KEY=VALUE", help="Option of the Beam pipeline; repeatable."),
        click.option("--dry-run", is_flag=True, help="Only show what the pipeline would cost on Dataflow."),
        cost_options,
    )

    @functools.wraps(function)
    def command(
        *arguments: Any,
        engine_name: str,
        beam_runner: str | None,
        pipeline: tuple[str, ...],
        dry_run: bool,
        **options: Any,
    ) -> Any:
        limit = click.get_current_context().ensure_object(Invocation).max_cost
        given = {"engine_name": engine_name, "beam_runner": beam_runner, "pipeline": pipeline, "dry_run": dry_run}
        require_sound(engine_mistakes(given, limit), hint="add --engine beam")
        choice = EngineChoice(
            name=engine_name, runner=beam_runner or "DirectRunner", pipeline=pipeline, dry_run=dry_run
        )
        return function(*arguments, engine=choice, **options)

    return add(command)  # type: ignore[return-value]


@contextmanager
def opened(invocation: Invocation, choice: EngineChoice, what: str, *given: Path | str | None) -> Iterator[Beam | None]:
    """Yield where pipelines run, after approval of their price; None if this machine reads.

    Raises:
        CostRefusedError: the price was not approved.
        Exit: only the price was requested, and was shown.
    """
    if choice.dry_run:
        _show_price(invocation, _estimate(invocation, choice, what, given))
        raise click.exceptions.Exit(0)
    if choice.name == "local":
        yield None
        return
    from runner.datasets.distributed.pipelines import LOCAL_RUNNERS, Beam
    from runner.datasets.distributed.pricing import DATAFLOW

    options = choice.options(invocation)
    with Beam(choice.runner, options) as beam:
        if choice.runner not in LOCAL_RUNNERS:
            from runner.cli.cost_gate import terms
            from runner.prices import Price

            known = choice.runner == DATAFLOW
            found = _estimate(invocation, choice, what, given)
            place = f"Dataflow in {beam.option('project')}, {beam.option('region')}" if known else choice.runner
            price = Price(
                what=f"`data {what}` of {found.octets:,} bytes on {place}",
                usd=found.high if known else None,
                expected=found.usd if known else None,
            )
            terms(invocation).require(price)
        yield beam


def _show_price(invocation: Invocation, found: PipelineEstimate) -> None:
    rows = [
        ("reads", f"{found.octets:,} bytes"),
        ("workers", found.workers),
        ("vCPU hours", f"{found.vcpu_hours:.2f}"),
        ("shuffled", f"{found.shuffled_gb:.2f} GB"),
        (
            "price",
            f"{up_to(found.usd, found.high)} on Dataflow (list prices of {found.price_date})",
        ),
    ]
    invocation.output.result(found.to_json(), rows, name=f"{found.usd:.2f}")


def _estimate(
    invocation: Invocation, choice: EngineChoice, what: str, given: tuple[Path | str | None, ...]
) -> PipelineEstimate:
    from runner.cli.data.sources import sources
    from runner.datasets.distributed.pricing import estimate
    from runner.datasets.reading.sources import STDIN, RemoteObject, missing

    names = [name for name in given if name is not None]
    with sources(invocation, names[0], names[1] if len(names) > 1 else None) as found:
        here = [item for item in found if item is not None]
        problems = [problem for item in here if (problem := missing(item) or ("-" if item == STDIN else ""))]
        if problems:
            message = "; ".join(
                f"{item}: the size of a pipe is not known" if item == "-" else item for item in problems
            )
            raise ConfigurationError(message, problems=problems)
        octets = sum(item.size if isinstance(item, RemoteObject) else item.stat().st_size for item in here)
    most = next((one.partition("=")[2] for one in choice.pipeline if "max_num_workers=" in one), "")
    return estimate(what, octets, most_workers=int(most) if most.isdigit() else None)
