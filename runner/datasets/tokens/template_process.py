"""Renders chat templates, which may be anyone's: in a sandbox, in a process of its own under limits of memory and time.

The sandbox keeps a template from files, from attributes of Python's and from imports, but not from loops within loops
and from powers of powers.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

from runner.datasets.limited_processes import answer_requests

MEMORY = 2 << 30
"""Bytes of the process."""
SECONDS = 5
"""Processor time of one rendering, reading the template included. Those that models come with take milliseconds."""
_MAX_RENDERED = 64 << 20


class _RefusedError(Exception):
    """The template itself refuses a conversation."""


@lru_cache(1)
def _template(source: str) -> Any:
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True)
    environment.globals["raise_exception"] = _refuse
    environment.globals["strftime_now"] = lambda form: datetime.now(UTC).strftime(form)
    environment.filters["tojson"] = lambda value, **_: json.dumps(value, ensure_ascii=False)
    return environment.from_string(source)


def _refuse(message: str) -> None:
    raise _RefusedError(message)


def render(source: str, values: dict[str, Any]) -> tuple[str, str]:
    """Return what a template makes of some values and "", or "" and what it does instead: `fails: …`."""
    from jinja2 import TemplateError, TemplateSyntaxError

    pieces: list[str] = []
    size = 0
    try:
        for piece in _template(source).generate(**values):
            pieces.append(piece)
            size += len(piece)
            if size > _MAX_RENDERED:
                return "", f"makes more than {_MAX_RENDERED >> 20} million characters of one conversation"
    except _RefusedError as error:
        return "", f"refuses the example: {error}"
    except TemplateSyntaxError as error:
        return "", f"is broken: {error}"
    except (
        TemplateError,
        ArithmeticError,
        AttributeError,
        LookupError,
        TypeError,
        ValueError,
        RecursionError,
    ) as error:
        return "", f"fails: {error}"
    return "".join(pieces), ""


def main() -> None:
    """Answer each template with its values on standard input as `render` does."""
    answer_requests(lambda data: json.dumps(render(*json.loads(data))).encode(), memory=MEMORY, seconds=SECONDS)


if __name__ == "__main__":
    main()
