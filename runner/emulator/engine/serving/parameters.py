"""Sampling parameters of one request: their names, ranges and defaults, as in vLLM's `SamplingParams`.

Values that arrive through protobuf's `Struct` are floats, so `5.0` is read as the integer 5. All errors of a request
are reported together, each with the path of its field.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from runner.emulator.errors import invalid

GREEDY_TEMPERATURE = 1e-5
"""Below this value, vLLM takes the most likely token (`vllm/sampling_params.py`, `_SAMPLING_EPS`)."""

MOST_LOGPROBS = 20
"""OpenAI's maximum of `top_logprobs`, and the default of vLLM's `--max-logprobs`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SamplingParameters:
    """The generation settings of one sequence. The defaults are those of vLLM's `SamplingParams`."""

    max_tokens: int = 16
    """Maximum number of generated tokens, including the end-of-sequence token."""
    min_tokens: int = 0
    """No end-of-sequence or stop token before this many tokens."""
    temperature: float = 1.0
    """0 takes the most likely token."""
    top_p: float = 1.0
    top_k: int = 0
    """0 and -1 consider every token."""
    min_p: float = 0.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    repetition_penalty: float = 1.0
    logit_bias: Mapping[int, float] = field(default_factory=dict)
    seed: int | None = None
    stop: tuple[str, ...] = ()
    stop_token_ids: frozenset[int] = frozenset()
    include_stop_str_in_output: bool = False
    ignore_eos: bool = False
    """Continue after the end-of-sequence token, which is also generated."""
    skip_special_tokens: bool = True
    logprobs: int | None = None
    """Number of alternatives for each token; 0 reports only the token itself; None reports nothing."""
    prompt_logprobs: int | None = None
    """The same for the tokens of the prompt."""
    n: int = 1
    """Number of sequences to generate for the prompt."""
    schema: Mapping[str, Any] | None = None
    """JSON schema for the text; None for no schema."""

    @property
    def greedy(self) -> bool:
        """Return whether the most likely token is taken."""
        return self.temperature < GREEDY_TEMPERATURE


class Problems:
    """The errors of a request, in the order of its fields."""

    def __init__(self) -> None:
        self.found: list[str] = []

    def add(self, path: str, message: str) -> None:
        """Add an error of the field at `path`."""
        self.found.append(f"{path}: {message}")

    def raise_if_any(self) -> None:
        """Raise a 400 with all errors.

        Raises:
            ApiError: INVALID_ARGUMENT.
        """
        if self.found:
            raise invalid("; ".join(self.found))


Reader = Callable[[Any], Any]
"""Converts a JSON value or raises ValueError with a message that follows the field's path."""


def shown(value: Any) -> str:
    """Return a JSON value for an error message, shortened."""
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def integer(low: int, high: int | None = None) -> Reader:
    """Return a reader of integers, including `5.0`."""
    bounds = f"an integer of at least {low}" if high is None else f"an integer from {low} to {high}"

    def read(value: Any) -> int:
        if isinstance(value, bool) or not isinstance(value, int | float) or value != value or math.isinf(value):
            raise ValueError(f"must be {bounds}, got {shown(value)}")
        if value != int(value) or value < low or (high is not None and value > high):
            raise ValueError(f"must be {bounds}, got {shown(value)}")
        return int(value)

    return read


def number(low: float, high: float = math.inf, *, above_low: bool = False) -> Reader:
    """Return a reader of finite numbers from `low` (excluded with `above_low`) to `high`."""
    bounds = f"a number {'above' if above_low else 'of at least'} {low:g}"
    if high != math.inf:
        bounds += f" and at most {high:g}"

    def read(value: Any) -> float:
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            raise ValueError(f"must be {bounds}, got {shown(value)}")
        if value < low or value > high or (above_low and value == low):
            raise ValueError(f"must be {bounds}, got {shown(value)}")
        return float(value)

    return read


def boolean(value: Any) -> bool:
    """Read true or false."""
    if not isinstance(value, bool):
        raise ValueError(f"must be true or false, got {shown(value)}")
    return value


def _stop(value: Any) -> tuple[str, ...]:
    values = [value] if isinstance(value, str) else value
    if not isinstance(values, list) or not all(isinstance(one, str) for one in values):
        raise ValueError(f"must be a string or a list of strings, got {shown(value)}")
    if "" in values:
        raise ValueError("must not contain an empty string")
    return tuple(values)


