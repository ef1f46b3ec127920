"""Reads `Pulumi.yaml` and the stack files beside it, as the engine would pass them to the program, and writes them."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from infra.settings.reader import NAMESPACE, as_texts
from runner.errors import ConfigurationError
from runner.infrastructure import STACK_KINDS, stack_file
from runner.local_files import read_text, replace

ROOT = Path(__file__).resolve().parents[1]


ENGINE_KEYS = re.compile(r"^(secretsprovider|encryptionsalt|encryptedkey):.*$", re.MULTILINE)
"""Keys that the engine needs to decrypt a stack's secrets: without them, the secrets are lost."""

_MARK = "\ufeff"
"""Byte order mark, which editors on Windows write at the beginning of a file."""
_BLANK = r"[^\S\r\n]"
_COMMENT = rf"(?:{_BLANK}+#[^\r\n]*)"
_QUOTED = r"""(?:"(?:[^"\\\r\n]|\\.)*"|'(?:[^'\r\n]|'')*')"""


def stacks(directory: Path = ROOT) -> list[str]:
    """Return the names of the stacks that have a file, sorted."""
    return sorted(path.name.split(".")[1] for path in directory.glob("Pulumi.*.yaml"))


def schema(directory: Path = ROOT) -> dict[str, dict[str, Any]]:
    """Return what `Pulumi.yaml` declares for each setting: type, default, description."""
    entries: dict[str, dict[str, Any]] = _read(directory / "Pulumi.yaml")["config"]
    return entries


def project_name(directory: Path) -> str:
    """Return the name of the project in a folder."""
    return str(_read(directory / "Pulumi.yaml").get("name", ""))


def lines(file: Path) -> dict[str, int]:
    """Return the line numbers of a stack file's settings, by full keys; none if the file cannot be read."""
    import yaml

    try:
        root = yaml.compose(text_of(file), yaml.SafeLoader)
        config = next(value for key, value in root.value if key.value == "config")
        found = {str(key.value): key.start_mark.line + 1 for key, _ in config.value}
    except (ConfigurationError, AttributeError, TypeError, StopIteration, ValueError, RecursionError, yaml.YAMLError):
        return {}
    return {key if ":" in key else f"{NAMESPACE}:{key}": line for key, line in found.items()}


def configuration(stack: str, directory: Path = ROOT) -> dict[str, str]:
    """Return a stack's full configuration, which maps keys to texts, or to lists and objects as JSON.

    Raises:
        ConfigurationError: the file does not exist, is not YAML, or has secrets, which only the engine can decrypt.
    """
    path = stack_file(stack, directory)
    if not path.is_file():
        known = ", ".join(stacks(directory)) or "none"
        raise ConfigurationError(
            f"there is no {path.name} in {'this folder' if directory == Path() else directory}; stacks there: {known}",
            hint=f"to create it, run `runner infra init {shlex.quote(str(directory))} --stack {shlex.quote(stack)}`",
        )
    given = _read(path).get("config") or {}
    if not isinstance(given, dict) or not all(isinstance(key, str) for key in given):
        raise ConfigurationError(f"{path.name}: config must map the names of settings to their values")
    sealed = [key for key, value in given.items() if isinstance(value, dict) and set(value) == {"secure"}]
    if sealed:
        raise ConfigurationError(
            f"{path.name}: {', '.join(sealed)} is encrypted; no setting of this program is a secret",
            hint="set it without --secret",
        )
    said = {key if ":" in key else f"{NAMESPACE}:{key}": value for key, value in given.items()}
    return as_texts({key: value for key, value in said.items() if value is not None})


def text_of(path: Path) -> str:
    """Return a file's text with its line ends unchanged, or "" if it does not exist.

    Raises:
        ConfigurationError: it cannot be read, or is not UTF-8.
    """
    return read_text(path, with_mark=True) if path.exists() else ""


def without_secrets(text: str) -> str:
    """Return a stack file's text without the lines about how its secrets are encrypted."""
    return "".join(line for line in text.splitlines(keepends=True) if not ENGINE_KEYS.match(line))


@contextmanager
def kept(path: Path) -> Iterator[None]:
    """Keep a stack's file as people wrote it: the engine rewrites it, but may only add how secrets are encrypted.

    What other programs write into it meanwhile is kept. An engine that is killed while it writes leaves an empty file;
    its text is then restored.

    Raises:
        ConfigurationError: the file cannot be read (raised before anything runs), or cannot be written.
    """
    before = text_of(path)
    try:
        yield
    finally:
        after = text_of(path) if path.is_file() else None
        if before and after is not None:
            end = _line_end(before)
            added = [match[0].rstrip("\r") for match in ENGINE_KEYS.finditer(after)]
            own = without_secrets(before) if added else before
            mark = _MARK if own.startswith(_MARK) else ""
            text = mark + "".join(f"{line}{end}" for line in added) + own.removeprefix(mark)
            if text != after and (not after.strip() or settings_of(after) == settings_of(before)):
                replace(path, text)


