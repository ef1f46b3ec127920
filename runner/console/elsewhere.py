"""The same job as a command line, a manifest and Python code, for copying."""

from __future__ import annotations

import shlex
from pathlib import PurePath
from typing import Any

import yaml

from runner.console.draft import NUMBERS, Draft
from runner.console.state import Console, Uploads
from runner.prices import limit_above

_PLACEHOLDER = "train.jsonl"
_USUAL_LIMIT = 20.0


def limit_of(usd: float | None) -> float:
    """Return a limit in whole cents that a price does not exceed; a usual one for an unknown price."""
    return _USUAL_LIMIT if usd is None else limit_above(usd)


def in_lines(*words: str) -> str:
    """Return a command line with one option per line."""
    return " \\\n  ".join(words)


def call(assigned: str, function: str, *arguments: str) -> str:
    """Return Python code that calls a function of `runner`, with one argument per line."""
    lines = "".join(f"    {argument},\n" for argument in arguments)
    return f"import runner\n\n{assigned} = runner.{function}(\n{lines})"


def command_line(draft: Draft, console: Console, usd: float | None = None) -> str:
    """Return the command line that submits the same job at a price of at most `usd`."""
    options = [
        ("--model", draft.base_model),
        ("--mode", draft.mode),
        ("--train", _name(draft, console, draft.training) or _PLACEHOLDER),
        ("--validation", _name(draft, console, draft.validation)),
        ("--custom-base-model", draft.custom_base_model),
        *((f"--{name.replace('_', '-')}", getattr(draft, name)) for name in NUMBERS),
        ("--output", draft.output_uri),
        ("--name", draft.display_name),
        *(("--label", pair) for pair in draft.label.split()),
        ("--service-account", draft.service_account),
        ("--kms-key", draft.kms_key),
        ("--max-cost", f"{limit_of(usd):.2f}"),
    ]
    flags = (("--convert", draft.convert), ("--final-only", draft.final_only), ("--force-new", draft.force_new))
    words = ["runner jobs submit", *(f"{option} {shlex.quote(value)}" for option, value in options if value)]
    return in_lines(*words, *(flag for flag, value in flags if value == "1"))


def python(draft: Draft, console: Console, usd: float | None = None) -> str:
    """Return the Python code that submits the same job at a price of at most `usd`."""
    texts = {
        "base_model": draft.base_model,
        "tuning_mode": draft.mode,
        "validation_dataset": _name(draft, console, draft.validation),
        "custom_base_model": draft.custom_base_model,
        "output_uri": draft.output_uri,
        "tuned_model_display_name": draft.display_name,
        "description": draft.description,
        "service_account": draft.service_account,
        "kms_key": draft.kms_key,
    }
    lines = [repr(_name(draft, console, draft.training) or _PLACEHOLDER)]
    lines += [f"{name}={value!r}" for name, value in texts.items() if value]
    lines += [f"{name}={_number(getattr(draft, name))!r}" for name in NUMBERS if getattr(draft, name)]
    lines += [f"labels={_labels(draft)!r}"] if draft.label else []
    flags = {"export_last_checkpoint_only": draft.final_only, "convert": draft.convert, "force_new": draft.force_new}
    lines += [f"{name}=True" for name, value in flags.items() if value == "1"]
    lines.append(f"max_cost={limit_of(usd):.2f}")
    return call("job", "tune", *lines)


def manifest(draft: Draft, console: Console, usd: float | None = None) -> str:
    """Return the manifest of the same job; data in another format is converted first."""
    before = []

    def data(source: str) -> str:
        name = _name(draft, console, source)
        if draft.convert != "1" or not Uploads.is_one(source):
            return name or _PLACEHOLDER
        plain = f"{PurePath(name).stem}.jsonl"
        before.append(f"# runner data convert {shlex.quote(name)} --output {shlex.quote(plain)}\n")
        return plain

    keys = {"epochs": "epochs", "learning_rate": "learningRate", "adapter_size": "adapterSize"}
    keys |= {"batch_size": "batchSize"}
    spec: dict[str, Any] = {
        "baseModel": draft.base_model,
        "customBaseModel": draft.custom_base_model,
        "mode": draft.mode,
        "hyperparameters": {key: _number(getattr(draft, name)) for name, key in keys.items() if getattr(draft, name)},
        "data": {"train": data(draft.training)} | ({"validation": data(draft.validation)} if draft.validation else {}),
        "output": draft.output_uri,
        "exportLastCheckpointOnly": draft.final_only == "1",
        "description": draft.description,
        "serviceAccount": draft.service_account,
        "kmsKey": draft.kms_key,
        "maxCost": limit_of(usd),
    }
    body = {
        "apiVersion": "open-model-tuning/v1",
        "kind": "TuningJob",
        "metadata": {"name": _manifest_name(draft.display_name)} | ({"labels": _labels(draft)} if draft.label else {}),
        "spec": {key: value for key, value in spec.items() if value not in ("", {}, False)},
    }
    return "".join(before) + str(yaml.dump(body, Dumper=_quoting(), sort_keys=False, allow_unicode=True))


def _name(draft: Draft, console: Console, source: str) -> str:
    return draft.name_of(console, source) if source else ""


def _number(text: str) -> float | str:
    """Return a number; other texts are returned unchanged, so that the reader sees them."""
    try:
        return int(text) if text.isdecimal() else float(text)
    except ValueError:
        return text


def _labels(draft: Draft) -> dict[str, str]:
    return dict(pair.split("=", 1) for pair in draft.label.split() if "=" in pair)


def _manifest_name(name: str) -> str:
    plain = "-".join("".join(sign if sign.isascii() and sign.isalnum() else " " for sign in name.lower()).split())
    return plain[:60].rstrip("-") if plain[:1].isalpha() else f"job-{plain}"[:60].rstrip("-")


def _quoting() -> type[yaml.SafeDumper]:
    """Return a writer of YAML 1.2: PyYAML does not quote `0E0`, which is a number in this version."""

    class Dumper(yaml.SafeDumper):  # type: ignore[misc]  # the package has no types
        pass

    def text(dumper: yaml.SafeDumper, value: str) -> yaml.ScalarNode:
        numeric = value[:1] in set("0123456789+-.")
        return dumper.represent_scalar("tag:yaml.org,2002:str", value, style='"' if numeric else None)

    Dumper.add_representer(str, text)
    return Dumper
