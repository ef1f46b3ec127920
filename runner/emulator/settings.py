"""What one emulator is started with."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import platformdirs

StandIn = Literal["auto", "smollm2", "tiny"]
"""Which small model stands in for a base model whose weights are not here.

`smollm2`: SmolLM2-135M-Instruct, real pretrained weights; `tiny`: an untrained model of the same architecture, for
tests; `auto`: `smollm2` for Llama text models when its package is installed, else `tiny`.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectionLimits:
    """What one connection may take. Google's front end allows about as much, in bytes and in seconds."""

    header_bytes: int = 64 * 1024
    """Path and headers of one request."""
    headers: int = 200
    header_seconds: float = 10.0
    """From a request's first byte to the end of its headers."""
    idle_seconds: float = 75.0
    """Without a request."""
    stall_seconds: float = 60.0
    """Without a byte of a body that is awaited, or without taking a byte of an answer."""
    request_seconds: float = 3600.0
    """From a request's first byte to the end of its answer."""
    connections: int = 512
    """At once; the one that waits longest for its client makes way for a new one."""
    look_seconds: float = 1.0
    """How often a connection's age is looked at."""
    own_user_only: bool = True
    """Answer only the user who started the server, and root; for a server without a token (`peers`)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EmulatorSettings:
    """Settings of one server."""

    directory: Path
    """State directory; made with mode 0700."""
    host: str = "127.0.0.1"
    """Address to bind. Anything but loopback needs `token`."""
    port: int = 0
    """0 takes a free port, which `EmulatorServer.url` tells."""
    token: str | None = None
    """Bearer token required of every request; None lets any or no credential of this user's pass."""
    limits: ConnectionLimits = field(default_factory=ConnectionLimits)
    allowed_hosts: tuple[str, ...] = ()
    """Further `Host` names (without port) to answer to, besides localhost, 127.0.0.1 and [::1]."""
    dedicated_certificate: Path | None = None
    """PEM certificate of dedicated endpoints' host names; None, and there are no dedicated endpoints.

    With one, what Model Garden deploys is dedicated unless the request disables that, as on the service.
    """
    dedicated_key: Path | None = None
    """Its PEM key."""
    dedicated_port: int = 0
    """Port of dedicated endpoints; 0 takes a free one."""
    dedicated_host: str = "localhost"
    """Their host name; `{endpoint}`, `{location}` and `{number}`, the project's, are filled in."""
    concurrent_tuning_jobs: int = 1
    """Google's default of `Global concurrent managed OSS model fine-tuning jobs per project`."""
    stand_in: StandIn = "auto"
    model_directories: dict[str, Path] = field(default_factory=dict)
    """Real weights on this machine: base model id to a Hugging Face directory."""
    training_threads: int = 2
    """Threads of a training process on CPU; tiny models always use 1 (measured: 2 are up to 20 times slower)."""
    cache_directory: Path | None = None
    """Where converted and built stand-in weights are kept.

    None means the user's cache directory, shared by all emulators.
    """
    faults: tuple[str, ...] = ()
    """Faults armed from the start, in the syntax of `runner.emulator.faults`."""
    time_scale: float = 1.0
    """How many times faster than the system's the emulator's clock runs: timestamps, expiry, and waits of faults."""
    max_body_bytes: int = 32 * 1024 * 1024
    """Bound of a JSON request body; uploads are streamed and not bounded by it."""

    @property
    def model_cache(self) -> Path:
        """Return the folder of stand-in weights."""
        return self.cache_directory or platformdirs.user_cache_path("open-model-tuning") / "models"
