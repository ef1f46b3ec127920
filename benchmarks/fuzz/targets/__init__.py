"""The fuzzed targets by name."""

from __future__ import annotations

from benchmarks.fuzz.driver import Target
from benchmarks.fuzz.targets.bodies import Bodies
from benchmarks.fuzz.targets.checkpoints import Checkpoints
from benchmarks.fuzz.targets.datasets import Datasets
from benchmarks.fuzz.targets.manifests import Manifests
from benchmarks.fuzz.targets.stacks import Stacks

TARGETS: dict[str, type[Target]] = {one.name: one for one in (Datasets, Bodies, Manifests, Stacks, Checkpoints)}
