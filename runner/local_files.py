"""Write local files without leaving incomplete content if a disk is full, read-only or broken."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import re
import shlex
import stat
import tempfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from runner.errors import ConfigurationError, DiskError, RunnerError
from runner.json_text import parsed, place_of

DISK_ERRORS = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EROFS})
"""Errors of disks; other errors, such as ENOTDIR and EACCES, concern the given name."""
_ANOTHER = "name another path"
_FOLDER = "a folder, not a file"
NO_FOLDER = "a file, not a folder"
_REASONS = {
    errno.EISDIR: _FOLDER,
    errno.ENOENT: "no such file",
    errno.ENOTDIR: "no such file",
    errno.ELOOP: "a link that leads in a circle",
}

_WHOLE = re.compile(rb',"crc32":\d+\D')
"""Checksum in a complete line, regardless of the line end."""


def expanded(text: str) -> Path:
    """Return the path in a text, in which `~` is the user's home folder as in a shell.

    Raises:
        ConfigurationError: the user does not exist; a shell leaves such a `~` in the text, which would become the name
            of a folder.
    """
    if not text.startswith("~") or os.path.lexists(text):
        return Path(text)
    try:
        return Path(text).expanduser()
    except RuntimeError:
        message = f"{text}: nobody called {text.split('/')[0][1:]!r} has a home folder here"
        raise ConfigurationError(message, hint=f"for a path in this folder, write ./{text}") from None


@contextlib.contextmanager
def opened_private(path: Path, *directories: Path, hint: str) -> Iterator[int]:
    """Yield the descriptor of a file that only its owner can read, for reading and appending.

    Args:
        path: the file, which is created if it is missing.
        directories: the directories to create for it, outermost first.
        hint: of the errors.

    Raises:
        DiskError, ConfigurationError: the file cannot be opened or created.
    """
    try:
        for directory in directories:
            directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
        descriptor = os.open(path, flags, 0o600)
    except OSError as error:
        raise unwritable(path, error, hint=hint) from error
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def missing(path: Path) -> str:
    """Return why a path cannot be read; "" if it can. Pipes and devices are read like files."""
    try:
        found = path.stat()
    except (OSError, ValueError) as error:
        return f"{path}: {reason(error)}"
    return f"{path}: {_FOLDER}" if stat.S_ISDIR(found.st_mode) else ""


def unreadable(path: Path, error: Exception) -> ConfigurationError:
    """Return the error for a file that the user named and that cannot be read."""
    return ConfigurationError(f"{path}: {reason(error)}")


def reason(error: Exception) -> str:
    """Return why a path cannot be read or written, in the wording of all commands."""
    if isinstance(error, OSError):
        return _REASONS.get(error.errno or 0) or error.strerror or str(error)
    return "is not UTF-8" if isinstance(error, UnicodeDecodeError) else "no such file"  # its name contains a NUL


def unwritable(path: Path, error: OSError, *, hint: str | None = None) -> RunnerError:
    """Return the error for a file that cannot be written: DiskError for errors of disks, otherwise ConfigurationError.

    The hint for a missing folder is the command that creates it.
    """
    why, mend = _why(path, error)
    message = f"cannot write {path}: {why}"
    if error.errno in DISK_ERRORS:
        return DiskError(message, path=str(path), hint=hint)
    return ConfigurationError(message, hint=mend or hint or _ANOTHER)


def unusable(path: Path, error: OSError) -> RunnerError:
    """Return the error for a path that the user named and that cannot be read or written."""
    why, mend = _why(path, error)
    return ConfigurationError(f"cannot use {path}: {why}", hint=mend or _ANOTHER)


def _why(path: Path, error: OSError) -> tuple[str, str | None]:
    """Return why a path cannot be used, and the command that corrects it; None if there is none."""
    if error.errno in {errno.ENOENT, errno.ENOTDIR} and not path.parent.is_dir():
        for above in reversed(path.parents):
            if above.exists() and not above.is_dir():
                return f"{above} is a file, not a folder", None
        return f"the folder {path.parent} does not exist", f"mkdir -p {shlex.quote(str(path.parent))}"
    return reason(error), None


def read_text(path: Path, *, with_mark: bool = False) -> str:
    """Return the text of a file with unchanged line ends.

    Args:
        path: the file.
        with_mark: keep a byte order mark, for a file that is written again.

    Raises:
        ConfigurationError: it cannot be read, or is not UTF-8.
    """
    try:
        return text_of(path.read_bytes(), str(path), with_mark=with_mark)
    except (OSError, ValueError) as error:
        raise unreadable(path, error) from error


def text_of(content: bytes, name: str, *, with_mark: bool = False) -> str:
    """Return the text in bytes from a file or a stream. Raises ConfigurationError if they are not UTF-8."""
    try:
        return content.decode("utf-8" if with_mark else "utf-8-sig")
    except UnicodeDecodeError as error:
        raise ConfigurationError(f"{name} is not UTF-8: {place_of(error)}", hint="save it as UTF-8") from error


def append(path: Path, descriptor: int, content: bytes, *, hint: str | None = None) -> None:
    """Append lines to a file and write them to disk before returning; after a failure, the file is unchanged.

    Args:
        path: name of the file, for messages.
        descriptor: descriptor of the file, opened with O_APPEND and for reading; nobody else writes to it.
        content: complete lines.
        hint: hint of the error.

    Raises:
        DiskError, ConfigurationError: the lines cannot be written.
    """
    try:
        before = os.fstat(descriptor).st_size
    except OSError as error:
        raise unwritable(path, error, hint=hint) from error
    try:
        if before and os.pread(descriptor, 1, before - 1) != b"\n":
            content = b"\n" + content  # a killed process has left an incomplete last line
        write_all(descriptor, content)
        os.fsync(descriptor)
    except OSError as error:
        # A partial write would be half of the next line, or count although nobody knows of it.
        with contextlib.suppress(OSError):
            os.ftruncate(descriptor, before)
        raise unwritable(path, error, hint=hint) from error


def record_line(body: dict[str, Any]) -> bytes:
    """Return a line for a file of records, with its checksum."""
    text = json.dumps(body, separators=(",", ":"))
    return json.dumps({**body, "crc32": zlib.crc32(text.encode())}, separators=(",", ":")).encode() + b"\n"


def read_records(path: Path, content: bytes) -> list[dict[str, Any]]:
    """Return the records of a file that was written with `record_line` and `append`.

    Incomplete lines are omitted, because their write was not acknowledged. Lines without a checksum are from earlier
    versions.

    Raises:
        ConfigurationError: a line was changed after it had been written.
    """
    records: list[dict[str, Any]] = []
    for number, line in enumerate(content.split(b"\n"), start=1):
        if not line.endswith(b"}") and not _WHOLE.search(line):
            continue
        try:
            body = parsed(line)
            expected = body.pop("crc32", None)
            found = zlib.crc32(json.dumps(body, separators=(",", ":")).encode())
        except (ValueError, AttributeError):
            body, expected, found = {}, 0, 1
        if expected not in {None, found}:
            message = f"{path}:{number} is damaged: its checksum is wrong"
            hint = "nothing was changed; `runner repair` keeps the valid records and moves the file aside"
            raise ConfigurationError(message, hint=hint)
        records.append(body)
    return records


def write_all(descriptor: int, content: bytes | bytearray) -> None:
    """Write all bytes, with several calls if a disk accepts only some of them. Raises OSError."""
    view = memoryview(content)
    while view:
        view = view[os.write(descriptor, view) :]


def sync_directory(directory: Path) -> None:
    """Return after the names in a directory are on disk. Raises OSError."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def replace(path: Path, content: str | bytes, *, private: bool = False, hint: str | None = None) -> None:
    """Write a file atomically: it has its old content, or does not exist, until the new content is on disk.

    Args:
        path: links are followed; special files, such as /dev/stdout, are written directly.
        content: text is encoded as UTF-8.
        private: only this user can read it; otherwise, the umask or the previous permissions apply.
        hint: hint of the error.

    Raises:
        DiskError, ConfigurationError: it cannot be written; nothing was left behind.
    """
    data = content.encode() if isinstance(content, str) else content
    try:
        if path.exists() and not path.is_file():
            path.write_bytes(data)
            return
        target = path.resolve()
        descriptor, aside = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name[:100]}.")
        try:
            try:
                write_all(descriptor, data)
                os.fchmod(descriptor, 0o600 if private else _mode(target))
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
            Path(aside).replace(target)
        except BaseException:
            with contextlib.suppress(OSError):
                Path(aside).unlink()
            raise
    except OSError as error:
        raise unwritable(path, error, hint=hint) from error


def _mode(target: Path) -> int:
    with contextlib.suppress(OSError):
        return target.stat().st_mode & 0o777
    return new_mode()


def new_mode() -> int:
    """Return the permissions of a new file under the current umask."""
    current = os.umask(0o077)
    os.umask(current)
    return 0o666 & ~current


def check_room(directory: Path, size: int, *, hint: str | None = None) -> None:
    """Check that a directory accepts a file of this size. Raises DiskError, ConfigurationError."""
    try:
        descriptor, name = tempfile.mkstemp(dir=directory, prefix=".room-")
        try:
            write_all(descriptor, bytes(size))
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
            Path(name).unlink()
    except OSError as error:
        raise unwritable(directory, error, hint=hint) from error
