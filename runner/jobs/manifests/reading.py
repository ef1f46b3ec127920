"""Read `TuningJob` manifests and report all errors of all files at once, as `file:line: path: text`."""

from __future__ import annotations

import copy
import dataclasses
import difflib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from runner import local_files
from runner.catalog import UnknownModelError, find_model
from runner.environment import Environment
from runner.errors import ConfigurationError
from runner.jobs.manifests import located_yaml, sweeps
from runner.jobs.manifests.files import files
from runner.jobs.manifests.located_yaml import Located
from runner.jobs.manifests.problems import problem_at, translated
from runner.jobs.manifests.schema import Deploy, Evaluation, Hyperparameters, Retry, Spec, TuningJobManifest
from runner.jobs.specification import TuningJobSpec
from runner.wording import camel, counted

_HEAD = {"apiVersion": "open-model-tuning/v1", "kind": "TuningJob"}
_DEEPEST = 4
"""Maximum depth of sections: an incorrect entry is removed together with its parents that require it."""
_PATHS = {
    "base_model": ("spec", "baseModel"),
    "mode": ("spec", "mode"),
    **{name: ("spec", "hyperparameters", camel(name)) for name in Hyperparameters.model_fields},
    "training_dataset": ("spec", "data", "train"),
    "validation_dataset": ("spec", "data", "validation"),
    "output_uri": ("spec", "output"),
    "custom_base_model": ("spec", "customBaseModel"),
    "service_account": ("spec", "serviceAccount"),
    "kms_key": ("spec", "kmsKey"),
    "labels": ("metadata", "labels"),
    "description": ("spec", "description"),
    "export_last_checkpoint_only": ("spec", "exportLastCheckpointOnly"),
    "display_name": ("metadata", "name"),
}
"""The path of each field of `TuningJobSpec` in a manifest."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ManifestJob:
    """One job from a manifest; a sweep has several."""

    name: str
    file: str
    tree: Located = field(repr=False)
    """The whole document, which contains the line numbers for later errors."""
    spec: TuningJobSpec
    """The specification as in the manifest: datasets can be paths, and custom weights can be those of `after`."""
    train: Path | str
    """A file, or an address in Cloud Storage."""
    validation: Path | str | None = None
    after: str | None = None
    """Job whose final weights this job continues from."""
    revision: int = 1
    priority: int = 0
    max_cost: float | None = None
    sweep: str | None = None
    sweep_max_cost: float | None = None
    retry: Retry = field(default_factory=Retry)
    deploy: Deploy | None = None
    evaluation: Evaluation | None = None

    def path_of(self, field: str) -> tuple[str, ...]:
        """Return the path of a field of the specification: in its own section, or in the sweep."""
        places = (("spec", "sweep", part, camel(field)) for part in ("grid", "paired"))
        return next((place for place in places if self.tree.has(place)), _PATHS[field])

    def problem(self, path: tuple[str | int, ...], message: str) -> str:
        """Return an error as `file:line: path: text`."""
        return problem_at(self.file, self.tree.line_of(path), path, message)


@dataclass(slots=True, kw_only=True)
class Loaded:
    """The jobs that were read, and all errors."""

    jobs: list[ManifestJob] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    files: int = 0
    refused: set[str] = field(default_factory=set)
    """Names of manifests with errors."""

    def raise_for_problems(self, *, others: Iterable[str] = (), hint: str = "") -> None:
        """Raise ConfigurationError with all errors, if there are any."""
        problems = [*self.problems, *others]
        if problems:
            shown = "\n".join(problems)
            raise ConfigurationError(
                f"{counted(len(problems), 'mistake')} in the manifests:\n{shown}",
                problems=problems,
                hint=hint or "see `runner explain manifests`; `runner schema` prints the schema for editors",
            )


def load(paths: Iterable[Path]) -> Loaded:
    """Read manifests from files and folders, which are read recursively, ordered by name."""
    loaded = Loaded()
    first: dict[str, str] = {}
    for file in files(paths, loaded.problems):
        loaded.files += 1
        try:
            content = _bounded(file)
        except OSError as error:
            loaded.problems.append(f"{file}: {local_files.reason(error)}")
            continue
        documents, problems = located_yaml.read(content)
        loaded.problems += [f"{file}:{problem.line}: {problem.message}" for problem in problems]
        if not documents and not problems:
            loaded.problems.append(f"{file}:1: holds no manifest")
        for document in documents:
            for job in _document(document, str(file), loaded):
                place = f"{file}:{document.line}"
                if job.name in first:
                    loaded.problems.append(
                        job.problem(
                            ("metadata", "name"), f"{job.name!r} is the name of the job in {first[job.name]} too"
                        )
                    )
                else:
                    first[job.name] = place
                    loaded.jobs.append(job)
    _link(loaded)
    return loaded


def check(jobs: Sequence[ManifestJob], environment: Environment) -> list[str]:
    """Return the errors of jobs that the catalog and the environment report; errors of the environment only once."""
    problems: list[str] = []
    everywhere: dict[str, None] = {}
    for job in jobs:
        for found in placeable(job).validate(environment):
            if found.field == "base_model" and not job.spec.base_model:
                continue  # `load` reports why there is none
            if found.field in _PATHS:
                path = (*job.path_of(found.field), *filter(None, (found.key,)))
                problems.append(job.problem(path, found.message))
            else:
                everywhere[str(found)] = None
        for path, given in ((("spec", "data", "train"), job.train), (("spec", "data", "validation"), job.validation)):
            if isinstance(given, Path) and (missing := local_files.missing(given)):
                problems.append(job.problem(path, missing))
    return [*everywhere, *dict.fromkeys(problems), *_shared_outputs(jobs)]


def _shared_outputs(jobs: Iterable[ManifestJob]) -> Iterator[str]:
    """Yield errors for jobs that would overwrite each other's results."""
    first: dict[str, str] = {}
    for job in jobs:
        output = (job.spec.output_uri or "").rstrip("/")
        if output and first.setdefault(output, job.name) != job.name:
            message = f"{output} is the output folder of {first[output]!r} too; each job needs its own"
            yield job.problem(("spec", "output"), message)


