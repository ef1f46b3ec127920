"""Loads the classes that the program uses, not the packages around them.

`pulumi_gcp` has a package per Google service, and touching one class loads all classes of its service: two seconds of
processor time for some thirty classes that are needed. `prepare` lets `from pulumi_gcp.storage.bucket import Bucket`
load that module and what it imports itself. A package prepared so becomes the whole one when anything else is asked of
it, so code that knows nothing of this works as before.
"""

from __future__ import annotations

import importlib
import sys
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from types import ModuleType
from typing import Any

import pulumi_gcp

PACKAGES = (
    "accesscontextmanager",
    "billing",
    "cloudfunctionsv2",
    "cloudquota",
    "cloudrunv2",
    "cloudscheduler",
    "iam",
    "kms",
    "monitoring",
    "organizations",
    "projects",
    "serviceaccount",
    "storage",
    "vertex",
)
"""Those that the program takes classes from."""


class _PartialPackage(ModuleType):
    """A package whose `__init__` runs when something is asked for that is no module of it."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        if (Path(self.__path__[0]) / f"{name}.py").is_file():
            module = importlib.import_module(f"{self.__name__}.{name}")
            # `get_bucket` is a module and, for whoever asks the package, a function in it.
            return getattr(module, name, module) if not name.startswith("_") else module
        self.__class__ = ModuleType  # type: ignore[assignment]
        _loader(self.__spec__).exec_module(self)
        return getattr(self, name)


def prepare(names: tuple[str, ...] = PACKAGES) -> None:
    """Prepare packages of `pulumi_gcp`; those that somebody has loaded already stay as they are."""
    for name in names:
        full = f"pulumi_gcp.{name}"
        if isinstance(sys.modules.get(full), _PartialPackage) or any(key.startswith(f"{full}.") for key in sys.modules):
            continue
        spec = PathFinder.find_spec(full, pulumi_gcp.__path__)
        if spec is None:
            continue
        package = _PartialPackage(full)
        package.__spec__ = spec
        package.__package__ = full
        package.__file__ = spec.origin
        package.__path__ = list(spec.submodule_search_locations or ())
        sys.modules[full] = package
        setattr(pulumi_gcp, name, package)


def _loader(spec: ModuleSpec | None) -> Any:
    assert spec is not None  # noqa: S101 - `prepare` has set it
    return spec.loader
