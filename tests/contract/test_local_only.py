"""A whole flow against the emulator reaches this machine only: asked of the kernel, and of Python's own sockets.

The flow runs in a process of its own, with the emulator, its training and its serving processes inside, so that
whatever any of them or any SDK opens is seen: a look for a metadata server, a name to resolve, telemetry.
"""

from __future__ import annotations

import ipaddress
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.training

_ROOT = Path(__file__).resolve().parents[2]
_CONNECT = re.compile(r"\b(?:connect|sendto|sendmsg)\(.*?sa_family=(AF_\w+)(.*)")
_ADDRESS = re.compile(r'(?:inet_addr\(|inet_pton\(AF_INET6, )"([^"]+)"')
_PORT = re.compile(r"htons\((\d+)\)")
_LOCAL_FAMILIES = {"AF_UNIX", "AF_UNSPEC", "AF_NETLINK"}
"""AF_UNSPEC dissolves an association; AF_NETLINK asks the kernel for its addresses."""


@pytest.fixture(scope="module")
def flow(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Run the flow once, under strace where there is one; return its folder."""
    directory = tmp_path_factory.mktemp("flow")
    command = [sys.executable, "-m", "tests.contract.local_flow", str(directory)]
    if shutil.which("strace"):
        trace = ["strace", "-f", "--seccomp-bpf", "-qq", "-e", "trace=connect,sendto,sendmsg", "-e", "signal=none"]
        command = [*trace, "-o", str(directory / "trace"), *command]
    home = directory / "home"
    home.mkdir()
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(home),
        "PYTHONPATH": str(_ROOT),
        "OMP_NUM_THREADS": "1",
        # No NO_PROXY, no NO_GCE_CHECK, no offline switch: the program has to behave without them.
    }
    done = subprocess.run(command, cwd=_ROOT, env=environment, capture_output=True, text=True, timeout=540)
    assert done.returncode == 0, done.stderr[-4000:]
    return directory


def strangers(lines: list[str]) -> list[str]:
    """Return the lines of a trace that reach, or try to reach, another machine or a name server."""
    found = []
    for line in lines:
        match = _CONNECT.search(line)
        if match is None or match[1] in _LOCAL_FAMILIES:
            continue
        address, port = _ADDRESS.search(match[2]), _PORT.search(match[2])
        local = address is not None and ipaddress.ip_address(address[1]).is_loopback
        if not local or port is None or port[1] == "53":
            found.append(line)
    return found


def test_the_trace_is_read_right() -> None:
    local = [
        '1 connect(3, {sa_family=AF_INET, sin_port=htons(8080), sin_addr=inet_addr("127.0.0.1")}, 16) = 0',
        "1 connect(3, {sa_family=AF_INET6, sin6_port=htons(1), sin6_flowinfo=htonl(0), "
        'inet_pton(AF_INET6, "::1", &sin6_addr), sin6_scope_id=0}, 28) = 0',
        '1 connect(3, {sa_family=AF_UNIX, sun_path="/tmp/x"}, 110) = 0',
        '1 sendto(5, "abc", 3, 0, NULL, 0) = 3',
    ]
    foreign = [
        '1 connect(3, {sa_family=AF_INET, sin_port=htons(80), sin_addr=inet_addr("169.254.169.254")}, 16) = 0',
        '1 connect(3, {sa_family=AF_INET, sin_port=htons(53), sin_addr=inet_addr("127.0.0.53")}, 16) = 0',
        '1 sendto(3, "x", 1, 0, {sa_family=AF_INET, sin_port=htons(53), sin_addr=inet_addr("10.0.0.2")}, 16) = 1',
        '1 connect(3, {sa_family=AF_INET6, sin6_port=htons(443), inet_pton(AF_INET6, "2a00::1", &sin6_addr)}, 28) = 0',
    ]
    assert strangers(local + foreign) == foreign


@pytest.mark.skipif(shutil.which("strace") is None, reason="needs strace")
def test_the_kernel_saw_loopback_only(flow: Path) -> None:
    lines = (flow / "trace").read_text(errors="replace").splitlines()
    # A trace without the flow's own connections would prove nothing.
    assert sum('inet_addr("127.0.0.1")' in line for line in lines) >= 3
    assert len({line.split()[0] for line in lines}) >= 2
    assert strangers(lines) == []


def test_python_was_asked_for_loopback_only(flow: Path) -> None:
    reached = json.loads((flow / "audit.json").read_text())
    assert any(event == "socket.connect" for event, _ in reached)
    hosts = {_host(address) for _, address in reached}
    assert {host for host in hosts if host and not _is_local(host)} == set()


def _host(address: object) -> str:
    """Return the host of a socket address or a name to resolve; "" for a Unix socket."""
    if isinstance(address, list):
        return str(address[0])
    text = "" if address is None else str(address)
    return "" if text.startswith("/") else text


def _is_local(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
