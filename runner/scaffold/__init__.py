"""A complete folder: a manifest with its schema, data, a check for pull requests, and ignored files for Git."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Literal

from runner.catalog import find_model
from runner.catalog.models import TuningMode
from runner.datasets.records.writing import reshaped
from runner.errors import ConfigurationError, require_sound
from runner.local_files import missing, replace, unusable
from runner.prices import exact

Shape = Literal["chat", "prompt-completion"]
Ci = Literal["github", "gitlab"]
DATA = "jobs/data"
"""Beside the manifest, so that everything that a pull request may change is in one folder."""
MANIFEST = "jobs/tuning.yaml"
CI = {"github": (".github/workflows/tuning.yml", "tuning.yml"), "gitlab": (".gitlab-ci.yml", "tuning-gitlab.yml")}
"""The pipeline of each service: its file, and the resource with its text."""
_IGNORED = """# Weights and reports are results, not sources.
*.safetensors
/reports/
/plan.json
"""
_ATTRIBUTES = """# A dataset is identified by its bytes. Git on Windows must not change its line ends.
*.jsonl -text
"""
_SAMPLE_ROWS = {"train": 320, "validation": 40}
_NAME = re.compile(r"[^a-z0-9]+")


@dataclass(frozen=True, slots=True, kw_only=True)
class Answers:
    """The options for the folder."""

    directory: Path
    model: str
    mode: TuningMode | None = None
    """None selects the first mode of the model, preferring adapters."""
    max_cost: float = 5.0
    """US dollars."""
    epochs: int = 3
    data: Path | None = None
    """A dataset in any format that `data convert` reads; None writes sample data."""
    shape: Shape = "chat"
    """Format of the sample data."""
    ci: Ci = "github"
    """The service whose pipeline checks pull requests."""

    @property
    def name(self) -> str:
        """Return the name of the job: that of the folder, as far as manifests allow it."""
        found = _NAME.sub("-", self.directory.absolute().name.lower()).strip("-")
        # Names begin with a letter, and YAML does not read some words as text.
        if found and (not found[0].isalpha() or found in ("null", "true", "false")):
            found = f"job-{found}"
        return found[:40].strip("-") or "tuning"


def write(answers: Answers) -> list[Path]:
    """Write the folder and return its files, relative to it. Nothing is overwritten.

    Raises:
        ConfigurationError: a file exists already, the folder cannot be written, or the data cannot be read.
        UnknownModelError: the base model does not exist.
        DatasetError, NotExpressibleError: the data cannot be converted.
    """
    model = find_model(answers.model)
    mode: TuningMode = answers.mode or ("PEFT_ADAPTER" if "PEFT_ADAPTER" in model.modes else "FULL")
    validation = answers.data is None
    workflow, template = CI[answers.ci]
    texts = {
        MANIFEST: _manifest(answers, model.id, mode, validation=validation),
        "jobs/tuning-job.schema.json": _schema(),
        workflow: resources.files(__name__).joinpath(template).read_text("utf-8"),
        ".gitignore": _IGNORED,
        ".gitattributes": _ATTRIBUTES,
        "README.md": _readme(answers, model.id),
    }
    if (answers.directory / ".gitattributes").exists():
        del texts[".gitattributes"]  # of the repository, with rules of its own
    names = [*texts, f"{DATA}/train.jsonl", *([f"{DATA}/validation.jsonl"] if validation else [])]
    taken = [path for name in names if (path := answers.directory / name).exists()]
    require_sound([f"{path} exists" for path in taken], hint="name an empty folder")
    if answers.data is not None and (problem := missing(answers.data)):
        raise ConfigurationError(problem)
    try:
        for folder in {(answers.directory / name).parent for name in names}:
            folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise unusable(answers.directory, error) from error
    _write_data(answers)
    for name, text in texts.items():
        replace(answers.directory / name, text)
    return [Path(name) for name in names]


def _write_data(answers: Answers) -> None:
    folder = answers.directory / DATA
    if answers.data is not None:
        from runner.datasets.rewriting.converting import convert_file

        convert_file(answers.data, folder / "train.jsonl")
        return
    for name, count in _SAMPLE_ROWS.items():
        text = resources.files("runner.quickstart").joinpath("data", f"{name}.jsonl").read_text("utf-8")
        lines = [f"{line}\n" for line in text.splitlines()[:count]]
        if answers.shape != "chat":
            lines = [reshaped(line, "prompt_completion") for line in lines]
        replace(folder / f"{name}.jsonl", "".join(lines))


def _manifest(answers: Answers, model: str, mode: str, *, validation: bool) -> str:
    held_out = "validation: data/validation.jsonl" if validation else "# validation: data/validation.jsonl"
    return f"""# yaml-language-server: $schema=tuning-job.schema.json
apiVersion: open-model-tuning/v1
kind: TuningJob
metadata:
  name: {answers.name}
spec:
  baseModel: {model}
  mode: {mode}
  hyperparameters:
    epochs: {answers.epochs}
  data:
    train: data/train.jsonl
    {held_out}
  maxCost: {exact(answers.max_cost)} # US dollars; a higher estimate is refused
"""


def _schema() -> str:
    from runner.jobs.manifests.schema import json_schema

    return json.dumps(json_schema(), indent=1) + "\n"


def _readme(answers: Answers, model: str) -> str:
    request = "pull" if answers.ci == "github" else "merge"
    return f"""# {answers.name}

Tunes `{model}` on `jobs/data/train.jsonl`.

```sh
runner data check jobs/data/train.jsonl --model {model}
runner plan -f jobs/          # what would change, and cost
runner apply -f jobs/         # does it, once
runner jobs watch latest
runner endpoints deploy latest
```

These commands work in the emulator on this machine (`runner emulator start && runner emulator provision`) and on Google
Cloud (`runner context add production --environment gs://…/environment.json && runner use production`). Each names its
target first. `{CI[answers.ci][0]}` checks the data and plans the job in the emulator for each {request} request.
"""