def _token_ids(value: Any) -> frozenset[int]:
    if not isinstance(value, list):
        raise ValueError(f"must be a list of token ids, got {shown(value)}")
    return frozenset(integer(0)(one) for one in value)


def _logit_bias(value: Any) -> dict[int, float]:
    if not isinstance(value, dict):
        raise ValueError(f"must map token ids to biases, got {shown(value)}")
    biases = {}
    for key, bias in value.items():
        if not (key.isascii() and key.isdigit()):
            raise ValueError(f"must map token ids to biases, got the key {shown(key)}")
        biases[int(key)] = number(-100, 100)(bias)
    return biases


READERS: dict[str, Reader] = {
    "max_tokens": integer(1),
    "min_tokens": integer(0),
    "temperature": number(0),
    "top_p": number(0, 1, above_low=True),
    "top_k": integer(-1),
    "min_p": number(0, 1),
    "presence_penalty": number(-2, 2),
    "frequency_penalty": number(-2, 2),
    "repetition_penalty": number(0, above_low=True),
    "logit_bias": _logit_bias,
    "seed": integer(-(2**63), 2**63 - 1),
    "stop": _stop,
    "stop_token_ids": _token_ids,
    "include_stop_str_in_output": boolean,
    "ignore_eos": boolean,
    "skip_special_tokens": boolean,
    "logprobs": integer(0, MOST_LOGPROBS),
    "n": integer(1),
}
"""Every supported sampling parameter. Other fields are refused, never ignored."""


def read_fields(
    body: Mapping[str, Any], readers: Mapping[str, Reader], path: str, problems: Problems
) -> dict[str, Any]:
    """Convert the fields of `body` that have a reader; null counts as absent.

    Args:
        body: a JSON object.
        readers: by field name.
        path: path of `body` with its trailing dot, for messages; empty at the top.
        problems: gets the errors; a field with an error is omitted.
    """
    values = {}
    for name, reader in readers.items():
        if body.get(name) is None:
            continue
        try:
            values[name] = reader(body[name])
        except ValueError as error:
            problems.add(path + name, str(error))
    return values


def refuse_others(
    body: Mapping[str, Any], known: Collection[str], neutral: Mapping[str, Sequence[Any]], path: str, problems: Problems
) -> None:
    """Add an error for every unknown field, unless its value requests nothing; see `read_fields`."""
    for name in body.keys() - known:
        if body[name] is not None and body[name] not in neutral.get(name, ()):
            problems.add(path + name, f"is not supported by this server, got {shown(body[name])}")


def read_stream_options(body: Mapping[str, Any], path: str, problems: Problems) -> bool:
    """Return whether `stream_options` request the usage; see `read_fields`."""
    options = body.get("stream_options")
    if options is None:
        return False
    if not isinstance(options, dict):
        problems.add(f"{path}stream_options", f"must be an object, got {shown(options)}")
        return False
    if body.get("stream") is not True:
        problems.add(f"{path}stream_options", "needs stream to be true")
    for name in sorted(options.keys() - {"include_usage"}):
        problems.add(f"{path}stream_options.{name}", "is not supported by this server")
    found = read_fields(options, {"include_usage": boolean}, f"{path}stream_options.", problems)
    return bool(found.get("include_usage", False))


def usage(prompt: int, generated: int) -> dict[str, int]:
    """Return the usage of an answer, in tokens."""
    return {"prompt_tokens": prompt, "completion_tokens": generated, "total_tokens": prompt + generated}


def make_parameters(values: Mapping[str, Any], path: str, problems: Problems) -> SamplingParameters:
    """Build the parameters from converted values and check those that depend on each other."""
    parameters = SamplingParameters(**{**values, "top_k": max(0, values.get("top_k", 0))})
    if parameters.n > 1 and parameters.greedy:
        problems.add(path + "n", f"must be 1 when using greedy sampling, got {parameters.n}")
    if parameters.min_tokens > parameters.max_tokens:
        problems.add(
            path + "min_tokens",
            f"must be less than or equal to max_tokens={parameters.max_tokens}, got {parameters.min_tokens}",
        )
    return parameters
