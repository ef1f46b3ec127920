"""An emulator of its own for the tests of faults: what one test breaks must not break another's."""

from __future__ import annotations

from tests.cli.conftest import dataset, in_project, run
from tests.faulty import emulator, faulty, quick, session

__all__ = ["dataset", "emulator", "faulty", "in_project", "quick", "run", "session"]
