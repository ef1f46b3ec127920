"""`runner infra`: the Pulumi program, from this command line."""

from __future__ import annotations

from runner.cli.commands import Group

command = Group(
    name="infra",
    help="Set up what tuning needs in a Google Cloud project: buckets, accounts, endpoints, alerts.",
    examples=(
        "runner infra bootstrap --stack dev --project my-project",
        "runner infra preview --stack dev",
        "runner infra up --stack dev",
        "runner infra up --stack local --embedded",
    ),
    lazy={
        "bootstrap": ("runner.cli.infra.verbs:bootstrap", "Make the bucket and the key of Pulumi's state."),
        "preview": ("runner.cli.infra.verbs:preview", "Show what `up` would change."),
        "up": ("runner.cli.infra.verbs:up", "Make or change what the stack says."),
        "refresh": ("runner.cli.infra.verbs:refresh", "Bring Pulumi's state to what is there."),
        "destroy": ("runner.cli.infra.verbs:destroy", "Delete the stack's resources; what is protected stays."),
        "outputs": ("runner.cli.infra.verbs:outputs", "Show what the last `up` made."),
        "graph": ("runner.cli.infra.inspect:graph", "Draw the stack, offline."),
        "iam": ("runner.cli.infra.inspect:iam", "List every permission that the stack gives, offline."),
        "doctor": ("runner.cli.infra.inspect:doctor", "Check engine, credentials and the stack's settings."),
    },
)
