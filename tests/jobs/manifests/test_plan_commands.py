"""`runner plan`, `apply`, `drift`, `queue` and `schema` as people and pipelines use them."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from runner.gcp import failures, tuning_jobs, uploads
from runner.gcp.session import Session
from runner.jobs.manifests.records import Deployment, StateLedger
from runner.jobs.manifests.schema import json_schema
from runner.serving.manifests import deploying
from tests.cli.invocation import CommandLine, Outcome
from tests.gcp.flaky import Fault, FlakyProxy
from tests.jobs.manifests.folder import MODEL, Manifests, jobs_of, names_of
from tests.projects import upload_dataset


def test_plan_answers_with_its_exit_code(idle: CommandLine, manifests: Manifests, tmp_path: Path) -> None:
    folder = str(manifests.folder)
    manifests.add("tone", spec="maxCost: 5")
    saved = tmp_path / "plan.json"
    outcome = idle("plan", "-f", folder, "--out", str(saved))
    assert outcome.code == 2
    assert "+ tone: new" in outcome.out
    assert f"{MODEL} PEFT_ADAPTER, 12 rows, about $0.0000" in outcome.out
    assert "1 to create" in outcome.out
    assert f"next: `runner apply {saved}`" in outcome.err
    applied = idle("apply", str(saved), "--format", "json", "--quota", "3")
    assert applied.code == 0
    assert [step["what"] for step in applied.document["steps"]] == ["created"]
    again = idle("plan", "-f", folder)
    assert again.code == 0
    assert "= 1 kept: tone" in again.out
    stale = idle("apply", str(saved), "--format", "json")
    assert stale.code == 10
    assert stale.error["code"] == "stale_plan"
    [change] = stale.error["changes"]
    assert change.startswith("tone: action was create, is keep, its record changed, its price was up to $")
    assert change.endswith(", is nothing")


def test_an_adopted_job_is_not_called_submitted(idle: CommandLine, manifests: Manifests) -> None:
    folder = str(manifests.folder)
    manifests.add("tone")
    manifests.add("other")
    first = idle("apply", "-f", folder, "--yes", "--quota", "9", "--json").document
    assert (sorted(first["submitted"]), first["adopted"]) == (["other", "tone"], [])
    for epochs in (2, 3):  # back to the first, which has a job
        manifests.add("tone", hyper=f"{{epochs: {epochs}}}")
        last = idle("apply", "-f", folder, "--yes", "--quota", "9", "--json").document
        assert last["submitted"] == ["tone"]
    manifests.add("tone", hyper="{epochs: 2}")
    manifests.add("third")
    back = idle("apply", "-f", folder, "--yes", "--quota", "9")
    assert back.out == "1 submitted, 1 adopted, 0 in the queue\n"
    manifests.add("tone", hyper="{epochs: 3}")
    again = idle("apply", "-f", folder, "--yes", "--quota", "9", "--json").document
    assert (again["submitted"], again["adopted"]) == ([], ["tone"])


def test_plan_as_json_and_as_a_comment(idle: CommandLine, manifests: Manifests) -> None:
    manifests.add("tone", labels="{team: a}")
    document = idle("plan", "-f", str(manifests.folder), "--format", "json").document
    assert (document["changes"], document["summary"]) == (True, {"create": 1})
    assert document["jobs"][0]["file"] == f"{manifests.folder}/tone.yaml"
    counts = dict.fromkeys(("limit", "active", "elsewhere", "free", "queued"), 0)
    assert document["quota"] == {"source": "granted quota preference", **counts}
    assert document["serving"] == {"usdPerHour": 0, "deployedModels": 0}
    assert document["cost"]["unknown"] == 0
    comment = idle("plan", "-f", str(manifests.folder), "--report", "markdown").out
    assert comment.startswith("### Tuning jobs: 1 to create\n\n| | job | what | data | price |")
    assert "| + | `tone` | new | 12 | about $" in comment
    assert idle("plan", "-f", str(manifests.folder), "-q").out == "tone\n"


def test_a_comment_mentions_nobody_and_breaks_no_table(idle: CommandLine, manifests: Manifests) -> None:
    manifests.add("tone")
    idle("apply", "-f", str(manifests.folder), "--yes", "--quota", "1")
    (manifests.folder / "next.yaml").write_text(
        (manifests.folder / "tone.yaml").read_text().replace("name: tone", "name: next")
    )
    manifests.add("tone", spec="output: 'gs://bucket/a|b@someone<script>'", hyper="{epochs: 2}")
    comment = idle("plan", "-f", str(manifests.folder), "--report", "markdown", "--no-preflight").out
    table = [line for line in comment.splitlines() if line.startswith("| ")]
    assert [line[2] for line in table] == ["|", "+", "~", "?"]
    assert "output" in comment
    assert "@someone" not in comment
    assert "<script" not in comment


def test_a_long_comment_says_outside_of_its_sections_that_it_is_cut(idle: CommandLine, manifests: Manifests) -> None:
    with (manifests.folder / "train.jsonl").open("a") as file:
        file.write('{"prompt": "What is 1?", "completion": "It is 1."}\n' * 5)  # each job warns of them
    numbers = list(range(1, 17))
    manifests.add("tone", spec=f"sweep: {{maxCost: 5, grid: {{epochs: {numbers}, batchSize: {numbers}}}}}", hyper="{}")
    comment = idle("plan", "-f", str(manifests.folder), "--report", "markdown", "--no-preflight").out
    assert 60_000 < len(comment) < 65_536
    assert comment.count("<details>") == comment.count("</details>") == 1
    assert comment.endswith("</details>\n\n… the rest is omitted; the job's log has everything.\n")


def test_mistakes_are_not_changes(idle: CommandLine, manifests: Manifests) -> None:
    manifests.add("tone", hyper="{epoch: 1}")
    outcome = idle("plan", "-f", str(manifests.folder), "--format", "json")
    assert outcome.code == 1
    assert outcome.out == ""
    assert outcome.error["problems"] == [
        f"{manifests.folder}/tone.yaml:6: spec.hyperparameters.epoch: unknown field; did you mean epochs?"
    ]
    assert idle("apply", "-f", str(manifests.folder)).code == 2
    for command in ("plan", "drift", "apply"):
        outcome = idle(command)
        assert outcome.code == (2 if command == "apply" else 1)
        assert "hint: give -f FILE or -f FOLDER" in outcome.err
    assert idle("plan", "-f", str(manifests.folder / "absent")).code == 1
    both = idle("apply", "plan.json", "-f", str(manifests.folder))
    assert (both.code, "omit -f" in both.err) == (2, True)


def test_without_a_contract_bucket(idle: CommandLine, manifests: Manifests, monkeypatch: pytest.MonkeyPatch) -> None:
    manifests.add("tone")
    monkeypatch.delenv("RUNNER_CONTRACT_BUCKET")
    outcome = idle("plan", "-f", str(manifests.folder))
    assert outcome.code == 1
    assert "contract bucket is not set: give RUNNER_CONTRACT_BUCKET" in outcome.err


def test_nothing_is_paid_without_agreement(idle: CommandLine, manifests: Manifests, untrained: Session) -> None:
    folder = str(manifests.folder)
    manifests.add("tone")
    silent = idle("apply", "-f", folder, "--format", "json")
    assert (silent.code, silent.error["code"]) == (7, "cost_refused")
    assert idle("apply", "-f", folder, "--max-cost", "0.000001").code == 7
    manifests.add("tone", spec="maxCost: 0.000001")
    outcome = idle("apply", "-f", folder, "--yes", "--max-cost", "100")
    assert outcome.code == 7
    assert "tone: may cost $0.000048, more than its maxCost $0.0000010" in outcome.err
    path = manifests.add("tone", spec="maxCost: 5")
    path.write_text(path.read_text().replace(MODEL, "qwen/qwen3-5@qwen3.5-9b"))
    outcome = idle("apply", "-f", folder, "--yes")
    assert outcome.code == 7
    assert "no price is published for qwen/qwen3-5@qwen3.5-9b" in outcome.err
    assert jobs_of(untrained) == []
    assert StateLedger(untrained).load().entries == {}
    assert idle("apply", "-f", folder, "--accept-unknown-cost").code == 0
    assert StateLedger(untrained).load().entries["tone"].record.run.phase == "queued"


def test_cancelling_needs_a_word(idle: CommandLine, manifests: Manifests, untrained: Session) -> None:
    folder = str(manifests.folder)
    path = manifests.add("tone", spec="maxCost: 5")
    manifests.add("stays", spec="maxCost: 5")
    assert idle("apply", "-f", folder, "--quota", "5").code == 0
    path.unlink()
    outcome = idle("apply", "-f", folder, "--prune")
    assert (outcome.code, "confirm with --yes" in outcome.err) == (2, True)
    outcome = idle("apply", "-f", folder, "--prune", "--yes", "--format", "json")
    steps = [(step["name"], step["what"]) for step in outcome.document["steps"]]
    assert steps[0] == ("tone", "cancelled")
    assert set(steps[1:]) <= {("tone", "ended")}


@pytest.mark.parametrize(
    ("deploy", "said"),
    [
        ("maxCostPerHour: 0.5", "costs $1.15 per hour, more than maxCostPerHour $0.50"),
        ("maxCostPerHour: 5, machineType: g2-standard-13", "'g2-standard-13' is not in the catalog"),
        ("maxCostPerHour: 5, acceleratorType: NVIDIA_L4", "an accelerator needs a machine type with it"),
        ("maxCostPerHour: 5, machineType: a9-x, acceleratorType: T, acceleratorCount: 1", "no price is published for"),
        ("maxCostPerHour: 5, endpoint: nowhere", "nowhere"),
        ("maxCostPerHour: 5", ""),
    ],
)
def test_a_plan_foretells_that_nothing_would_be_deployed(
    deploy: str, said: str, idle: CommandLine, manifests: Manifests
) -> None:
    """The training is billed, and its model would wait for somebody to notice."""
    manifests.add("tone", spec=f"maxCost: 5\ndeploy: {{{deploy}}}")
    outcome = idle("plan", "-f", str(manifests.folder), "--no-preflight", "--json")
    assert outcome.code == 2, outcome.err
    warnings = [line for line in outcome.document["jobs"][0].get("warnings", []) if line.startswith("spec.deploy: ")]
    assert len(warnings) == bool(said)
    assert said in "".join(warnings)


def test_preflight_stops_an_apply(
    idle: CommandLine, manifests: Manifests, untrained: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    manifests.add("tone", spec="maxCost: 5\noutput: gs://no-such-bucket-anywhere/out")
    assert "bucket no-such-bucket-anywhere does not exist" in idle("plan", "-f", str(manifests.folder)).out
    outcome = idle("apply", "-f", str(manifests.folder))
    assert (outcome.code, "does not exist" in outcome.err) == (2, True)
    assert jobs_of(untrained) == []


def test_the_queue_can_be_read_and_run(idle: CommandLine, manifests: Manifests, untrained: Session) -> None:
    assert idle("queue", "ls").err == "nothing waits\n"
    for name in ("a", "b", "c"):
        manifests.add(name, spec=f"maxCost: 5\npriority: {1 if name == 'c' else 0}", labels="{team: x}")
    applied = idle("apply", "-f", str(manifests.folder), "--quota", "1", "--format", "json")
    assert applied.document["queued"] == ["a", "b"]
    assert idle("queue", "ls", "-q").out == "a\nb\n"
    rows = idle("queue", "ls", "--all", "--format", "json").document
    assert [(row.get("place"), row["name"], row["priority"]) for row in rows] == [
        (1, "a", 0),
        (2, "b", 0),
        (None, "c", 1),
    ]
    outcome = idle("queue", "run", "--once", "--quota", "2", "--format", "json")
    assert [(step["name"], step["what"]) for step in outcome.documents] == [("a", "created"), ("b", "waiting")]
    timeout = idle("queue", "run", "--quota", "2", "--interval", "1s", "--timeout", "1s", "--format", "json")
    assert (timeout.code, timeout.error["code"]) == (6, "wait_timeout")
    assert names_of(untrained) == ["c", "a"]


def test_the_queue_goes_on_through_failures(
    idle: CommandLine, manifests: Manifests, untrained: Session, proxy: FlakyProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    manifests.add("a", spec="maxCost: 5")
    idle("apply", "-f", str(manifests.folder), "--quota", "0")
    proxy.faults.append(Fault("GET", f"{untrained.environment.location}/tuningJobs", 503, times=6))
    monkeypatch.setenv("RUNNER_VERTEX_URL", proxy.url)
    outcome = idle("queue", "run", "--quota", "1", "--interval", "1s", "--timeout", "6s")
    assert outcome.code == 6
    assert "trying again" in outcome.err
    assert names_of(untrained) == ["a"]


def test_drift(idle: CommandLine, manifests: Manifests, untrained: Session) -> None:
    folder = str(manifests.folder)
    manifests.add("tone", labels="{team: a}", spec="maxCost: 5")
    path = manifests.add("gone", spec="maxCost: 5")
    idle("apply", "-f", folder, "--quota", "5")
    assert idle("drift", "-f", folder).code == 0
    path.unlink()
    outcome = idle("drift", "-f", folder)
    assert outcome.code == 2
    assert "? gone: " in outcome.out
    manifests.add("gone", spec="maxCost: 5")
    assert idle("drift", "-f", folder).code == 0
    ledger = StateLedger(untrained)
    entry = ledger.load().entries["tone"]
    assert ledger.write(entry.record.changed(labels={"team": "b"}), entry.generation)
    outcome = idle("drift", "-f", folder)
    assert outcome.code == 2
    assert "tone: labels.team was requested as b and is a on the service" in outcome.out
    tuning_jobs.cancel(untrained, next(job.name for job in jobs_of(untrained) if job.display_name == "gone"))
    document = idle("drift", "-f", folder, "--format", "json").document
    assert {job["name"]: job["action"] for job in document["jobs"]}["gone"] in ("failed", "keep")


def test_schema(run: CommandLine) -> None:
    assert run("schema").out == json.dumps(json_schema(), indent=2) + "\n"
    assert run("schema", "--format", "json").document == json_schema()
    assert run("schema", "--header", "x.json").out == "# yaml-language-server: $schema=x.json\n"
    assert run("schema", "extra").code == 2


@pytest.mark.training
def test_eight_jobs_under_a_quota_of_two_end_in_order_and_one_is_served(
    run: CommandLine, manifests: Manifests, session: Session, proxy: FlakyProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    validation = manifests.folder / "validation.jsonl"
    lines = [json.dumps({"prompt": f"What is {n}?", "completion": f"It is {n}."}) + "\n" for n in range(106)]
    validation.write_text("".join(lines[100:]))
    (manifests.folder / "train.jsonl").write_text("".join(lines[:48]))
    data = "{train: train.jsonl, validation: validation.jsonl}"
    deploy = "\ndeploy: {maxCostPerHour: 1.5}"
    answers = "metric: exact match, baseModel: meta/llama-3.1-8b-instruct-maas, maxTokens: 16"
    manifests.add("job-0", data=data, spec=f"maxCost: 1\nevaluation: {{{answers}, require: not-worse}}{deploy}")
    manifests.add("job-1", data=data, spec=f"maxCost: 1\nevaluation: {{maximum: 0.001}}{deploy}")
    manifests.add("job-2", data=data, spec="maxCost: 1\nevaluation: {maximum: 1000}\ndeploy: {maxCostPerHour: 0.5}")
    manifests.add("job-3", data=data, spec=f"maxCost: 1\nevaluation: {{{answers}}}{deploy}")
    for number in range(4, 8):
        manifests.add(f"job-{number}", spec="maxCost: 1")
    assert run("apply", "-f", str(manifests.folder), "--quota", "2").code == 0
    outcome = run(
        "queue", "run", "--quota", "2", "--interval", "1s", "--until-empty", "--timeout", "10m", "--format", "json"
    )
    assert outcome.code == 0, outcome.err
    assert names_of(session) == [f"job-{number}" for number in range(8)]
    assert {job.state for job in jobs_of(session)} == {"JOB_STATE_SUCCEEDED"}
    served = {item["name"]: item for item in outcome.documents if item["what"] in ("deployed", "not deployed")}
    assert served["job-0"]["what"] == "deployed"
    assert "is above the gate's 0.001" in served["job-1"]["message"]
    assert "$1.15 per hour, more than maxCostPerHour $0.50" in served["job-2"]["message"]
    assert "exact match on 6 questions is 0, the base's 0: no difference" in served["job-3"]["message"]
    plan = run("plan", "-f", str(manifests.folder), "--format", "json")
    assert plan.code == 0
    assert plan.document["serving"] == {"usdPerHour": 1.1507, "deployedModels": 1}
    assert plan.document["estimateHistory"] == [], "a stand-in tells nothing about the tokens of its model"
    again = run("apply", "-f", str(manifests.folder), "--format", "json")
    assert (again.document["steps"], again.document["deployments"]) == ([], [])
    # A runner that died between the deployment and its note: the next one finds the endpoint by its labels.
    ledger = StateLedger(session)
    entry = ledger.load().entries["job-0"]
    died = Deployment(phase="claimed", owner="somebody")
    assert ledger.write(entry.record.changed(deployment=died), entry.generation)
    assert run("apply", "-f", str(manifests.folder), "--format", "json").document["deployments"] == []
    monkeypatch.setattr(deploying, "LEASE_SECONDS", -5.0)
    taken = run("apply", "-f", str(manifests.folder), "--format", "json").document["deployments"]
    assert [(item["name"], item["what"], item["endpoint"]) for item in taken] == [
        ("job-0", "deployed", served["job-0"]["endpoint"])
    ]
    assert run("plan", "-f", str(manifests.folder), "--format", "json").document["serving"]["deployedModels"] == 1
    assert run("endpoints", "undeploy", served["job-0"]["endpoint"], "--delete", "--yes").code == 0

    entry = ledger.load().entries["job-0"]
    assert ledger.write(entry.record.changed(deployment=None), entry.generation)

    def applied(limit: str) -> Outcome:
        monkeypatch.setenv("RUNNER_MAX_HOURLY_COST", limit)
        return run("apply", "-f", str(manifests.folder), "--format", "json")

    # A mistake on this machine ends the command: it is no refusal of the job, which nobody would take back.
    assert applied("five").code == 2
    assert ledger.load().entries["job-0"].record.run.deployment is None
    # What else is deployed may end: the next command tries again, and nothing has to be taken back.
    for _ in range(2):
        [late] = applied("0.5").document["deployments"]
        assert (late["name"], late["what"]) == ("job-0", "not deployed")
        assert late["message"].endswith("tries again")
    # The same where the service does not answer: the claim does not stay.
    monkeypatch.setenv("RUNNER_VERTEX_URL", proxy.url)
    monkeypatch.setattr(failures, "FIRST_PAUSE_SECONDS", 0.02)
    proxy.faults.append(Fault("GET", r"/endpoints(\?|$)", 503, times=100))
    [late] = applied("9").document["deployments"]
    assert late["message"].endswith("tries again"), late
    proxy.faults.clear()
    assert ledger.load().entries["job-0"].record.run.deployment is None
    monkeypatch.setattr(deploying, "LEASE_SECONDS", 7200.0)
    # A command that is killed when the deployment was requested: the next one on this machine cleans up, and deploys.
    command = [sys.executable, "-m", "runner", "apply", "-f", str(manifests.folder), "--format", "json"]
    killed = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    proxy.faults.append(Fault("POST", r":deploy$", "pass", before=killed.kill))
    told = killed.communicate(timeout=120)[1]
    assert killed.returncode == -signal.SIGKILL, told
    assert ledger.load().entries["job-0"].record.run.deployment is not None
    with monkeypatch.context() as there:
        there.setenv("RUNNER_STATE_DIR", str(manifests.folder / "other"))
        elsewhere = run("apply", "-f", str(manifests.folder))
    assert "another command is deploying it" in elsewhere.err, "only this machine knows that it has ended"
    back = applied("").document["deployments"]
    assert [(item["name"], item["what"]) for item in back] == [("job-0", "deployed")]
    assert run("plan", "-f", str(manifests.folder), "--format", "json").document["serving"]["deployedModels"] == 1
    assert run("endpoints", "undeploy", back[0]["endpoint"], "--delete", "--yes").code == 0


def test_a_queue_that_runs_empty_with_a_refused_job_is_no_success(
    idle: CommandLine, untrained: Session, manifests: Manifests
) -> None:
    uri = upload_dataset(untrained, name="mine.jsonl")
    manifests.add("mine", spec="maxCost: 5", data=f"{{train: '{uri}'}}")
    assert idle("apply", "-f", str(manifests.folder), "--quota", "0", "--json").code == 0
    uploads.upload_bytes(untrained, b'{"prompt": "other", "completion": "data"}\n' * 12, uri, replace=True)
    ended = idle("queue", "run", "--quota", "9", "--interval", "0s", "--until-empty", "--json")
    assert ended.code == 4, ended.err
    assert "another content" in ended.err
    assert jobs_of(untrained) == []


def test_several_names_are_several_lines(idle: CommandLine, manifests: Manifests, untrained: Session) -> None:
    manifests.add("a", spec="maxCost: 5")
    manifests.add("b", spec="maxCost: 5")
    done = idle("apply", "-f", str(manifests.folder), "--quota", "2", "-q")
    assert sorted(done.out.split()) == sorted(job.id for job in jobs_of(untrained))
    assert len(done.out.splitlines()) == 2


def test_a_queue_that_has_nothing_left_ends_well_at_its_time(idle: CommandLine) -> None:
    ended = idle("queue", "run", "--quota", "1", "--interval", "1s", "--timeout", "1s")
    assert ended.code == 0, ended.err
