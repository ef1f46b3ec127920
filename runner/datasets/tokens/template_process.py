"""Renders untrusted chat templates: in a sandbox, in a separate process with limits of memory and time.

The sandbox denies a template access to files, Python's attributes and imports, but does not prevent nested loops
and powers of powers. It offers templates the same environment as transformers, whose own rendering has no
limits; a test compares the texts of both.
"""

from __future__ import annotations

import json
from datetime import datetime
from functools import lru_cache
from typing import Any

from runner.datasets.limited_processes import answer_requests

MEMORY = 2 << 30
"""Maximum memory of the process, in bytes."""
SECONDS = 5
"""Maximum processor time of one rendering, including reading the template. Templates of models take milliseconds."""
_MAX_RENDERED = 64 << 20


class _RefusedError(Exception):
    """The template itself refuses a conversation."""


def environment() -> Any:
    """Return the sandbox: an environment of jinja2."""
    from jinja2 import nodes
    from jinja2.ext import Extension, loopcontrols
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    class Generation(Extension):
        """`{% generation %}` marks the assistant's text, and changes nothing."""

        tags = {"generation"}  # noqa: RUF012 - the library's own

        def parse(self, parser: Any) -> nodes.Node:
            """Return the block's body."""
            line = next(parser.stream).lineno
            body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
            return nodes.Scope(body).set_lineno(line)

    made = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True, extensions=[Generation, loopcontrols])
    made.globals["raise_exception"] = _refuse
    made.globals["strftime_now"] = lambda form: datetime.now().astimezone().strftime(form)
    made.filters["tojson"] = _to_json
    return made


@lru_cache(1)
def _template(source: str) -> Any:
    return environment().from_string(source)


def _to_json(
    value: Any, ensure_ascii: bool = False, indent: Any = None, separators: Any = None, sort_keys: bool = False
) -> str:
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


def _refuse(message: str) -> None:
    raise _RefusedError(message)


def render(source: str, values: dict[str, Any]) -> tuple[str, str]:
    """Return the template's output for the given values and "", or "" and the failure: `fails: …`."""
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
    """Render each template with its values from standard input, as `render` does."""
    answer_requests(lambda data: json.dumps(render(*json.loads(data))).encode(), memory=MEMORY, seconds=SECONDS)


if __name__ == "__main__":
    main()
