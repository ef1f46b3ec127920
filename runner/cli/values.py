"""What may follow an option: each kind of value, and what is said of a value that is none."""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import click

from runner import prices
from runner.errors import ConfigurationError

if TYPE_CHECKING:
    import datetime

    _Any = click.ParamType[Any]
    _Choice = click.Choice[str]
else:
    _Any = click.ParamType  # not generic in every supported version of click
    _Choice = click.Choice

_SHOWN = 60
"""Characters of a wrong value that a message shows."""


class Refused(click.BadParameter):
    """A value that is wrong. The message reads on after the name of what it was given for."""

    def format_message(self) -> str:
        """Return the sentence."""
        return f"{name_of(self.param, self.ctx)} {self.message}" if self.param else self.message


def name_of(parameter: click.Parameter, ctx: click.Context | None) -> str:
    """Return what people call a parameter: `--since`, `TRAINING`, or the variable that its value came from."""
    source = ctx.get_parameter_source(parameter.name) if ctx is not None and parameter.name else None
    if source is click.core.ParameterSource.ENVIRONMENT and isinstance(parameter.envvar, str):
        return parameter.envvar
    if isinstance(parameter, click.Option):
        return max(parameter.opts, key=len)
    return (parameter.metavar or parameter.human_readable_name).strip("[].").upper()


