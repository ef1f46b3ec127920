"""`runner endpoints check`, and the same check before a deployment gets traffic."""

from __future__ import annotations

from pathlib import Path

import click

from runner.cli import commands
from runner.cli.options import Invocation, endpoint_argument, together
from runner.cli.stand_ins import tell_of_answers
from runner.cli.values import INPUT

check_options = together(
    click.option(
        "--check",
        "check_file",
        type=INPUT,
        help="Training dataset: verify the model on some of its examples before it gets traffic.",
    ),
    click.option("--check-base", metavar="ID", help="With --check: Google-managed base model to compare with."),
)
"""`check_file` and `check_base` of a deployment."""


@commands.command(
    name="check",
    examples=(
        "runner endpoints check my-model --golden train.jsonl",
        "runner endpoints check my-model --golden train.jsonl --base-model meta/llama-3.1-8b-instruct-maas",
    ),
)
@endpoint_argument
@click.option("--golden", type=INPUT, required=True, help="Dataset that the model was trained on.")
@click.option("--model", default="newest", show_default=True, metavar="ID", help="Deployed model to check.")
@click.option("--base-model", metavar="ID", help="Google-managed base model to compare with.")
@click.option(
    "--source", default="", metavar="gs://…", help="Folder with the weights that the model is expected to have."
)
@click.pass_obj
def check(invocation: Invocation, endpoint: str, golden: Path, model: str, base_model: str | None, source: str) -> None:
    """Verify one model on ENDPOINT with examples of its training data: it is the tuned model, it answers, and it stops.

    The exit code is 11 if a check fails. A model on one of Google's shared endpoints cannot be checked separately.
    """
    from runner.serving.deploying import GOLDEN
    from runner.serving.parity import check_parity, require
    from runner.serving.prediction import resolve_endpoint
    from runner.serving.questions import read_questions
    from runner.serving.traffic import find_model

    questions = read_questions(golden, limit=GOLDEN)
    with invocation.session() as session:
        found = resolve_endpoint(session, endpoint)
        chosen = find_model(found, model)
        tell_of_answers(invocation, session, found)
        findings = check_parity(session, found, chosen, questions, source=source, base_model=base_model)
    invocation.output.table(
        ["check", "state", "what"],
        [[item.check, item.state, item.message] for item in findings],
        body={"endpoint": found.name, "model": chosen.id, "findings": [item.to_json() for item in findings]},
        names=[item.check for item in findings if item.state == "failed"],
    )
    require(findings, found)
