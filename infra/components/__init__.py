"""The parts of a stack: one component per thing an operator would name, permissions inside the thing they are for."""

from __future__ import annotations

from infra.partial_packages import prepare

prepare()  # before any of the components below imports a class of pulumi-gcp

TYPE_PREFIX = "open-model-tuning:infra"
"""First part of the components' type tokens, as previews show them."""
