"""`runner reproduce`: run a job again from its run manifest."""

from __future__ import annotations

from typing import Any

import click

from runner.cli import commands
from runner.cli.jobs.group import found_job
from runner.cli.options import Invocation, cost_options, job_argument
from runner.errors import ConfigurationError


@commands.command(
    name="reproduce",
    changes=True,
    examples=(
        "runner reproduce latest",
        "runner reproduce 1234567890 --submit --max-cost 20",
        "runner reproduce 1234567890 --format json",
    ),
)
@job_argument
@click.option("--submit", "submit_it", is_flag=True, help="Submit the job again, after you confirm its price.")
@cost_options
@click.option("--watch", "watch_it", is_flag=True, help="Show progress until the job ends.")
@click.pass_obj
def command(
    invocation: Invocation,
    job: str,
    submit_it: bool,
    watch_it: bool,
) -> None:
    """Show the inputs of JOB and what has changed since; with --submit, run it again.

    JOB needs a run manifest, which this tool writes beside the results of every job that it submits. If the data has
    changed, the command submits nothing, because that would be a different job. The current price applies.
    """
    from runner.jobs.repeating import reproduction

    output = invocation.output
    with invocation.session() as session:
        original = found_job(session, job)
        manifest = reproduction.read_manifest(session, original)
        changes = reproduction.differences(session, manifest)
        blocking = [change for change in changes if change["matters"]]
        if not submit_it:
            body = {"job": original.id, "manifest": manifest, "changes": changes, "reproducible": not blocking}
            output.result(body, _described(manifest, changes), name="yes" if not blocking else "no")
            if blocking:
                output.warning("the data has changed: the job cannot be reproduced")
            else:
                output.note(f"next: `runner reproduce {original.id} --submit`")
            return
        if blocking:
            problems = [
                f"{change['what']}: CRC32C was {change['then']}, is {change['now'] or 'gone'}" for change in blocking
            ]
            raise ConfigurationError(
                f"job {original.id} cannot be reproduced: {'; '.join(problems)}",
                problems=problems,
                hint=f"to tune on the current data, run `runner jobs clone {original.id}`",
            )
        for change in changes:
            output.note(f"differs: {change['what']} was {change['then']}, is {change['now']}")
        _submit(invocation, session, manifest, original.name, watch_it)


def _submit(
    invocation: Invocation,
    session: Any,
    manifest: dict[str, Any],
    original: str,
    watch_it: bool,
) -> None:
    import dataclasses

    from runner.cli.jobs.submit import submit_specification
    from runner.jobs.repeating.reproduction import spec_of

    # A new folder and name, so that the results can be compared and are not replaced.
    spec = dataclasses.replace(spec_of(manifest), output_uri=None, display_name="")
    labels = {key: value for key, value in spec.labels.items() if not key.startswith("runner-")}
    submit_specification(
        invocation,
        session,
        dataclasses.replace(spec, labels=labels),
        force_new=True,
        watch_it=watch_it,
        details={"reproduces": original},
    )
    invocation.output.note(f"compare them: `runner jobs diff {original.rsplit('/', 1)[-1]} latest`")


def _described(manifest: dict[str, Any], changes: list[dict[str, Any]]) -> list[tuple[str, Any]]:
    spec = manifest["spec"]
    pairs: list[tuple[str, Any]] = [("submitted", manifest["written"]), ("fingerprint", manifest["fingerprint"])]
    pairs += [(name.replace("_", " "), value) for name, value in spec.items() if value not in (None, "", {}, False)]
    for role, version in manifest["datasets"].items():
        if version:
            pairs.append((f"{role} data", f"CRC32C {version['crc32c']}, generation {version['generation']}"))
    pairs += [("catalog", manifest["catalog"]), ("price", manifest["price"].get("usdPerMillionTokens"))]
    pairs += list(manifest["versions"].items())
    git = manifest.get("git")
    if git:
        pairs.append(("git commit", git["commit"] + (" and uncommitted changes" if git["dirty"] else "")))
    for number, change in enumerate(changes):
        text = f"{change['what']}: was {change['then']}, is {change['now']}"
        pairs.append(("changed since" if not number else "", text))
    if not changes:
        pairs.append(("changed since", "nothing"))
    return pairs
