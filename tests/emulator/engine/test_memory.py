"""A want of memory is told from all other failures, whoever reports it."""

from __future__ import annotations

import errno

import pytest
import torch

from runner.emulator.engine.memory import lacking_memory
from runner.emulator.engine.training import classify

pytestmark = pytest.mark.training

LACKING = [
    MemoryError(),
    RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes."),
    OSError("Cannot allocate memory (os error 12)"),
    OSError(errno.ENOMEM, "Cannot allocate memory"),
    torch.OutOfMemoryError("CUDA out of memory."),
]


@pytest.mark.parametrize("error", LACKING, ids=repr)
def test_a_want_of_memory_is_said_with_advice(error: Exception) -> None:
    assert lacking_memory(error)
    status, message = classify(error)
    assert status == "RESOURCE_EXHAUSTED"
    assert "smaller" in message


@pytest.mark.parametrize(
    "error", [RuntimeError("shapes differ"), OSError("no such file"), ValueError("memory")], ids=repr
)
def test_other_failures_are_not(error: Exception) -> None:
    assert lacking_memory(error) is None
