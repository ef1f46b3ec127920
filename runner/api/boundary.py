"""The boundary of the API: arguments have the types of signatures, and errors speak of arguments, not of options.

A wrong type would otherwise be noticed in the middle of the work, or never: a file name in place of `agree`, or
`force_new="no"`, is true to Python.
"""

from __future__ import annotations

import functools
import inspect
import os
import re
import typing
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields
from numbers import Integral, Real
from pathlib import Path
from types import NoneType, SimpleNamespace, UnionType
from typing import Annotated, Any, Literal, ParamSpec, TypeVar, Union, cast, get_args, get_origin

from runner import local_files
from runner.errors import RunnerError, require_sound

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class From:
    """The least value of a number."""

    least: int


@dataclass(frozen=True, slots=True)
class Called:
    """What messages call a type."""

    words: str
    file: bool = False
    """Whether it names a file."""


Count = Annotated[int, From(1)]
Amount = Annotated[int, From(0)]
Seconds = Annotated[float, From(0)]
LocalPath = Annotated[str | os.PathLike[str], Called("a file name", file=True)]
Dataset = Annotated[str | os.PathLike[str], Called("a file name or a gs:// address", file=True)]

_WORDS: dict[object, str] = {
    str: "text",
    int: "a whole number",
    float: "a number",
    bool: "True or False",
    NoneType: "None",
    Mapping: "a mapping",
    Sequence: "a list",
    Iterable: "a list",
    Callable: "a function",
}
_OPTION = re.compile(r"`[^`]*`|--([a-z][a-z-]*)")
"""A command line, which stays as it is, or an option by itself."""
_ELSEWHERE = {
    "project": "runner.init(project=…)",
    "location": "runner.init(location=…)",
    "environment": "runner.init(environment=…)",
    "context": "RUNNER_CONTEXT",
    "model": "base_model",
    "output": "output_uri",
    "no_wait": "timeout",
    "max_tokens": "max_tokens",
    "yes": "agree",
}
"""Options whose names are not those of arguments."""
_names: dict[str, str] = {}
"""Arguments by the names of options, as messages spell them."""


def public(function: Callable[Arguments, Result]) -> Callable[Arguments, Result]:
    """Return a function of the API that refuses arguments of wrong types, and whose errors name arguments.

    Raises:
        ConfigurationError: arguments have wrong types, or a path cannot be used; lists all of them.
    """
    signature = inspect.signature(function)
    _names.update(
        (name, f"{name}=True" if parameter.annotation == "bool" else name)
        for name, parameter in signature.parameters.items()
    )

    def checked(args: Any, kwargs: Any) -> inspect.BoundArguments:
        try:
            bound = signature.bind(*args, **kwargs)
        except TypeError:
            function(*args, **kwargs)  # says the same, with the name of the function
            raise
        hints, problems = _hints(function), []
        for name, value in bound.arguments.items():
            if name not in hints or signature.parameters[name].kind is inspect.Parameter.VAR_KEYWORD:
                continue
            bound.arguments[name] = value = plain(value)
            if not _fits(value, hints[name]):
                problems.append(f"{name} is {_said(value)}: it must be {_words(hints[name])}")
            elif callable(value) and _takes_function(hints[name]):
                bound.arguments[name] = _answering(value, name)
        require_sound(problems, hint=_hint(bound.arguments, hints) if problems else None)
        return bound

    if inspect.iscoroutinefunction(function):

        @functools.wraps(function)
        async def asynchronous(*args: Any, **kwargs: Any) -> Any:
            with _in_words_of_python():
                bound = checked(args, kwargs)
                return await function(*bound.args, **bound.kwargs)

        return cast(Callable[Arguments, Result], asynchronous)

    @functools.wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> Result:
        with _in_words_of_python():
            bound = checked(args, kwargs)
            return function(*bound.args, **bound.kwargs)

    return wrapper


def taking(
    source: Callable[typing.Concatenate[Any, Arguments], Result],
) -> Callable[[Callable[..., Result]], Callable[typing.Concatenate[Any, Arguments], Result]]:
    """Return a decorator for a method that hands its arguments on: help and type checkers show those of `source`."""

    def decorated(method: Callable[..., Result]) -> Callable[typing.Concatenate[Any, Arguments], Result]:
        itself, *_ = inspect.signature(method).parameters.values()
        _, *others = inspect.signature(source).parameters.values()
        kept = [parameter for parameter in others if parameter.name != "session"]
        vars(method)["__signature__"] = inspect.Signature(
            [itself, *kept], return_annotation=source.__annotations__["return"]
        )
        return method

    return decorated


def fields_of(argument: str, kind: type[Any]) -> None:
    """Let errors name the fields of an argument that is a data class."""
    _names.update((field.name, f"{argument}.{field.name}") for field in fields(kind))


def local_path(given: LocalPath) -> Path:
    """Return the path that a text or a path names, `~` being the home folder. Raises ConfigurationError."""
    return local_files.expanded(os.fspath(given))


