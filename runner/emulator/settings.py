"""The settings of one emulator."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import platformdirs

StandIn = Literal["auto", "smollm2", "tiny"]
"""The small model that stands in for a base model whose weights are not on this machine.

`smollm2`: SmolLM2-135M-Instruct, with real pretrained weights; `tiny`: an untrained model of the same architecture, for
tests; `auto`: `smollm2` for Llama text models if its package is installed, otherwise `tiny`.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectionLimits:
    """Limits for one connection. Google's front end allows about as much, in bytes and in seconds."""

    header_bytes: int = 64 * 1024
    """Path and headers of one request."""
    headers: int = 200
    header_seconds: float = 10.0
    """From a request's first byte to the end of its headers."""
    idle_seconds: float = 75.0
    """Without a request."""
    stall_seconds: float = 60.0
    """Without a byte of an expected body, or without accepting a byte of a response."""
    request_seconds: float = 3600.0
    """From a request's first byte to the end of its response."""
    connections: int = 512
    """Concurrent connections; the one that waits longest for its client is closed for a new one."""
    look_seconds: float = 1.0
    """Interval of checks of a connection's age."""
    own_user_only: bool = True
    """Answer only the user who started the server, and root; for a server without a token (`peers`)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EmulatorSettings:
    """Settings of one server."""

    directory: Path
    """State directory; created with mode 0700."""
    host: str = "127.0.0.1"
    """Address to bind. Anything other than loopback needs `token`."""
    port: int = 0
    """0 selects a free port, which `EmulatorServer.url` contains."""
    token: str | None = None
    """Bearer token that every request needs; None accepts any or no credential of this user."""
    limits: ConnectionLimits = field(default_factory=ConnectionLimits)
    allowed_hosts: tuple[str, ...] = ()
    """Additional `Host` names (without port), besides localhost, 127.0.0.1 and [::1]."""
    dedicated_certificate: Path | None = None
    """PEM certificate of dedicated endpoints' host names; None disables dedicated endpoints.

    With a certificate, deployments by Model Garden are dedicated unless the request disables that, as on the service.
    """
    dedicated_key: Path | None = None
    """Its PEM key."""
    dedicated_port: int = 0
    """Port of dedicated endpoints; 0 selects a free one."""
    dedicated_host: str = "localhost"
    """Host name of dedicated endpoints, with the placeholders `{endpoint}`, `{location}` and `{number}` (the
    project's)."""
    concurrent_tuning_jobs: int = 1
    """Google's default of `Global concurrent managed OSS model fine-tuning jobs per project`."""
    stand_in: StandIn = "auto"
    model_directories: dict[str, Path] = field(default_factory=dict)
    """Maps base model IDs to Hugging Face directories with real weights."""
    training_threads: int = 2
    """CPU threads of a training process; tiny models always use 1 (measured: 2 are up to 20 times slower)."""
    cache_directory: Path | None = None
    """Folder for converted and built stand-in weights.

    None means the user's cache directory, shared by all emulators.
    """
    faults: tuple[str, ...] = ()
    """Faults that are active from the start, in the syntax of `runner.emulator.faults`."""
    time_scale: float = 1.0
    """How many times faster than the system's the emulator's clock runs: timestamps, expiry, and waits of faults."""
    max_body_bytes: int = 32 * 1024 * 1024
    """Maximum size of a JSON request body; uploads are streamed and not limited by it."""

    @property
    def model_cache(self) -> Path:
        """Return the folder of stand-in weights."""
        return self.cache_directory or platformdirs.user_cache_path("open-model-tuning") / "models"
