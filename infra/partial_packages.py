"""Loads the classes that the program uses without the packages around them.

`pulumi_gcp` has a package per Google service, and access to one class loads all classes of its service: two seconds of
processor time for about thirty needed classes. After `prepare`, `from pulumi_gcp.storage.bucket import Bucket` loads
only that module and its imports. If anything else in a prepared package is accessed, the whole package is loaded, so
code that does not know of this works as before.
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
"""Packages that the program imports classes from."""


class _PartialPackage(ModuleType):
    """A package whose `__init__` runs when something other than one of its modules is accessed."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        if (Path(self.__path__[0]) / f"{name}.py").is_file():
            module = importlib.import_module(f"{self.__name__}.{name}")
            # `get_bucket` is a module, but as an attribute of the package it is a function.
            return getattr(module, name, module) if not name.startswith("_") else module
        self.__class__ = ModuleType  # type: ignore[assignment]
        _loader(self.__spec__).exec_module(self)
        return getattr(self, name)


def prepare(names: tuple[str, ...] = PACKAGES) -> None:
    """Prepare packages of `pulumi_gcp`; packages that are already loaded stay as they are."""
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
