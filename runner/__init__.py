"""Managed tuning of open models on Google Cloud as ordinary engineering: a command line and a Python API.

    import runner

    job = runner.tune("train.jsonl", base_model="meta/llama3_1@llama-3.1-8b-instruct", max_cost=20).wait()
    endpoint = job.deploy(max_cost_per_hour=2.50)
    print(endpoint.chat("Define: laptop").text)
    endpoint.undeploy(delete=True)

`import runner` imports nothing else; each name below is imported when it is first asked for.
"""

# Not from typing: that import takes as long as the rest of `import runner`.
TYPE_CHECKING = False
if TYPE_CHECKING:
    # Relative, so that the program that packs the idle guard's function does not follow them.
    from . import errors
    from .api.connection import connect, init
    from .api.datasets import check, estimate
    from .api.evaluation import evaluate
    from .api.jobs import Diagnosis, Job, get_job, list_jobs
    from .api.serving import (
        Endpoint,
        chat,
        deploy,
        get_endpoint,
        list_endpoints,
        predict,
        undeploy,
    )
    from .api.tuning import tune
    from .errors import CostRefusedError, DatasetError, GateFailedError, JobFailedError, RunnerError
    from .gcp.session import Session
    from .jobs.specification import TuningJobSpec

__all__ = [
    "CostRefusedError",
    "DatasetError",
    "Diagnosis",
    "Endpoint",
    "GateFailedError",
    "Job",
    "JobFailedError",
    "RunnerError",
    "Session",
    "TuningJobSpec",
    "chat",
    "check",
    "connect",
    "deploy",
    "errors",
    "estimate",
    "evaluate",
    "get_endpoint",
    "get_job",
    "init",
    "list_endpoints",
    "list_jobs",
    "predict",
    "tune",
    "undeploy",
]

_MODULES = {
    "connection": ("connect", "init"),
    "datasets": ("check", "estimate"),
    "evaluation": ("evaluate",),
    "jobs": ("Diagnosis", "Job", "get_job", "list_jobs"),
    "serving": (
        "Endpoint",
        "chat",
        "deploy",
        "get_endpoint",
        "list_endpoints",
        "predict",
        "undeploy",
    ),
    "tuning": ("tune",),
}
_PLACES = {name: f"runner.api.{module}" for module, names in _MODULES.items() for name in names}
_PLACES |= dict.fromkeys(
    ("CostRefusedError", "DatasetError", "GateFailedError", "JobFailedError", "RunnerError"), "runner.errors"
)
_PLACES |= {"errors": "runner.errors", "Session": "runner.gcp.session", "TuningJobSpec": "runner.jobs.specification"}


def __getattr__(name: str) -> object:
    """Import a name of the API when it is first used."""
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib

    module = importlib.import_module(_PLACES[name])
    found: object = module if name == "errors" else getattr(module, name)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    """Return the names of the API, not the modules below it that it has loaded."""
    return sorted({*__all__, *(name for name in globals() if name.startswith("__"))})
