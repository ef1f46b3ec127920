"""Run a forked process up to its n-th system call of a chosen set, and kill it there or let the call fail there.

Linux on x86-64 and AArch64; calls can be made to fail on x86-64.

A seccomp filter stops the process at these calls only, on entry, before they take effect; all others run at full speed.
Nothing is changed in the program that runs: it may be killed between any two effects that it has on files and sockets.
"""

from __future__ import annotations

import ctypes
import dataclasses
import errno
import json
import os
import platform
import signal
import struct
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).parents[3]

# (x86-64, AArch64); None where an architecture lacks the call. From asm/unistd_64.h and asm-generic/unistd.h.
_NUMBERS: dict[str, tuple[int | None, int | None]] = {
    "connect": (42, 203),
    "sendto": (44, 206),
    "sendmsg": (46, 211),
    "recvfrom": (45, 207),
    "recvmsg": (47, 212),
    "write": (1, 64),
    "pwrite64": (18, 68),
    "writev": (20, 66),
    "fsync": (74, 82),
    "fdatasync": (75, 83),
    "ftruncate": (77, 46),
    "rename": (82, None),
    "renameat": (264, 38),
    "renameat2": (316, 276),
    "unlink": (87, None),
    "unlinkat": (263, 35),
    "mkdir": (83, None),
    "mkdirat": (258, 34),
    "flock": (73, 32),
    "open": (2, None),
    "openat": (257, 56),
}
_ARCHITECTURES = {"x86_64": (0, 0xC000003E), "aarch64": (1, 0xC00000B7)}
_OPENS = {"open": 1, "openat": 2}
"""Which argument has the flags: opening to read has no effect and is no point."""
_SHOWN = {"sendto": 1, "sendmsg": 1, "write": 1}
"""Which argument points at bytes that name the point, or at the message header that points at them."""
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT

_FILE_ARGUMENT = {"write": 0, "pwrite64": 0, "writev": 0, "fsync": 0, "fdatasync": 0, "ftruncate": 0}
"""Which argument is the descriptor of the file."""
_PATH_ARGUMENT = {
    "open": 0, "openat": 1, "rename": 0, "renameat": 1, "renameat2": 1, "unlink": 0, "unlinkat": 1, "mkdir": 0,
    "mkdirat": 1,
}  # fmt: skip
"""Which argument points at the name of the file."""
_ORIGINAL_RAX, _RAX = 15 * 8, 10 * 8
"""Where `struct user` has the number of the call and its result, on x86-64."""

_TRACEME, _CONT, _SETOPTIONS, _GETEVENTMSG, _GET_SYSCALL_INFO = 0, 7, 0x4200, 0x4201, 0x420E
# Follow forks, vforks and threads; stop at the filter; die with the tracer.
_OPTIONS = 0x2 | 0x4 | 0x8 | 0x80 | 0x100000
_FORK, _VFORK, _CLONE, _SECCOMP = 1, 2, 3, 7
_WALL = 0x40000000

_POKEUSER = 6

_libc = ctypes.CDLL(None, use_errno=True)
_libc.ptrace.restype = ctypes.c_long
_libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """A call on a file that fails as a disk lets it fail, without having an effect."""

    within: str
    """Part of the file's name. Only such calls are points."""
    at: int | None = None
    """Number of the point that fails, from 0; None: none does."""
    number: int = errno.ENOSPC
    lasting: bool = False
    """All later ones fail, too, but for what makes room: `unlink` and `ftruncate`."""


@dataclass(slots=True)
class Trace:
    """How a traced process ended."""

    points: list[str] = field(default_factory=list)
    """The system calls of the set that it began, in order; bytes that it sent or wrote are named."""
    killed: bool = False
    code: int | None = None
    """Its exit code, where it was not killed."""


def available() -> bool:
    """Tell whether processes can be traced here. Asked in a process of its own, which has no other children."""
    if platform.system() != "Linux" or platform.machine() not in _ARCHITECTURES:
        return False
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run(
            [sys.executable, "-m", "tests.jobs.submitting.ptrace", folder], cwd=ROOT, capture_output=True, check=False
        )
    return done.returncode == 0


def can_fail() -> bool:
    """Tell whether calls can be made to fail here."""
    return platform.machine() == "x86_64" and available()


def traced(
    function: Callable[[], int], kill_at: int | None = None, after: str = "", failure: Failure | None = None
) -> Trace:
    """Run a function in a forked process and kill that at entry to its `kill_at`-th call of the set, from 0.

    Only for programs of a single thread, the fork having no other, and without other children, whose ends would be
    taken for those of this one. Processes that the function starts are followed and let go on.

    Args:
        function: returns the exit code.
        kill_at: None lets it run to its end.
        after: counts from the first call whose name contains this.
        failure: lets calls fail instead.

    Raises:
        OSError: processes cannot be traced here.
    """
    child = os.fork()
    if not child:
        _run(function)
    _, status = os.waitpid(child, 0)
    if not os.WIFSTOPPED(status):
        raise OSError("the process could not be stopped")
    _ptrace(_SETOPTIONS, child, _OPTIONS)
    _ptrace(_CONT, child, 0)
    return _follow(child, kill_at, after, failure)


def _run(function: Callable[[], int]) -> None:
    code = 99
    try:
        _ptrace(_TRACEME, 0, 0)
        os.kill(os.getpid(), signal.SIGSTOP)
        _install_filter()
        code = function()
    except BaseException:
        traceback.print_exc()
        sys.stderr.flush()
    finally:
        os._exit(code)


