"""The parts of a stack: one component per thing that an operator would name, together with its permissions."""

from __future__ import annotations

from infra.partial_packages import prepare

prepare()  # must run before the components below import a class of pulumi-gcp

TYPE_PREFIX = "open-model-tuning:infra"
"""First part of the components' type tokens, as previews show them."""