def placeable(job: ManifestJob) -> TuningJobSpec:
    """Return the specification with an address in place of each path, so that everything else can be checked."""

    def address(given: Path | str | None, name: str) -> str | None:
        return f"gs://placeholder/{name}" if isinstance(given, Path) else given

    validation = address(job.validation, "validation.jsonl")
    return dataclasses.replace(
        job.spec, training_dataset=address(job.train, "train.jsonl") or "", validation_dataset=validation
    )


def _bounded(file: Path) -> bytes:
    with file.open("rb") as stream:
        return stream.read(located_yaml.MAX_BYTES + 1)


def _document(document: Located, file: str, loaded: Loaded) -> Iterator[ManifestJob]:
    problems = loaded.problems
    plain = document.plain()
    if not isinstance(plain, dict):
        problems.append(f"{file}:{document.line}: is no mapping with apiVersion, kind, metadata and spec")
        return
    manifest, errors = _validated(plain)
    problems += [translated(file, document, item) for item in errors]
    if manifest is None:
        metadata = plain.get("metadata")
        loaded.refused.add(str(metadata.get("name")) if isinstance(metadata, dict) else "")
        return
    spec = manifest.spec
    said = any(item["loc"][:2] == ("spec", "baseModel") for item in errors)
    if not said and spec.base_model is None and spec.from_ is None and "base_model" not in _swept(spec):
        problems.append(problem_at(file, document.line_of(("spec",)), ("spec", "baseModel"), "is missing"))
    if spec.from_ is not None and spec.custom_base_model is not None:
        path = ("spec", "from")
        problems.append(problem_at(file, document.line_of(path), path, "customBaseModel is given too; take one"))
    if spec.sweep is None:
        yield _job(manifest, document, file, manifest.metadata.name, {})
        return
    problems += [
        problem_at(file, document.line_of(twice), twice, "is in the sweep too") for twice in _swept_twice(spec)
    ]
    jobs, found = sweeps.expand(manifest.metadata.name, spec.sweep)
    problems += [
        problem_at(file, document.line_of(("spec", "sweep", *at)), ("spec", "sweep", *at), what) for at, what in found
    ]
    for job in jobs:
        yield _job(manifest, document, file, job.name, job.values)


def _validated(plain: dict[str, Any]) -> tuple[TuningJobManifest | None, list[Any]]:
    """Return a manifest without its incorrect parts, so that the rest is also checked, and its errors.

    The manifest is None if a required part is missing.
    """
    try:
        return TuningJobManifest.model_validate(plain), []
    except ValidationError as error:
        errors = error.errors(include_url=False)
    rest = copy.deepcopy({**plain, **_HEAD})
    found: list[Any] = errors
    for _ in range(_DEEPEST):
        for item in found:
            _take_out(rest, item["loc"], missing=item["type"] == "missing")
        try:
            return TuningJobManifest.model_validate(rest), errors
        except ValidationError as error:
            found = error.errors(include_url=False)
    return None, errors