def _follow(child: int, kill_at: int | None, after: str, failure: Failure | None) -> Trace:
    result = Trace()
    first: int | None = None
    strangers: set[int] = set()
    met = {child}
    names = {number: name for name, number in _numbers().items()}
    while True:
        try:
            thread, status = os.waitpid(-1, _WALL)
        except ChildProcessError:
            return result
        if not os.WIFSTOPPED(status):
            if thread == child:
                result.killed = os.WIFSIGNALED(status)
                result.code = None if result.killed else os.WEXITSTATUS(status)
            continue
        event, number = status >> 16, os.WSTOPSIG(status)
        deliver = 0 if event or (number == signal.SIGSTOP and thread not in met) else number
        met.add(thread)
        if event in (_FORK, _VFORK):
            strangers.add(_event_message(thread))
        elif event == _SECCOMP and thread not in strangers:
            name = _point(thread, names, failure.within if failure else "")
            if name and failure:
                _strike(thread, name, len(result.points), failure)
                result.points.append(name)
            elif name:
                if first is None and after in name:
                    first = len(result.points)
                if kill_at is not None and first is not None and len(result.points) == first + kill_at:
                    os.kill(child, signal.SIGKILL)
                result.points.append(name)
        try:
            _ptrace(_CONT, thread, deliver)
        except ProcessLookupError:
            continue  # killed meanwhile


def _strike(thread: int, name: str, number: int, failure: Failure) -> None:
    """Let a call fail, if it is its turn: the kernel skips it and returns what stands in the register of results."""
    if failure.at is None or number < failure.at or (number > failure.at and not failure.lasting):
        return
    if number > failure.at and name.startswith(("unlink", "ftruncate")):
        return
    _ptrace(_POKEUSER, thread, -1, first=_ORIGINAL_RAX)
    _ptrace(_POKEUSER, thread, -failure.number, first=_RAX)


def _file(thread: int, name: str, arguments: list[int]) -> str:
    """Return the file that a call is about; "" for those that are about none."""
    if name in _FILE_ARGUMENT:
        try:
            return str(Path(f"/proc/{thread}/fd/{arguments[_FILE_ARGUMENT[name]]}").readlink())
        except OSError:
            return ""
    if name not in _PATH_ARGUMENT:
        return ""
    with Path(f"/proc/{thread}/mem").open("rb", buffering=0) as memory:
        memory.seek(arguments[_PATH_ARGUMENT[name]])
        return memory.read(4096).split(b"\0")[0].decode(errors="replace")


def _point(thread: int, names: dict[int, str], within: str) -> str:
    """Return the name of the call that a thread is about to make, "" if it is none of the set."""
    buffer = ctypes.create_string_buffer(88)
    try:
        _ptrace(_GET_SYSCALL_INFO, thread, ctypes.addressof(buffer), first=len(buffer))
    except ProcessLookupError:
        return ""
    number, *arguments = struct.unpack_from("7Q", buffer.raw, 24)
    name = names[number]
    if name in _OPENS and not arguments[_OPENS[name]] & _WRITING:
        return ""
    if within:
        path = _file(thread, name, arguments)
        return f"{name} {path}" if within in path else ""
    if name in _SHOWN:
        with Path(f"/proc/{thread}/mem").open("rb", buffering=0) as memory:
            address, length = arguments[_SHOWN[name]], arguments[_SHOWN[name] + 1]
            if name == "sendmsg":  # the first piece of `struct msghdr`
                memory.seek(address + 16)
                memory.seek(struct.unpack("Q", memory.read(8))[0])
                address, length = struct.unpack("QQ", memory.read(16))
            memory.seek(address)
            start = memory.read(min(90, length)).split(b"\r\n")[0]
        return f"{name} {start.decode('ascii', 'replace')}"
    return name


def _numbers() -> dict[str, int]:
    column = _ARCHITECTURES[platform.machine()][0]
    return {name: pair[column] for name, pair in _NUMBERS.items() if pair[column] is not None}  # type: ignore[misc]


def _install_filter() -> None:
    """Let a tracer see the calls of the set; all else passes. seccomp(2)."""
    numbers = list(_numbers().values())
    load, equal, leave = 0x20, 0x15, 0x06
    trace, allow = 0x7FF00000, 0x7FFF0000
    code = [
        (load, 0, 0, 4),  # seccomp_data.arch
        (equal, 0, len(numbers) + 1, _ARCHITECTURES[platform.machine()][1]),
        (load, 0, 0, 0),  # seccomp_data.nr
        *((equal, len(numbers) - index, 0, number) for index, number in enumerate(numbers)),
        (leave, 0, 0, allow),
        (leave, 0, 0, trace),
    ]
    program = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *item) for item in code))
    header = ctypes.create_string_buffer(struct.pack("HxxxxxxP", len(code), ctypes.addressof(program)))
    for arguments in ((38, 1, 0), (22, 2, ctypes.addressof(header))):  # PR_SET_NO_NEW_PRIVS, PR_SET_SECCOMP
        if _libc.prctl(arguments[0], ctypes.c_ulong(arguments[1]), ctypes.c_void_p(arguments[2]), 0, 0):
            raise OSError(ctypes.get_errno(), "prctl")


def _event_message(thread: int) -> int:
    value = ctypes.c_ulong()
    _ptrace(_GETEVENTMSG, thread, ctypes.addressof(value))
    return int(value.value)


def _ptrace(request: int, thread: int, value: int, *, first: int = 0) -> None:
    if _libc.ptrace(request, thread, ctypes.c_void_p(first), ctypes.c_void_p(value)) < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"ptrace: {os.strerror(number)}")


def _self_check(folder: Path, kill_at: int | None) -> None:
    """Write three files in a traced process and print how that ended."""

    def write() -> int:
        for name in ("one", "two", "three"):
            (folder / name).write_text(name)
        return 3

    print(json.dumps(dataclasses.asdict(traced(write, kill_at))))


if __name__ == "__main__":
    _self_check(Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else None)
