"""The event loops that Pulumi's test runtime expects: one in each thread in which it works.

Each is closed after its thread has ended, or when the process ends. If the interpreter closed it, it would be reported
as unclosed, and its sockets could be closed before it.
"""

from __future__ import annotations

import asyncio
import atexit
import logging
import os
import signal
import threading
from collections.abc import Callable, Mapping
from types import FrameType
from typing import Any

import pulumi
from pulumi.runtime.mocks import MockMonitor, Mocks
from pulumi.runtime.stack import Stack

from infra.settings.reader import NAMESPACE
from runner.errors import RunnerError
from runner.local_processes import signals

_ensured: dict[threading.Thread, asyncio.AbstractEventLoop] = {}
_lock = threading.Lock()


def ensure() -> None:
    """Give this thread an event loop if it has none: an earlier `asyncio.run` leaves the thread without one."""
    try:
        loop = asyncio.get_event_loop_policy().get_event_loop()
    except RuntimeError:
        loop = asyncio.new_event_loop()
        asyncio.set_event_loop(loop)
    loop.set_exception_handler(_handle)
    with _lock:
        before = _ensured.get(threading.current_thread())
        if before is not None and before is not loop:  # `asyncio.run` has set it aside
            before.close()
        _ensured[threading.current_thread()] = loop
        for thread in [thread for thread in _ensured if not thread.is_alive()]:
            _ensured.pop(thread).close()


def _handle(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """Suppress failures that no code awaits: after the first, which is reported, each dependent resource has one."""
    if "never retrieved" not in str(context.get("message")):
        loop.default_exception_handler(context)


@atexit.register
def _close() -> None:
    for loop in _ensured.values():
        if not loop.is_running():
            loop.close()


def evaluated(
    mocks: Mocks,
    monitor: LoopedMonitor,
    program: Callable[[], object],
    config: Mapping[str, str],
    *,
    stack: str,
    log: str,
) -> dict[str, Any]:
    """Run a program on Pulumi's test monitor and return what it exports.

    Args:
        mocks: replacement for the service.
        monitor: registers the program's resources.
        program: function that declares them.
        config: full keys to texts.
        stack: name of the stack.
        log: name of the logger for Pulumi's messages.

    Raises:
        KeyboardInterrupt: Ctrl-C or SIGTERM interrupted it. Work that had begun is finished. A second signal ends the
        process.
    """
    ensure()
    project, logger = NAMESPACE, logging.getLogger(log)
    pulumi.runtime.set_mocks(mocks, project=project, stack=stack, preview=False, logger=logger, monitor=monitor)
    pulumi.runtime.set_all_config(dict(config))
    outputs: dict[str, Any] = {}

    def run() -> pulumi.Output[Any]:
        root = pulumi.runtime.get_root_resource()
        assert isinstance(root, Stack)  # noqa: S101 - the test monitor makes one
        root.outputs.clear()  # the stack survives an evaluation, and so would its exports
        program()
        return pulumi.Output.from_input(dict(root.outputs)).apply(outputs.update)

    def stop(number: int, frame: FrameType | None) -> None:
        if monitor.stopped:
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
        monitor.stopped = True

    try:
        # An exception in the middle of the loop can be lost, and the code that awaits its task then waits forever.
        with signals((signal.SIGINT, signal.SIGTERM), stop):
            pulumi.runtime.test(run)()  # type: ignore[no-untyped-call]
    finally:
        if monitor.stopped:
            raise KeyboardInterrupt
    return outputs


class LoopedMonitor(MockMonitor):
    """Pulumi's test monitor, except that it does not create event loops itself and leave them open."""

    stopped = False
    """Whether to begin nothing more."""

    def _begin(self) -> None:
        if self.stopped:
            raise RunnerError("it was stopped")
        ensure()

    def Invoke(self, request: Any) -> Any:  # noqa: N802 - the monitor's name
        """Answer a data source."""
        self._begin()
        return super().Invoke(request)  # type: ignore[no-untyped-call]

    def ReadResource(self, request: Any) -> Any:  # noqa: N802 - the monitor's name
        """Answer for a resource that exists."""
        self._begin()
        return super().ReadResource(request)  # type: ignore[no-untyped-call]

    def RegisterResource(self, request: Any) -> Any:  # noqa: N802 - the monitor's name
        """Answer for a resource of the program."""
        self._begin()
        return super().RegisterResource(request)  # type: ignore[no-untyped-call]
