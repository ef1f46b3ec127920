"""Functions in a chat completions request, and calls of them in a model's text.

As in vLLM, a named function and `required` constrain the text with a schema. `auto` does not constrain the text, and
detects calls in the forms of the families' training: JSON with a name, plain or in `<tool_call>`.
"""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from runner.emulator.engine.serving.parameters import Problems, shown

_NAME = re.compile(r"[A-Za-z0-9_.-]{1,64}\Z")
_TAGGED = re.compile(r"<tool_call>\s*(.*?)\s*(?:</tool_call>|\Z)", re.DOTALL)
_OPENINGS = ("{", "[", "<tool_call>")
CHOICES = ("none", "auto", "required")


@dataclass(frozen=True, slots=True)
class Tools:
    """The functions of one request."""

    definitions: tuple[dict[str, Any], ...]
    """Unchanged, because chat templates render them."""
    choice: str
    """`auto`, `required`, or the name of the function that must be called."""
    parallel: bool = True
    """Whether several calls are allowed."""

    @property
    def named(self) -> bool:
        """Return whether one function must be called."""
        return self.choice not in CHOICES

    def schema(self) -> dict[str, Any] | None:
        """Return the schema for the text; None if there is none."""
        if self.choice == "auto":
            return None
        parameters = {one["function"]["name"]: _parameters(one["function"]) for one in self.definitions}
        if self.named:
            return parameters[self.choice]
        calls = [
            {
                "type": "object",
                "properties": {"name": {"const": name}, "parameters": schema},
                "required": ["name", "parameters"],
                "additionalProperties": False,
            }
            for name, schema in parameters.items()
        ]
        items = {"anyOf": calls} if len(calls) > 1 else calls[0]
        return {"type": "array", "minItems": 1, **({} if self.parallel else {"maxItems": 1}), "items": items}

    def may_begin(self, text: str) -> bool:
        """Return whether a text with this beginning may be a call."""
        if self.choice != "auto":
            return True
        begin = text.lstrip()
        return any(begin.startswith(one) or one.startswith(begin) for one in _OPENINGS)

    def calls(self, text: str) -> list[dict[str, Any]]:
        """Return the calls in a text, in OpenAI's format; none if it contains none."""
        if self.named:
            return [_call(self.choice, text)]
        found = [_parsed(part) for part in _TAGGED.findall(text) or [text]]
        listed = [one for part in found for one in (part if isinstance(part, list) else [part])]
        names = {one["function"]["name"] for one in self.definitions}
        calls = []
        for one in listed:
            arguments = one.get("parameters", one.get("arguments")) if isinstance(one, dict) else None
            if arguments is None or one.get("name") not in names:
                return []
            calls.append(_call(one["name"], arguments if isinstance(arguments, str) else json.dumps(arguments)))
        return calls if self.parallel else calls[:1]


def _call(name: str, arguments: str) -> dict[str, Any]:
    function = {"name": name, "arguments": arguments}
    return {"id": f"chatcmpl-tool-{uuid.uuid4().hex}", "type": "function", "function": function}


def _parsed(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def _parameters(function: Mapping[str, Any]) -> dict[str, Any]:
    return dict(function.get("parameters") or {"type": "object", "properties": {}})


def read_tools(body: Mapping[str, Any], path: str, problems: Problems) -> Tools | None:
    """Read `tools` and `tool_choice` of a request; None if no function can be called."""
    given = body.get("tools") or []
    if not isinstance(given, list):
        problems.add(f"{path}tools", f"must be a list, got {shown(given)}")
        return None
    for number, one in enumerate(given):
        function = one.get("function") if isinstance(one, dict) and one.get("type") == "function" else None
        if not isinstance(function, dict) or not _NAME.match(str(function.get("name", ""))):
            problems.add(f"{path}tools[{number}]", "must be a function with a name")
        elif not isinstance(function.get("parameters") or {}, dict):
            problems.add(f"{path}tools[{number}].function.parameters", "must be a JSON schema")
    if problems.found:
        return None
    return _chosen(given, body, path, problems)


def _chosen(given: list[dict[str, Any]], body: Mapping[str, Any], path: str, problems: Problems) -> Tools | None:
    choice, parallel = body.get("tool_choice"), body.get("parallel_tool_calls") is not False
    names = [one["function"]["name"] for one in given]
    if isinstance(choice, dict):
        function = choice.get("function")
        name = function.get("name") if isinstance(function, dict) else None
        if name not in names:
            problems.add(f"{path}tool_choice", f"names no function of tools, got {shown(choice)}")
            return None
        return Tools(tuple(given), str(name), parallel)
    if choice not in (None, *CHOICES):
        problems.add(f"{path}tool_choice", f"must be none, auto, required or a function, got {shown(choice)}")
        return None
    if not given:
        if choice not in (None, "none", "auto"):
            problems.add(f"{path}tool_choice", "needs tools")
        return None
    return None if choice == "none" else Tools(tuple(given), choice or "auto", parallel)