@contextmanager
def _in_words_of_python() -> Iterator[None]:
    try:
        yield
    except RunnerError as error:
        error.reword(_python_words)
        raise
    except OSError as error:
        if not isinstance(error.filename, str | bytes):
            raise
        told = local_files.unwritable if error.errno in local_files.DISK_ERRORS else local_files.unusable
        raise told(Path(os.fsdecode(error.filename)), error) from error


def _python_words(text: str) -> str:
    def word(found: re.Match[str]) -> str:
        name = (found[1] or "").replace("-", "_")
        return _ELSEWHERE.get(name) or _names.get(name) or found[0]

    return _OPTION.sub(word, text)


@functools.cache
def _hints(function: Callable[..., object]) -> dict[str, Any]:
    """Return the types of the parameters; those of results may be known to type checkers only."""
    parameters = {name: hint for name, hint in function.__annotations__.items() if name != "return"}
    scope = inspect.unwrap(function).__globals__
    return typing.get_type_hints(SimpleNamespace(__annotations__=parameters), scope, include_extras=True)


def _fits(value: object, hint: Any) -> bool:
    origin, parts = get_origin(hint), get_args(hint)
    if hint is Any:
        return True
    if origin in (Union, UnionType):
        return any(_fits(value, part) for part in parts)
    if origin is Annotated:
        return _fits(value, parts[0]) and all(
            cast(Any, value) >= part.least for part in parts if isinstance(part, From)
        )
    if origin is Literal:
        return isinstance(value, str) and value in parts
    if hint in (int, float):
        # Numbers of other packages too, as in a loop over an array.
        return isinstance(value, Integral if hint is int else Real) and not isinstance(value, bool) and value == value
    if origin in (Sequence, Iterable):
        if isinstance(value, str | bytes | Mapping) or not isinstance(value, origin):
            return False
        return origin is Iterable or all(_fits(item, parts[0]) for item in cast(Sequence[object], value))
    if origin is Mapping:
        if not isinstance(value, Mapping):
            return False
        return all(_fits(key, parts[0]) and _fits(item, parts[1]) for key, item in value.items())
    if origin is Callable or hint is Callable:
        return callable(value) and not inspect.iscoroutinefunction(value)
    return isinstance(value, NoneType if hint is None else origin or hint)


def plain(value: object) -> object:
    """Return Python's own number or truth value for one of another package."""
    if getattr(getattr(value, "dtype", None), "kind", "") == "b" and getattr(value, "ndim", None) == 0:
        return bool(value)
    if isinstance(value, bool | int | float) or not isinstance(value, Real):
        return value
    return int(value) if isinstance(value, Integral) else float(value)


def _answering(function: Callable[..., object], name: str) -> Callable[..., object]:
    """Return a function whose results are Python's own, as a comparison with a number of another package is not."""

    def answering(*args: object, **kwargs: object) -> object:
        return plain(function(*args, **kwargs))

    answering.__name__ = str(getattr(function, "__name__", name))
    return answering


def _takes_function(hint: Any) -> bool:
    return get_origin(hint) is Callable or any(map(_takes_function, get_args(hint)))


def _words(hint: Any) -> str:
    origin, parts = get_origin(hint), get_args(hint)
    if origin in (Union, UnionType):
        kinds = dict.fromkeys(_words(part) for part in parts)
        return " or ".join(kinds)
    if origin is Annotated:
        return parts[1].words if isinstance(parts[1], Called) else f"{_words(parts[0])} from {parts[1].least}"
    if origin is Literal:
        return f"one of {', '.join(map(repr, parts))}"
    if origin in (Sequence, Iterable):
        return f"a list of {_words(parts[0])}"
    if origin is Mapping:
        return f"a mapping of {_words(parts[0])} to {_words(parts[1])}"
    known = _WORDS.get(NoneType if hint is None else origin or hint)
    return known or f"a runner.{hint.__name__}"


def _said(value: object) -> str:
    """Return a value for a message: its type where the value itself could fill pages."""
    if value is None or isinstance(value, str | int | float):
        shown = repr(value)
        return shown if len(shown) <= 80 else f"{shown[:80]}…"
    if inspect.iscoroutinefunction(value):
        return "an async function, whose answer nobody would await"
    return f"a {type(value).__name__}"


def _hint(arguments: Mapping[str, Any], hints: Mapping[str, Any]) -> str | None:
    """Return how data that is in memory becomes a dataset, if that is what was given."""
    for name, hint in hints.items():
        value = arguments.get(name)
        if isinstance(value, str | bytes) or not isinstance(value, Iterable) or not _names_file(hint):
            continue
        if hasattr(value, "to_json"):
            return f"write a file, and pass its name: `{name}.to_json('{name}.jsonl', orient='records', lines=True)`"
        return "write a file with one JSON object per line, and pass its name"
    return None


def _names_file(hint: Any) -> bool:
    parts = get_args(hint)
    if get_origin(hint) is Annotated:
        return any(isinstance(part, Called) and part.file for part in parts)
    return any(map(_names_file, parts))
