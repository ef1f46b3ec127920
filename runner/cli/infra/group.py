"""`runner infra`: the Pulumi program on this command line."""

from __future__ import annotations

from runner.cli.commands import Group

command = Group(
    name="infra",
    help="Set up what tuning needs in a Google Cloud project: buckets, service accounts, endpoints, alerts.",
    examples=(
        "runner infra init my-stacks --stack dev --project my-project",
        "runner infra bootstrap --stack dev --project my-project",
        "runner infra preview --stack dev",
        "runner infra up --stack dev",
        "runner infra up --stack local --embedded",
    ),
    lazy={
        "init": ("runner.cli.infra.init:command", "Write a stack, and a Pulumi project for it."),
        "bootstrap": ("runner.cli.infra.verbs:bootstrap", "Create the bucket and the key of Pulumi's state."),
        "preview": ("runner.cli.infra.verbs:preview", "Show what `up` would change."),
        "up": ("runner.cli.infra.verbs:up", "Create or update the resources of the stack."),
        "refresh": ("runner.cli.infra.verbs:refresh", "Update Pulumi's state to match the cloud."),
        "destroy": ("runner.cli.infra.verbs:destroy", "Delete the stack's resources, except protected ones."),
        "outputs": ("runner.cli.infra.verbs:outputs", "Show the outputs of the last `up`."),
        "graph": ("runner.cli.infra.verbs:graph", "Draw the stack as a diagram, offline."),
        "iam": ("runner.cli.infra.inspect:iam", "List every permission that the stack grants, offline."),
        "doctor": ("runner.cli.infra.inspect:doctor", "Check the engine, credentials and the stack's settings."),
    },
)
