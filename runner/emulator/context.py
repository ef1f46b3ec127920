"""The objects that every handler of one emulator uses."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from runner.emulator.clock import Clock
from runner.emulator.fault_register import Faults
from runner.emulator.settings import EmulatorSettings
from runner.emulator.store import Store

if TYPE_CHECKING:
    from runner.emulator.engine.launcher import Launcher


@dataclass(slots=True, kw_only=True)
class Emulator:
    """State and collaborators of one server; every handler gets it as `request.emulator`."""

    settings: EmulatorSettings
    store: Store
    clock: Clock
    launcher: Launcher
    """Starts training and serving processes."""
    faults: Faults = field(default_factory=Faults)
    """The injected faults."""

    @property
    def blobs(self) -> Path:
        """Directory of objects that are too large for the database."""
        return self.settings.directory / "blobs"

    @property
    def jobs(self) -> Path:
        """Directory with one folder for each tuning job with work or logs."""
        return self.settings.directory / "jobs"

    @property
    def deployments(self) -> Path:
        """Directory with one folder per deployed model."""
        return self.settings.directory / "deployments"
