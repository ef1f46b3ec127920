"""Example values of stacks and documents, which belong to nobody. A stack with one is not ready for Google Cloud."""

from __future__ import annotations

import re
from collections.abc import Mapping

from infra.settings.reader import NAMESPACE
from runner.errors import ConfigurationError

_NAMES = re.compile(
    r"\bmy-(?:tuning|keys|organisation|repository)\b[\w-]*|\bmy-project(?:-123)?\b(?!-)"
    r"|[\w.:+-]+@(?:your-company|(?:[\w-]+\.)*example)\.(?:com|net|org)\b"  # RFC 2606 reserves example.*
    r"|\byour-[\w-]+|<[\w -]+>|012345-6789AB-CDEF01|0X0X0X-0X0X0X-0X0X0X",
    re.IGNORECASE,
)
_NUMBERS = {f"{NAMESPACE}:githubRepositoryId": "123456789", f"{NAMESPACE}:githubOwnerId": "987654"}


def example_values(values: Mapping[str, str]) -> dict[str, str]:
    """Return the settings that still have an example value, each with the example part of the value.

    Args:
        values: full keys (`gcp:project`) with texts, or lists and objects as JSON.
    """
    found = {}
    for key, value in values.items():
        names = dict.fromkeys(_NAMES.findall(value))
        if _NUMBERS.get(key) == value:
            names = {value: None}
        if names:
            found[key] = ", ".join(names)
    return found


def refuse_examples(values: Mapping[str, str], *, stack: str) -> None:
    """Do nothing if no value is an example.

    Raises:
        ConfigurationError: lists every setting with an example value in `problems`.
    """
    problems = [f"{key} is {names}, an example" for key, names in example_values(values).items()]
    if problems:
        listed = "\n  ".join(problems)
        raise ConfigurationError(
            f"stack {stack} still has values of the example:\n  {listed}",
            problems=problems,
            hint=f"edit Pulumi.{stack}.yaml: set your own values, or delete the lines that you do not need",
        )
