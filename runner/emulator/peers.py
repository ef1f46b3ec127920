"""The user of this machine at the other end of a loopback connection.

On Linux, the kernel's socket diagnosis (sock_diag(7)) returns the owner for the two addresses; if a sandbox does not
allow it, the tables in /proc/net are read. Other systems tell only root; there, nobody gets an answer while another
person has processes on the machine.
"""

from __future__ import annotations

import contextlib
import errno
import ipaddress
import os
import socket
import struct
import subprocess
import sys
import time
from pathlib import Path

_NETLINK_SOCK_DIAG = 4
_SOCK_DIAG_BY_FAMILY = 20
_NLMSG_ERROR = 2
_NLM_F_REQUEST = 1
_ANY_COOKIE = b"\xff" * 8
_ESTABLISHED = 1
_UID_AT = 16 + 4 + 48 + 12
"""Bytes before the user in the response: message header, state, socket ID, three counters."""

_LOOK_SECONDS = 5.0
_NOBODY = frozenset({65534, 2**32 - 2})
"""The user `nobody`, on Linux and on macOS."""

Address = tuple[str, int]
_looked: tuple[float, bool] | None = None
"""When other users were last checked, on the monotonic clock, and whether there are any."""


class UnknownPeerError(Exception):
    """This system does not report the user."""


def is_foreign(peer: Address, here: Address) -> bool:
    """Return whether the other end of a connection belongs to another user than this process's, or root.

    A peer that has already closed its socket belongs to nobody, and counts as foreign. If the system does not report
    the user, every peer counts as foreign while another person has processes.

    Args:
        peer: address and port of the other end.
        here: address and port of this end.
    """
    try:
        user = user_of(peer, here)
    except UnknownPeerError:
        return somebody_else()
    return user not in (os.geteuid(), 0)


def somebody_else() -> bool:
    """Return whether another person than this process's user has processes on this machine; true if `ps` fails.

    The result is reused for a few seconds. System services, which have low user IDs, are trusted like root.
    """
    global _looked
    now = time.monotonic()
    if _looked is None or now - _looked[0] > _LOOK_SECONDS:
        _looked = now, _others()
    return _looked[1]


def _others() -> bool:
    first = 500 if sys.platform == "darwin" else 1000
    try:
        listed = subprocess.run(["ps", "-axo", "uid="], capture_output=True, text=True, check=True, timeout=5).stdout
        users = {int(word) for word in listed.split()}
    except (OSError, ValueError, subprocess.SubprocessError):
        return True
    return any(user >= first and user not in {os.geteuid(), *_NOBODY} for user in users)


def user_of(peer: Address, here: Address) -> int | None:
    """Return the user ID of the socket at the other end; None if it has been closed.

    Raises:
        UnknownPeerError: this system does not report the user.
    """
    if sys.platform != "linux":
        raise UnknownPeerError
    try:
        found = _asked(peer, here)
    except OSError:
        found = _listed(peer, here)
    if found is None:
        return None
    state, user = found
    # A socket that was closed while connecting has lost its user, which then reads as root's.
    return user if user or state == _ESTABLISHED else None


def _asked(peer: Address, here: Address) -> tuple[int, int] | None:
    """Return state and user from socket diagnosis; None if there is no such socket. Raises OSError."""
    family = socket.AF_INET6 if ":" in peer[0] else socket.AF_INET
    ends = struct.pack(">HH", peer[1], here[1]) + _padded(family, peer) + _padded(family, here)
    wanted = struct.pack("=BBBxI", family, socket.IPPROTO_TCP, 0, 0xFFFFFFFF) + ends + struct.pack("=I", 0)
    wanted += _ANY_COOKIE
    header = struct.pack("=IHHII", 16 + len(wanted), _SOCK_DIAG_BY_FAMILY, _NLM_F_REQUEST, 1, 0)
    with socket.socket(socket.AF_NETLINK, socket.SOCK_DGRAM, _NETLINK_SOCK_DIAG) as kernel:
        kernel.settimeout(1)
        kernel.send(header + wanted)
        answer = kernel.recv(4096)
    kind = struct.unpack_from("=H", answer, 4)[0]
    if kind == _NLMSG_ERROR:
        code = -struct.unpack_from("=i", answer, 16)[0]
        if code == errno.ENOENT:
            return None
        raise OSError(code, "the kernel does not diagnose sockets")
    return answer[17], struct.unpack_from("=I", answer, _UID_AT)[0]


def _padded(family: int, address: Address) -> bytes:
    return socket.inet_pton(family, address[0]).ljust(16, b"\0")


def _listed(peer: Address, here: Address) -> tuple[int, int] | None:
    """Return state and user from the tables in /proc; None if there is no such socket. Raises UnknownPeerError."""
    wanted = {(_hexadecimal(peer, mapped), _hexadecimal(here, mapped)) for mapped in (False, True)}
    tables = 0
    for name in ("tcp", "tcp6"):
        with contextlib.suppress(OSError):
            lines = Path("/proc/self/net", name).read_text("ascii").splitlines()[1:]
            tables += 1
            for line in lines:
                fields = line.split()
                if (fields[1], fields[2]) in wanted:
                    return int(fields[3], 16), int(fields[7])
    if not tables:
        raise UnknownPeerError
    return None


def _hexadecimal(address: Address, mapped: bool) -> str:
    """Return an address in the format of /proc: words of four bytes, each in the machine's byte order."""
    ip = ipaddress.ip_address(address[0])
    packed = b"\0" * 10 + b"\xff\xff" + ip.packed if mapped and ip.version == 4 else ip.packed
    words = struct.unpack(f">{len(packed) // 4}I", packed)
    return "".join(f"{word:08X}" for word in struct.unpack(f"<{len(words)}I", packed)) + f":{address[1]:04X}"
