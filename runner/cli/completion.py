"""`runner completion`: the script for completing commands, options and IDs in a shell."""

from __future__ import annotations

import click
from click.shell_completion import (
    BashComplete,
    CompletionItem,
    ShellComplete,
    add_completion_class,
    get_completion_class,
)

from runner.cli import commands
from runner.cli.options import Invocation
from runner.cli.values import OneOf

VARIABLE = "_RUNNER_COMPLETE"
_SHELLS = ("bash", "zsh", "fish", "powershell")
_POWERSHELL = """\
Register-ArgumentCompleter -Native -CommandName %(prog_name)s -ScriptBlock {
    param($wordToComplete, $commandAst, $cursorPosition)
    $words = @($commandAst.CommandElements | ForEach-Object { $_.ToString() })
    if ($wordToComplete -eq '') { $words += '' }
    $env:%(complete_var)s = 'powershell_complete'
    $env:COMP_WORDS = ($words -join "`n")
    try {
        %(prog_name)s | ForEach-Object {
            $name, $help = $_ -split "`t", 2
            if (-not $help) { $help = $name }
            [System.Management.Automation.CompletionResult]::new($name, $name, 'ParameterValue', $help)
        }
    } finally {
        Remove-Item Env:%(complete_var)s, Env:COMP_WORDS
    }
}
"""


@add_completion_class
class PowerShellComplete(ShellComplete):
    """Completion for PowerShell, which click does not support."""

    name = "powershell"
    source_template = _POWERSHELL

    def get_completion_args(self) -> tuple[list[str], str]:
        """Return the words before the cursor without the program, and the incomplete word."""
        import os

        words = os.environ.get("COMP_WORDS", "").split("\n")
        return words[1:-1], words[-1] if len(words) > 1 else ""

    def format_completion(self, item: CompletionItem) -> str:
        """Return one line of the output."""
        return f"{item.value}\t{item.help or ''}"


class _UncheckedBash(BashComplete):
    """Bash, without click's check of the version of the bash on the PATH, which may not be the user's."""

    @staticmethod
    def _check_version() -> None:
        pass


@commands.command(
    name="completion",
    examples=(
        "runner completion bash > ~/.local/share/bash-completion/completions/runner",
        'runner completion zsh > "${fpath[1]}/_runner"',
        "runner completion fish > ~/.config/fish/completions/runner.fish",
        "runner completion powershell >> $PROFILE",
    ),
)
@click.argument("shell", type=OneOf(_SHELLS))
@click.pass_obj
def command(invocation: Invocation, shell: str) -> None:
    """Print the script that completes commands, options, models, states, and the ids and names of jobs and endpoints.

    The command does not change your shell's files. Completion offers the ids and names that earlier commands have
    shown, and never waits for a service: if they are old, a background process reads them again.
    """
    root = click.get_current_context().find_root().command
    found = _UncheckedBash if shell == "bash" else get_completion_class(shell)
    assert found is not None, shell  # noqa: S101 - every choice has a class
    script = found(root, {}, "runner", VARIABLE).source()
    invocation.output.piece(script if script.endswith("\n") else f"{script}\n")
