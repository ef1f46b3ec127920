"""`runner predict`: send instances to an endpoint and print the predictions."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from runner.cli import commands
from runner.cli.options import Invocation, endpoint_option, sampling_options
from runner.cli.stand_ins import tell_of_answers
from runner.cli.text import require_one_dash, said, standard_input
from runner.cli.values import LocalPath, Picture
from runner.errors import ConfigurationError, require_sound
from runner.json_text import parsed
from runner.local_files import read_text


@commands.command(
    name="predict",
    examples=(
        'runner predict "What is a car?" --endpoint 1234567890',
        'runner predict "What is a car?" --max-tokens 200 --temperature 0 --format json',
        "runner predict --file question.txt",
        "runner predict < question.txt",
        "runner predict --instances requests.jsonl",
        'runner predict "What is on it?" --image photo.jpg --endpoint scout',
    ),
)
@click.argument("prompts", nargs=-1, metavar="[PROMPT]...")
@endpoint_option
@click.option(
    "--instances",
    type=LocalPath(exists=True, allow_dash=True),
    metavar="FILE",
    help="File with instances to send unchanged: JSON Lines or a JSON array; - is standard input.",
)
@click.option(
    "--file",
    "files",
    multiple=True,
    type=LocalPath(exists=True, allow_dash=True),
    metavar="FILE",
    help="File whose whole text is one prompt; - is standard input.",
)
@click.option(
    "--image",
    "images",
    type=Picture(),
    multiple=True,
    metavar="FILE",
    help="Image for every prompt: a file, gs:// or https://.",
)
@click.option("--repeat-prompt", is_flag=True, help="Include the prompt at the start of each answer.")
@sampling_options
@click.pass_obj
def command(
    invocation: Invocation,
    /,
    prompts: tuple[str, ...],
    endpoint: str | None,
    instances: Path | None,
    files: tuple[Path, ...],
    images: tuple[str, ...],
    repeat_prompt: bool,
    **sampling: Any,
) -> None:
    """Send each PROMPT, or standard input (-), to a deployed model and print its answer."""
    from runner.serving.prediction import instances_of, predict, resolve_endpoint, text_of, why_empty

    require_one_dash((*prompts, *files, instances))
    given = _instances(instances) if instances else []
    texts = [*map(said, prompts), *(_text(path) for path in files)]
    if not texts and not given and not sys.stdin.isatty():
        texts = [text] if (text := standard_input()).strip() else []
    given += instances_of(texts, images=images, repeat_prompt=repeat_prompt, **sampling)
    if not given:
        problem = "nothing to predict: give a PROMPT, --file FILE, --instances FILE, or text on standard input"
        raise ConfigurationError(problem)
    with invocation.session() as session:
        found = resolve_endpoint(session, endpoint)
        tell_of_answers(invocation, session, found)
        predictions = predict(session, found, given)
    answers = [text_of(item) for item in predictions]
    for number, text in enumerate(answers, 1):
        if not text.strip():
            which = f"answer {number}" if len(answers) > 1 else "the answer"
            invocation.output.note(f"{which} is empty: {why_empty(predictions[number - 1], given[number - 1])}")
    invocation.output.result({"predictions": predictions}, "\n".join(answers), name=answers)


def _instances(path: Path) -> list[dict[str, Any]]:
    name = "standard input" if str(path) == "-" else str(path)
    text = _text(path)
    if text.lstrip().startswith("["):
        numbered = [(1, text)]
    else:
        numbered = [(number, line) for number, line in enumerate(text.splitlines(), 1) if line.strip()]
    found: list[dict[str, Any]] = []
    problems: list[str] = []
    for number, part in numbered:
        try:
            body = parsed(part)
        except ValueError as error:
            problems.append(f"{name}:{number} is not JSON: {error}")
            continue
        for item in body if isinstance(body, list) else [body]:
            if isinstance(item, dict):
                found.append(item)
            else:
                problems.append(f"{name}:{number} contains an instance that is not an object")
    require_sound(problems)
    return found


def _text(path: Path) -> str:
    """Return the text of a file, or of standard input for `-`. Raises ConfigurationError."""
    if str(path) == "-":
        return standard_input()
    return read_text(path)
