"""The parameter types of the command line, and the errors for invalid values."""

from __future__ import annotations

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
"""Maximum number of characters of an invalid value in a message."""


class Refused(click.BadParameter):
    """An invalid value. The message continues after the name of the option, argument or variable."""

    def format_message(self) -> str:
        """Return the complete sentence."""
        return f"{name_of(self.param, self.ctx)} {self.message}" if self.param else self.message


def name_of(parameter: click.Parameter, ctx: click.Context | None) -> str:
    """Return the name of a parameter for messages: `--since`, `TRAINING`, or the variable that set it."""
    source = ctx.get_parameter_source(parameter.name) if ctx is not None and parameter.name else None
    if source is click.core.ParameterSource.ENVIRONMENT and isinstance(parameter.envvar, str):
        return parameter.envvar
    if isinstance(parameter, click.Option):
        return max(parameter.opts, key=len)
    return (parameter.metavar or parameter.human_readable_name).strip("[].").upper()


class Value(_Any):
    """A parameter type whose errors contain its `form`."""

    metavar = ""
    """The text for a value in the help."""

    @property
    def form(self) -> str:
        """Return the accepted form with an example, such as `a number from 0 to 2, such as 0.5`."""
        raise NotImplementedError

    def get_metavar(self, param: click.Parameter, ctx: click.Context | None = None) -> str | None:
        """Return the text for a value in the help."""
        return self.metavar or None

    def refuse(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> NoReturn:
        """Raise the error for a value that does not have this form."""
        text = str(value)
        shown = text if len(text) <= _SHOWN else text[:_SHOWN] + "…"
        raise Refused(f"takes {self.form}, not {shown!r}" if param else f"{shown!r} is not {self.form}", ctx, param)


class Duration(Value):
    """A duration such as `90m` or `2h30m`; converted to seconds."""

    name = "duration"
    metavar = "TIME"

    @property
    def form(self) -> str:
        """Return the accepted form."""
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
    """A date; converted to midnight in UTC."""

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
    """An amount of US dollars, with or without a dollar sign; converted to a float."""

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


_MOST = 2**63
"""No number that a command takes is as large; counters of Python and of the service end here."""


class _Numeric(Value):
    """A number. Subclasses also inherit from types of click, which add the range to the help."""

    noun = "a number"
    least: float = 0.5
    """The example, unless the range excludes it."""
    example: str = ""

    @property
    def form(self) -> str:
        """Return the accepted form."""
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
        if not abs(found) < _MOST:  # NaN, too
            self.refuse(value, param, ctx)
        return found


class Whole(_Numeric, click.types.IntParamType):
    """An integer."""

    name = "whole number"
    metavar = "N"
    noun = "a whole number"
    least = 3


class Count(Whole, click.IntRange):
    """An integer in a range."""


class Number(_Numeric, click.types.FloatParamType):
    """A number. Errors contain `example`."""

    name = "number"
    metavar = "X"

    def __init__(self, example: str = "") -> None:
        self.example = example


class Quantity(_Numeric, click.FloatRange):
    """A number in a range."""

    name = "number"
    metavar = "X"


class OneOf(Value, _Choice):
    """One of several words."""

    @property
    def form(self) -> str:
        """Return the accepted form."""
        *others, last = map(str, self.choices)
        return f"{', '.join(others)} or {last}" if others else last

    def get_metavar(self, param: click.Parameter, ctx: click.Context | None = None) -> str | None:
        """Return the choices."""
        return click.Choice.get_metavar(self, param, ctx)  # type: ignore[arg-type]

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the choice."""
        try:
            return click.Choice.convert(self, value, param, ctx)
        except click.BadParameter:
            self.refuse(value, param, ctx)


class JobState(Value):
    """A state of jobs, in words or as the API names it; converted to the API's name."""

    name = "text"
    metavar = "STATE"

    @property
    def form(self) -> str:
        """Return the accepted form."""
        from runner.gcp.job_states import STATES

        *others, last = STATES
        return f"{', '.join(others)} or {last}"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Return the state as `JOB_STATE_RUNNING`."""
        from runner.gcp.job_states import STATES

        short = str(value).lower().removeprefix("job_state_").replace("-", "_")
        if short.replace("_", " ") not in STATES:
            self.refuse(value, param, ctx)
        return f"JOB_STATE_{short.replace(' ', '_').upper()}"


class Pair(Value):
    """A name and a value; not converted."""

    name = "text"

    def __init__(self, example: str, *, form: str = "KEY=VALUE") -> None:
        self.metavar = form
        self.example = example

    @property
    def form(self) -> str:
        """Return the accepted form."""
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
    """A Cloud Storage URI; not converted."""

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
    """A text encoding; not converted."""

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
    """A path. Errors have the same text everywhere."""

    form = "a path"

    def path(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Path:
        """Return the path in a command line."""
        from runner import local_files

        try:
            return local_files.expanded(os.fsdecode(value))
        except ConfigurationError as error:
            raise Refused(error.message, ctx, param) from None

    def require(self, problem: str, param: click.Parameter | None, ctx: click.Context | None) -> None:
        """Raise the error for a problem; "" is none."""
        if problem:
            raise Refused(problem, ctx, param)


class LocalPath(_Path, click.Path):
    """A local file or folder; converted to a Path."""

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
    """A file or a folder; converted to a Path."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the path."""
        return self.path(value, param, ctx)


FILE = LocalPath()
INPUT = LocalPath(exists=True)
PATH = AnyPath()
FOLDER = LocalPath(folder=True)


class Picture(_Path):
    """An image: an existing file, or an address; not converted."""

    name = "file"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Return the path or the address."""
        text = str(value)
        return text if text.startswith(("gs://", "https://", "data:")) else str(INPUT.convert(text, param, ctx))


class DataFile(_Path):
    """A file, a `gs://` object or `-`; converted to a Path, or to a string for an object.

    Args:
        exists: whether a file must exist.
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