class Value(_Any):
    """A kind of value whose `form` people are told of."""

    metavar = ""
    """What help shows for a value."""

    @property
    def form(self) -> str:
        """Return what is accepted, with an example: `a number from 0 to 2, such as 0.5`."""
        raise NotImplementedError

    def get_metavar(self, param: click.Parameter, ctx: click.Context | None = None) -> str | None:
        """Return what help shows for a value."""
        return self.metavar or None

    def refuse(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> NoReturn:
        """Raise what is said of a value that is not of this form."""
        text = str(value)
        shown = text if len(text) <= _SHOWN else text[:_SHOWN] + "…"
        raise Refused(f"takes {self.form}, not {shown!r}" if param else f"{shown!r} is not {self.form}", ctx, param)


class Duration(Value):
    """A length of time such as `90m` or `2h30m`; becomes seconds."""

    name = "duration"
    metavar = "TIME"

    @property
    def form(self) -> str:
        """Return what is accepted."""
        from runner.formatting import DURATION

        return DURATION

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Return the seconds."""
        from runner.cli.text import seconds_of

        if isinstance(value, float):
            return value
        try:
            return seconds_of(str(value))
        except ValueError:
            self.refuse(value, param, ctx)


class Day(Value):
    """A date; becomes its first moment in UTC."""

    name = "date"
    metavar = "DATE"
    form = "a date as YYYY-MM-DD, such as 2026-10-01"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> datetime.datetime:
        """Return midnight in UTC."""
        import datetime
        import re

        try:
            if not re.fullmatch(r"[0-9]{4}-[0-9]{2}-[0-9]{2}", str(value)):
                raise ValueError
            return datetime.datetime.fromisoformat(str(value)).replace(tzinfo=datetime.UTC)
        except ValueError:
            self.refuse(value, param, ctx)


class Money(Value):
    """An amount of US dollars, with or without the sign; becomes a float."""

    name = "usd"
    metavar = "USD"
    form = prices.DOLLARS

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Return the dollars."""
        if isinstance(value, float):
            return value
        try:
            return prices.dollars_of(str(value))
        except ValueError:
            self.refuse(value, param, ctx)


class _Numeric(Value):
    """A number; subclasses of those of click, which show the range in help."""

    noun = "a number"
    least: float = 0.5
    """The example where the range has no say."""
    example: str = ""

    @property
    def form(self) -> str:
        """Return what is accepted."""
        low, high = getattr(self, "min", None), getattr(self, "max", None)
        between = ""
        if low is not None:
            between = f" above {low:,}" if getattr(self, "min_open", False) else f" from {low:,}"
            between += "" if high is None else f" to {high:,}"
        return f"{self.noun}{between}, such as {self.example or f'{max(self.least, low or 0):g}'}"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the number."""
        try:
            found = super().convert(value, param, ctx)
        except click.BadParameter:
            found = float("nan")
        if not math.isfinite(found):
            self.refuse(value, param, ctx)
        return found


class Whole(_Numeric, click.types.IntParamType):
    """A whole number."""

    name = "whole number"
    metavar = "N"
    noun = "a whole number"
    least = 3


class Count(Whole, click.IntRange):
    """A whole number in a range."""


class Number(_Numeric, click.types.FloatParamType):
    """A number, like `example`."""

    name = "number"
    metavar = "X"

    def __init__(self, example: str = "") -> None:
        self.example = example


class Quantity(_Numeric, click.FloatRange):
    """A number in a range."""

    name = "number"
    metavar = "X"


class OneOf(Value, _Choice):
    """One of a few words."""

    @property
    def form(self) -> str:
        """Return what is accepted."""
        *others, last = map(str, self.choices)
        return f"{', '.join(others)} or {last}" if others else last

    def get_metavar(self, param: click.Parameter, ctx: click.Context | None = None) -> str | None:
        """Return the words."""
        return click.Choice.get_metavar(self, param, ctx)  # type: ignore[arg-type]

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the word."""
        try:
            return click.Choice.convert(self, value, param, ctx)
        except click.BadParameter:
            self.refuse(value, param, ctx)


class Pair(Value):
    """A name with a value; stays a text."""

    name = "text"

    def __init__(self, example: str, *, form: str = "KEY=VALUE") -> None:
        self.metavar = form
        self.example = example

    @property
    def form(self) -> str:
        """Return what is accepted."""
        return f"{self.metavar}, such as {self.example}"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Return the text."""
        if not str(value).partition("=")[0] or "=" not in str(value):
            self.refuse(value, param, ctx)
        return str(value)


class Location(Value):
    """A location of Google Cloud."""

    name = "text"
    form = "the name of a location, such as us-central1"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Return the name."""
        from runner.environment import FORMS

        if value and not FORMS["location"].fullmatch(str(value)):
            self.refuse(value, param, ctx)
        return str(value)


class BucketPath(Value):
    """An address in Cloud Storage; stays a text."""

    name = "text"
    metavar = "gs://…"
    form = "an address in Cloud Storage, such as gs://my-bucket/folder"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Return the address."""
        from runner.gcp.storage import parse_gs_uri

        try:
            parse_gs_uri(str(value))
        except ConfigurationError:
            self.refuse(value, param, ctx)
        return str(value)


class Encoding(Value):
    """A text encoding; stays a text."""

    name = "text"
    form = "the name of an encoding, such as cp1252"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Return the name."""
        from runner.datasets.reading.encodings import known_encoding

        try:
            known_encoding(str(value))
        except ConfigurationError:
            self.refuse(value, param, ctx)
        return str(value)


class _Path(Value):
    """A path; what it is not is said as everywhere."""

    form = "a path"

    def path(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Path:
        """Return the path that a command line names."""
        from runner import local_files

        try:
            return local_files.expanded(os.fsdecode(value))
        except ConfigurationError as error:
            raise Refused(error.message, ctx, param) from None

    def require(self, problem: str, param: click.Parameter | None, ctx: click.Context | None) -> None:
        """Refuse a path that has a problem."""
        if problem:
            raise Refused(problem, ctx, param)


class LocalPath(_Path, click.Path):
    """A file or a folder of this machine; becomes a Path."""

    def __init__(self, *, folder: bool = False, exists: bool = False, allow_dash: bool = False) -> None:
        super().__init__(file_okay=not folder, dir_okay=folder, path_type=Path, allow_dash=allow_dash)
        self.folder = folder
        self.wanted = exists

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the path."""
        from runner import local_files

        path = self.path(value, param, ctx)
        is_dash = self.allow_dash and str(path) == "-"
        problem = "" if is_dash else local_files.missing(path)
        if self.folder:
            problem = f"{path}: {local_files.NO_FOLDER}" if not problem and not is_dash else ""
            problem = problem or (f"{path}: no such folder" if self.wanted and not path.is_dir() else "")
        elif not self.wanted and not path.is_dir():
            problem = ""  # it is written, or read later
        self.require(problem, param, ctx)
        return path


class AnyPath(_Path, click.Path):
    """A file or a folder; becomes a Path."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the path."""
        return self.path(value, param, ctx)


FILE = LocalPath()
INPUT = LocalPath(exists=True)
PATH = AnyPath()
FOLDER = LocalPath(folder=True)


class Picture(_Path):
    """An image: a file that is there, or an address; stays a text."""

    name = "file"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Return the path or the address."""
        text = str(value)
        return text if text.startswith(("gs://", "https://", "data:")) else str(INPUT.convert(text, param, ctx))


class DataFile(_Path):
    """A file, a `gs://` object or `-`; becomes a Path, or a string for an object.

    Args:
        exists: whether it is read: then a file is there.
    """

    name = "file"

    def __init__(self, *, exists: bool = False) -> None:
        self.file = LocalPath(exists=exists, allow_dash=True)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Path | str:
        """Return the path or the address."""
        text = str(value)
        if text.startswith("gs://"):
            return text
        path: Path = self.file.convert(text, param, ctx)
        return path
