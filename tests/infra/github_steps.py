"""Runs the jobs of GitHub's workflows as they stand: every `run:` step, in order, in a clean clone.

Stand-ins only for what cannot exist here: those of the clone, `gh`, and `uses:` steps: checkout is the clone, artefacts
are copied from job to job, identities are the emulator's.
"""

from __future__ import annotations

import json
import re
import shutil
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from tests.infra.clean_clone import Clone

_EXPRESSION = re.compile(r"\$\{\{\s*(.+?)\s*\}\}")
_GH = """#!{python}
import json, os, re, sys
from pathlib import Path
place = Path(os.environ["GH_PLACE"])
held = json.loads(place.read_text()) if place.exists() else {{"comments": {{}}, "issues": {{}}}}
words = sys.argv[1:]
def option(name):
    return words[words.index(name) + 1] if name in words else ""
number = next((word for word in words[2:] if word.isdigit()), "")
if words[0] == "api":
    body = option("--field").partition("=@")[2]
    if "--method" not in words:
        mark = re.search(r'startswith\\("(.*?)"\\)', option("--jq"))[1]
        print("\\n".join(key for key, text in held["comments"].items() if text.startswith(mark)))
    else:
        own = words[-3].rsplit("/", 1)[-1] if option("--method") == "PATCH" else str(len(held["comments"]) + 1)
        held["comments"][own] = Path(body).read_text()
elif words[1] == "list":
    title = re.search(r'\\.title == "(.*?)"', option("--jq"))[1]
    print("\\n".join(key for key, issue in held["issues"].items() if issue["open"] and issue["title"] == title))
elif words[1] == "create":
    text = Path(option("--body-file")).read_text()
    held["issues"][str(len(held["issues"]) + 1)] = {{"title": option("--title"), "body": text, "open": True}}
elif words[1] == "edit":
    held["issues"][number]["body"] = Path(option("--body-file")).read_text()
elif words[1] == "view":
    print(held["issues"][number]["body"])
elif words[1] == "close":
    held["issues"][number]["open"] = False
else:
    sys.exit(f"gh {{words}}")
place.write_text(json.dumps(held))
"""


@dataclass
class GitHub:
    """A repository with workflows, their runners, and its issues and comments."""

    folder: Path
    variables: dict[str, str] = field(default_factory=dict)
    """More of the environment."""
    expressions: dict[str, str] = field(default_factory=dict)
    """What `${{ … }}` stands for."""
    path: str = "/usr/bin:/bin"

    def __post_init__(self) -> None:
        self.checkout = Clone(self.folder, path=self.path)
        self.clone = self.checkout.folder
        gh = self.checkout.programs / "gh"
        gh.write_text(_GH.format(python=sys.executable))
        gh.chmod(0o755)
        self.artefacts = self.folder / "artefacts"

    def job(
        self, workflow: str, name: str, outputs: Mapping[str, str] | None = None
    ) -> tuple[int, dict[str, str], str]:
        """Run a job and return its exit code, the outputs of its steps, and what it said.

        Args:
            workflow: file name.
            name: of the job.
            outputs: of the jobs that it needs, as `needs.JOB.outputs.NAME`.
        """
        body = yaml.safe_load((self.clone / ".github" / "workflows" / workflow).read_text())
        job = body["jobs"][name]
        given = {**self.expressions, **(outputs or {})}
        found: dict[str, str] = {}
        said = ""
        for number, step in enumerate(job["steps"]):
            if "uses" in step:
                self._use(step, given)
                continue
            if "if" in step and not self._holds(step["if"], found):
                continue
            results, summary = self.folder / f"{name}-{number}.out", self.folder / "summary.md"
            results.touch()
            variables = {**body.get("env", {}), **job.get("env", {}), **step.get("env", {})}
            done = self.checkout.run(
                step["run"],
                **{
                    "GITHUB_OUTPUT": str(results),
                    "GITHUB_STEP_SUMMARY": str(summary),
                    "GITHUB_REPOSITORY": "owner/repository",
                    "GH_PLACE": str(self.folder / "github.json"),
                    **self.variables,
                    **{key: self._filled(str(value), given) for key, value in variables.items()},
                },
            )
            said += done.stdout + done.stderr
            for line in results.read_text().splitlines():
                key, _, value = line.partition("=")
                found[f"{step.get('id')}.{key}"] = value
            if done.returncode:
                return done.returncode, found, said
        return 0, found, said

    @property
    def held(self) -> dict[str, Any]:
        """The repository's comments and issues."""
        place = self.folder / "github.json"
        return dict(json.loads(place.read_text())) if place.exists() else {"comments": {}, "issues": {}}

    def _use(self, step: dict[str, Any], given: Mapping[str, str]) -> None:
        action, options = step["uses"].partition("@")[0], step.get("with", {})
        if action == "actions/upload-artifact":
            place = self.artefacts / self._filled(options["name"], given)
            place.mkdir(parents=True, exist_ok=True)
            path = options["path"]
            for file in self.clone.glob(f"{path}*" if path.endswith("/") else path):
                shutil.copy(file, place)
        elif action == "actions/download-artifact":
            target = self.clone / options["path"]
            shutil.rmtree(target, ignore_errors=True)  # another machine's clone
            target.mkdir()
            for place in self.artefacts.glob(options.get("pattern") or options["name"]):
                for file in place.iterdir():
                    shutil.copy(file, target)
        elif action == "actions/checkout" and "path" in options:
            shutil.copytree(self.folder / "change", self.clone / options["path"], dirs_exist_ok=True)

    def _filled(self, text: str, given: Mapping[str, str]) -> str:
        return _EXPRESSION.sub(lambda match: given[match[1]], text)

    def _holds(self, condition: str, found: Mapping[str, str]) -> bool:
        if match := re.fullmatch(r"steps\.(\w+)\.outputs\.(\w+) == '(.*)'", condition):
            return found.get(f"{match[1]}.{match[2]}", "") == match[3]
        return condition == "always()"
