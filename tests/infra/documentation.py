"""Documents made from the program, so that they cannot say anything else.

`python -m tests.infra.documentation` writes the parts of docs/infrastructure.md between `<!-- generated: NAME -->`
and `<!-- end -->` and all of docs/iam.md. `--check` writes nothing and fails when something is stale.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

from infra.evaluation import Evaluation, evaluate
from infra.graph import mermaid, roles
from infra.policy import RULES
from infra.stack_files import ROOT, configuration, schema
from infra.trust import reading
from tests.infra.identities import matrix

STACK = "prod"
"""The stack that is drawn and whose permissions are listed: the one with most parts."""
DOCUMENT = ROOT / "docs" / "infrastructure.md"
MATRIX = ROOT / "docs" / "iam.md"
GITLAB = {"open-model-tuning:gitlabProject": "group/project", "open-model-tuning:gitlabProjectId": "42"}
TRUST = """## Who can become whom

The table shows which accounts each pipeline of this repository can become, in each event that starts it. A test
evaluates every binding of the stack (attribute mapping, condition and members) as CEL. `any other` is a file or a job
that somebody adds. GitHub issues no token for a pull request from a fork, unless the repository allows it.

- **The change's code**, which nobody has approved, can become `tuning-preview` and nothing else. That account reads
  what a preview compares, including the state of the stack. If some people who can push a branch must not see this, add
  reviewers to the environment `infra-preview`.
- **Everything else needs the main branch**: its workflow file, its protected ref, the event and the environment, all
  together. Without a branch protection or a ruleset on `main`, nobody can deploy or start a job.
- `jobs-plan.yml` runs the main branch's code and reads the change's `jobs/` as data. Everybody who can read the pull
  request can read the plan in its comment, including findings about datasets.
- A run that is started again runs the same reviewed commit, and a deployment needs the approval of the environment's
  reviewers again.
- **Cloud Build** has no such tokens: a trigger has an account. The preview trigger, whose builds run the change's
  code, has `tuning-preview`; the deploying trigger has `tuning-deploy`, the branch `^main$` and an approval. Everybody
  who can start builds (`cloudbuild.builds.create`) can start a trigger for another branch, so grant this permission
  only to the approvers.
- **The Kubernetes operator** becomes `tuning-deploy` through the Kubernetes account `infra/tuning-deploy`. Every
  cluster of the project shares that name: reserve the namespace `infra` for the operator in each, and let nobody else
  create `Stack` objects, pods or tokens there.
"""


def documents() -> dict[Path, str]:
    """Return each document's path and what it should hold."""
    values = configuration(STACK)
    evaluation = evaluate(values)
    text = DOCUMENT.read_text("utf-8")
    blocks = {
        "configuration": configuration_table(),
        "diagram": f"```mermaid\n{mermaid(evaluation)}```\n",
        "rules": rules_table(),
    }
    for name, block in blocks.items():
        text = _replaced(text, name, block)
    return {DOCUMENT: text, MATRIX: iam_document(evaluation) + trust_section()}


def configuration_table() -> str:
    """Return the table of settings."""
    rows = ["| key | type | default | meaning |", "|---|---|---|---|"]
    for key, entry in schema().items():
        description = entry["description"].replace("|", "\\|")
        rows.append(f"| `{key}` | {entry['type']} | {_default(entry['default'])} | {description} |")
    return "\n".join(rows) + "\n"


def rules_table() -> str:
    """Return the table of the policy pack's rules."""
    rows = ["| rule | level | what it wants |", "|---|---|---|"]
    return "\n".join([*rows, *(f"| `{rule.name}` | {rule.level} | {rule.description} |" for rule in RULES)]) + "\n"


def iam_document(evaluation: Evaluation) -> str:
    """Return the matrix of permissions: one table for each account."""
    lines = [
        "# Permissions",
        "",
        f"Every permission that the example stack `{STACK}` gives, made by `python -m tests.infra.documentation`.",
        "`runner infra iam --stack NAME` lists those of another stack. Each is a single member of a role: what others",
        "have granted stays.",
    ]
    granted: dict[str, dict[str, list[str]]] = {}
    for who, role, target in roles(evaluation):
        granted.setdefault(who, {}).setdefault(role, []).append(target)
    for who in sorted(granted):
        lines += ["", f"## {who}", "", "| role | on |", "|---|---|"]
        lines += [f"| `{role}` | {'<br>'.join(targets)} |" for role, targets in sorted(granted[who].items())]
    for custom in evaluation.of_type(":IAMCustomRole"):
        lines += ["", f"## Role {custom.inputs['roleId']}", "", f"{custom.inputs['description']} It holds:", ""]
        lines += [f"- `{permission}`" for permission in custom.inputs["permissions"]]
    lines += ["", "## What a refreshed preview reads", "", reading.table()]
    return "\n".join(lines) + "\n"


def trust_section() -> str:
    """Return who can become whom: the example stack, bound to a project on GitLab as well."""
    values = {**configuration(STACK), **GITLAB}
    evaluation = evaluate(values)
    github = {
        "repository": values["open-model-tuning:githubRepository"],
        "repository_id": values["open-model-tuning:githubRepositoryId"],
        "repository_owner_id": values["open-model-tuning:githubOwnerId"],
    }
    gitlab = {"project_id": "42", "project_path": "group/project", "host": "gitlab.com"}
    return "\n" + TRUST + "\n" + matrix.markdown(matrix.rows(evaluation, github, gitlab, STACK))


def _default(value: Any) -> str:
    if value in ("", [], {}):
        return "none"
    return f"`{str(value).lower()}`" if isinstance(value, bool) else f"`{value}`"


def _replaced(text: str, name: str, block: str) -> str:
    pattern = re.compile(rf"(<!-- generated: {name} -->\n).*?(<!-- end -->)", re.DOTALL)
    if not pattern.search(text):
        raise ValueError(f"{DOCUMENT} has no place for {name}")
    return pattern.sub(lambda match: match.group(1) + block + match.group(2), text)


def main() -> int:
    """Write what is stale, or with --check only name it and return 1."""
    stale = {path: text for path, text in documents().items() if not path.is_file() or path.read_text("utf-8") != text}
    for path, text in stale.items():
        if "--check" in sys.argv[1:]:
            sys.stderr.write(f"{path} is stale: python -m tests.infra.documentation\n")
        else:
            path.write_text(text, "utf-8")
    return 1 if stale and "--check" in sys.argv[1:] else 0


if __name__ == "__main__":
    sys.exit(main())