def _line_end(text: str) -> str:
    return "\r\n" if "\r\n" in text else "\n"


def settings_of(text: str) -> dict[str, str] | str:
    """Return the settings in a stack file's text, without other content; the whole text if it is not YAML."""
    import yaml

    try:
        return as_texts(yaml.safe_load(text)["config"])
    except (AttributeError, KeyError, TypeError, yaml.YAMLError):
        return text


def kind_of(stack: str) -> str:
    """Return the setting `environment` that a stack's name implies, or ""."""
    return stack if stack in STACK_KINDS else ""


def write(
    path: Path,
    values: Mapping[str, Any],
    *,
    present: Mapping[str, str] | None = None,
    key: str = "",
    fresh: bool = False,
) -> bool:
    """Set values in a stack's file and keep the rest of it, including comments. Return whether the file changed.

    Args:
        path: path of the file; it is created if it is missing.
        values: full keys (`gcp:project`) with texts, numbers and lists.
        present: settings to change only if the file has them.
        key: Cloud KMS key for the stack's secrets, if the file names none.
        fresh: whether to remove all other settings.

    Raises:
        ConfigurationError: the file cannot be read or written, or is not UTF-8.
    """
    before = text_of(path)
    mark = _MARK if before.startswith(_MARK) else ""
    text, end = before.removeprefix(mark), _line_end(before)
    if fresh:
        text = "".join(f"{match[0].rstrip(chr(13))}{end}" for match in ENGINE_KEYS.finditer(text))
    empty = rf"^config:{_BLANK}*(\{{\}}|null|~)(?={_BLANK}*{_COMMENT}?\r?$)"
    text = re.sub(empty, "config:", text, flags=re.MULTILINE)
    if not re.search(r"^config:", text, re.MULTILINE):
        text = f"{text}{'' if text.endswith(chr(10)) or not text else end}config:{end}"
    added = ""
    for name, value in {**(present or {}), **values}.items():
        line = re.compile(
            rf"^({_BLANK}+{re.escape(name)}:){_BLANK}*(?:{_QUOTED}|[^\r\n]*?)(?={_COMMENT}?\r?$)", re.MULTILINE
        )
        if line.search(text):
            text = line.sub(lambda match, value=value: f"{match[1]} {_scalar(value)}", text)  # type: ignore[misc]
        elif name in values:
            added += f"{end}  {name}: {_scalar(value)}"
    text = re.sub(
        rf"^config:{_BLANK}*{_COMMENT}?(?=\r?$)", lambda match: match[0] + added, text, count=1, flags=re.MULTILINE
    )
    if key and not re.search(r"^(secretsprovider|encryptionsalt):", text, re.MULTILINE):
        text = f"secretsprovider: gcpkms://{key}{end}{text}"
    text = mark + text
    if text != before:
        replace(path, text)
    return text != before


def _scalar(value: Any) -> str:
    """Return a value on one line of YAML that is read back as the same value."""
    import yaml

    if isinstance(value, str) and re.fullmatch(r"[\w./:-]+", value) and yaml.safe_load(value) == value:
        return value
    return json.dumps(value, ensure_ascii=False)


def _read(path: Path) -> dict[str, Any]:
    import yaml

    class Loader(yaml.SafeLoader):  # type: ignore[misc]
        """Refuses aliases, which can contain themselves or expand beyond memory, and duplicate keys."""

        def compose_node(self, parent: Any, index: Any) -> Any:
            """Return the next node."""
            if self.check_event(yaml.AliasEvent):
                raise yaml.YAMLError("aliases (*name) are not supported")
            return super().compose_node(parent, index)

        def construct_mapping(self, node: Any, deep: bool = False) -> Any:
            """Return a mapping."""
            seen: dict[Any, int] = {}
            for key, _ in node.value:
                line = key.start_mark.line + 1
                if seen.setdefault((key.tag, key.value), line) != line:
                    first = seen[key.tag, key.value]
                    raise yaml.YAMLError(f"{key.value} is there twice, in lines {first} and {line}")
            return super().construct_mapping(node, deep)

    try:
        body = yaml.load(text_of(path), Loader)  # noqa: S506 - a safe loader
    except (ValueError, RecursionError, yaml.YAMLError) as error:
        mark, problem = getattr(error, "problem_mark", None), getattr(error, "problem", None)
        line = f":{mark.line + 1}" if mark else ""
        hint = f"correct {path.name}{line}, then run the command again"
        raise ConfigurationError(f"{path}{line} is not YAML: {problem or error}", hint=hint) from error
    if not isinstance(body, dict):
        raise ConfigurationError(f"{path} must be a YAML mapping")
    return body
