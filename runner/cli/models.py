"""`runner models`: the catalog of base models."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import click

from runner.cli import commands
from runner.cli.completing import completed
from runner.cli.options import Invocation
from runner.cli.text import amount
from runner.wording import camel_keys

if TYPE_CHECKING:
    from runner.catalog import Model

command = commands.Group(
    name="models",
    help="List base models that can be tuned: modes, limits and prices, each with its source.",
    examples=("runner models ls", "runner models show meta/llama3_1@llama-3.1-8b-instruct"),
    lazy={
        "ls": ("runner.cli.models:ls", "List base models."),
        "show": ("runner.cli.models:show", "Show the modes, limits and prices of a base model."),
    },
)


@commands.command(name="ls", examples=("runner models ls", "runner models ls --all", "runner models ls -q"))
@click.option("--all", "everything", is_flag=True, help="Include models that only newer pages of the service list.")
@click.pass_obj
def ls(invocation: Invocation, everything: bool) -> None:
    """List base models: tuning modes, longest example in tokens, published price per million trained tokens."""
    from runner.catalog import models

    chosen = [model for model in models() if everything or model.in_specification]
    rows = []
    for model in chosen:
        for mode, limits in model.modes.items():
            price = limits.usd_per_million_tokens
            row = [model.id, mode, limits.max_sequence_length, "-" if price is None else amount(price)]
            rows.append([*row, "text, images" if model.images else "text"])
    headings = ["model", "mode", "max tokens", "USD/M tokens", "input"]
    body = [_body(model) for model in chosen]
    names = [model.id for model in chosen]
    invocation.output.table(
        headings, rows, body=body, names=names, numbers=(2, 3), droppable=("input", "max tokens", "USD/M tokens")
    )
    invocation.output.note(f"locations: {_locations()}")
    if not everything:
        invocation.output.note("--all includes models from newer pages of the service")


@commands.command(name="show", examples=("runner models show qwen/qwen3@qwen3-32b",))
@click.argument("model", metavar="MODEL", shell_complete=completed("models"))
@click.pass_obj
def show(invocation: Invocation, model: str) -> None:
    """Show the modes, limits and prices of a base model. MODEL is an ID, an alias or the long form `publishers/…`."""
    from runner.catalog import find_model, load_catalog

    found = find_model(model)
    catalog = load_catalog()
    pairs: list[tuple[str, Any]] = [
        ("id", found.id),
        ("name", found.name),
        ("aliases", ", ".join(found.aliases)),
        ("input", "text and images" if found.images else "text"),
        ("tokenizer", f"{found.hub} on Hugging Face's hub" if found.hub else "repository not confirmed"),
        ("documented in", _SOURCES.get(found.source.split("-")[0], found.source)),
    ]
    for mode, limits in found.modes.items():
        price = limits.usd_per_million_tokens
        parts = [f"at most {limits.max_sequence_length} tokens per example"]
        parts += [f"{amount(price)} per million tokens" if price is not None else "no published price"]
        parts += [f"learning rate {limits.learning_rate}"] if limits.learning_rate else []
        parts += [f"adapter size {limits.adapter_size}"] if limits.adapter_size else []
        pairs.append((mode, ", ".join(parts)))
    if found.serving:
        machine = found.serving
        parts = [machine.machine_type, f"{machine.accelerator_count} x {machine.accelerator_type}"]
        pairs.append(("serving", ", ".join(parts)))
    pairs.append(("locations", _locations()))
    pairs.append(("prices as of", catalog.price_date))
    invocation.output.result(_body(found), pairs, name=found.id)


_SOURCES = {"specification": "Google's tuning page", "page": "a newer tuning page of Google's"}


def _locations() -> str:
    """Return where the models can be tuned: the specification's locations, then those of newer pages."""
    from runner.catalog import load_catalog

    found = load_catalog().locations
    first = [item.id for item in found if item.source == "specification"]
    newer = [item.id for item in found if item.source != "specification"]
    return ", ".join(first) + (f"; on newer pages also {', '.join(newer)}" if newer else "")


def _body(model: Model) -> dict[str, Any]:
    return camel_keys(dataclasses.asdict(model))