def _take_out(plain: dict[str, Any], path: tuple[Any, ...], *, missing: bool) -> None:
    """Remove the entry with an error from its mapping; if a value is missing, remove the mapping that requires it."""
    steps = [step for step in path if step != "[key]"][: -1 if missing else None]
    here, last = plain, None
    for step in steps:
        if not isinstance(here, dict) or step not in here:
            break
        last, here = (here, step), here[step]
    if last is not None:
        last[0].pop(last[1])


def _swept(spec: Spec) -> set[str]:
    return set() if spec.sweep is None else {*spec.sweep.grid.given(), *spec.sweep.paired.given()}


def _swept_twice(spec: Spec) -> Iterator[tuple[str, ...]]:
    for name in sorted(_swept(spec)):
        owner: Any = spec if name in ("base_model", "mode") else spec.hyperparameters
        if getattr(owner, name) is not None:
            alias = type(owner).model_fields[name].alias or name
            yield ("spec", alias) if owner is spec else ("spec", "hyperparameters", alias)


def _job(manifest: TuningJobManifest, document: Located, file: str, name: str, values: dict[str, Any]) -> ManifestJob:
    spec, parameters = manifest.spec, manifest.spec.hyperparameters
    folder = Path(file).parent

    def place(given: str | None) -> Path | str | None:
        return given if given is None or given.startswith("gs://") else folder / given

    output = spec.output.rstrip("/") if spec.output else None
    if output and spec.sweep:
        output = f"{output}/{name}"
    fields = {
        "base_model": spec.base_model or "",
        "mode": spec.mode,
        "epochs": parameters.epochs,
        "learning_rate": parameters.learning_rate,
        "adapter_size": parameters.adapter_size,
        "batch_size": parameters.batch_size,
        **values,
    }
    return ManifestJob(
        name=name,
        file=file,
        tree=document,
        spec=TuningJobSpec(
            training_dataset=spec.data.train,
            validation_dataset=spec.data.validation,
            output_uri=output,
            display_name=name,
            description=spec.description,
            labels=dict(manifest.metadata.labels),
            custom_base_model=spec.custom_base_model,
            export_last_checkpoint_only=spec.export_last_checkpoint_only,
            service_account=spec.service_account,
            kms_key=spec.kms_key,
            **fields,
        ),
        train=place(spec.data.train) or "",
        validation=place(spec.data.validation),
        after=spec.from_,
        revision=manifest.metadata.revision,
        priority=spec.priority,
        max_cost=spec.max_cost,
        sweep=manifest.metadata.name if spec.sweep else None,
        sweep_max_cost=spec.sweep.max_cost if spec.sweep else None,
        retry=spec.retry,
        deploy=spec.deploy,
        evaluation=spec.evaluation,
    )


def _link(loaded: Loaded) -> None:
    """Check the references between jobs, set each base model, and order jobs after those that they continue from."""
    by_name = {job.name: job for job in loaded.jobs}
    done: dict[str, ManifestJob] = {}
    path = ("spec", "from")

    def visit(job: ManifestJob, above: tuple[str, ...]) -> ManifestJob:
        if job.name in done:
            return done[job.name]
        found = job
        if job.after is not None:
            cause = by_name.get(job.after)
            if cause is None and job.after not in loaded.refused:
                near = difflib.get_close_matches(job.after, by_name, n=1)
                hint = f"; did you mean {near[0]!r}?" if near else ""
                loaded.problems.append(job.problem(path, f"no manifest is named {job.after!r}{hint}"))
            elif cause is None:
                pass  # its own errors are reported
            elif job.after in (*above, job.name):
                loaded.problems.append(job.problem(path, f"{' -> '.join((*above, job.name, job.after))} is a cycle"))
            else:
                base = visit(cause, (*above, job.name)).spec.base_model
                if job.spec.base_model and not _same_model(job.spec.base_model, base):
                    at = ("spec", "baseModel")
                    loaded.problems.append(
                        job.problem(at, f"{job.after} tunes {base}; tuning on from it needs the same")
                    )
                found = dataclasses.replace(
                    job, spec=dataclasses.replace(job.spec, base_model=job.spec.base_model or base)
                )
        done[job.name] = found
        return found

    for job in loaded.jobs:
        visit(job, ())
    loaded.jobs = list(done.values())


def _same_model(one: str, other: str) -> bool:
    try:
        return find_model(one).id == find_model(other).id
    except UnknownModelError:
        return True  # `check` reports it
