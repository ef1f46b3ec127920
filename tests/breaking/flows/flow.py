"""What all command lines of the sweep have in common."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar

from tests.breaking.world import Ended, Place

DATA = "".join(f'{{"prompt": "What is {i}?", "completion": "It is {i}."}}\n' for i in range(12)).encode()


class Flow(ABC):
    """One command line in one project."""

    name: ClassVar[str]
    repeats: ClassVar[bool] = True
    """Whether the same command line, once more, ends well."""

    def __init__(self, place: Place) -> None:
        self.place = place
        self.prepare()

    @abstractmethod
    def prepare(self) -> None:
        """Make what the command line needs."""

    @abstractmethod
    def command(self) -> list[str]:
        """Return the arguments."""

    def again(self) -> list[str]:
        """Return the arguments of the next run."""
        return self.command()

    @abstractmethod
    def after(self, ended: Ended) -> list[str]:
        """Return what is wrong after the broken run."""

    @abstractmethod
    def finally_(self, ended: Ended) -> list[str]:
        """Return what is wrong after the next run has ended well."""
