"""`pulumi-language-python`: starts the program of a stack in this interpreter's environment."""

# ruff: noqa: N802 - the names are the protocol's

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from concurrent import futures
from pathlib import Path
from typing import Any

import grpc  # type: ignore[import-untyped]
from google.protobuf import empty_pb2, json_format  # type: ignore[import-untyped]
from pulumi.runtime.proto import language_pb2, language_pb2_grpc, plugin_pb2

_PROGRAM = """
import asyncio, json, runpy, sys
import pulumi
from pulumi.runtime.settings import Settings, configure
program, settings = json.loads(sys.argv[1])
configure(Settings(**settings))
sys.path.insert(0, program)
loop = asyncio.new_event_loop()
asyncio.set_event_loop(loop)
try:
    loop.run_until_complete(pulumi.runtime.run_in_stack(lambda: runpy.run_path(program, run_name="__main__")))
except pulumi.RunError as error:
    pulumi.log.error(str(error))  # as Pulumi's own host does: no traceback of a mistake that has a message
    sys.exit(32)
"""


class Host(language_pb2_grpc.LanguageRuntimeServicer):
    """The calls that an engine makes for a program without required packages."""

    def __init__(self, engine: str) -> None:
        self.engine = engine

    def Handshake(self, request: Any, context: Any) -> Any:
        self.engine = request.engine_address or self.engine
        return language_pb2.LanguageHandshakeResponse()

    def GetPluginInfo(self, request: Any, context: Any) -> Any:
        return plugin_pb2.PluginInfo(version="0.0.1")

    def GetRequiredPackages(self, request: Any, context: Any) -> Any:
        return language_pb2.GetRequiredPackagesResponse()

    def GetRequiredPlugins(self, request: Any, context: Any) -> Any:
        return language_pb2.GetRequiredPluginsResponse()

    def InstallDependencies(self, request: Any, context: Any) -> Iterator[Any]:
        """Install as Pulumi's own host does: into the project's environment, what is asked for beside the program."""
        program = Path(request.info.program_directory)
        options = json_format.MessageToDict(request.info.options)
        environment = Path(request.info.root_directory, options["virtualenv"])
        install = [str(environment / "bin" / "python"), "-m", "pip", "install"]
        commands = [
            ["python3", "-m", "venv", str(environment)],
            [*install, "--upgrade", "pip", "setuptools", "wheel"],
            *([[*install, "-r", "requirements.txt"]] if (program / "requirements.txt").exists() else []),
        ]
        for command in commands:
            done = subprocess.run(command, cwd=program, capture_output=True, text=True, check=False)
            if done.returncode:
                context.abort(grpc.StatusCode.UNKNOWN, f"{' '.join(command)}: {done.stderr}")
        return iter(())

    def Cancel(self, request: Any, context: Any) -> Any:
        return empty_pb2.Empty()

    def Run(self, request: Any, context: Any) -> Any:
        settings = {
            "project": request.project,
            "stack": request.stack,
            "monitor": request.monitor_address,
            "engine": self.engine,
            "parallel": request.parallel,
            "dry_run": request.dryRun,
            "organization": request.organization,
            "root_directory": request.info.root_directory,
        }
        done = subprocess.run(
            [sys.executable, "-c", _PROGRAM, json.dumps([request.info.program_directory, settings])],
            cwd=request.pwd,
            env={**os.environ, "PULUMI_CONFIG": json.dumps(dict(request.config))},
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode == 32:
            return language_pb2.RunResponse(bail=True)
        return language_pb2.RunResponse(error=done.stderr[-2000:] if done.returncode else "")


def serve(add: Any, servicer: Any) -> None:
    """Serve on a free port, and print it, which is how an engine learns of it."""
    server = grpc.server(futures.ThreadPoolExecutor(16))
    add(servicer, server)
    sys.stdout.write(f"{server.add_insecure_port('127.0.0.1:0')}\n")
    sys.stdout.flush()
    server.start()
    with contextlib.suppress(KeyboardInterrupt):  # how an engine ends its plugins
        server.wait_for_termination()


if __name__ == "__main__":
    serve(language_pb2_grpc.add_LanguageRuntimeServicer_to_server, Host(sys.argv[-1]))
