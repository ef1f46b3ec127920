"""`ifGenerationMatch` and its relatives."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from runner.emulator.storage.faults import NotModifiedError, bad_request, condition_not_met
from runner.emulator.storage.records import StoredObject


@dataclass(frozen=True, slots=True)
class Preconditions:
    """What must hold of the target at the moment of the change; None means not asked for."""

    generation_match: int | None = None
    generation_not_match: int | None = None
    metageneration_match: int | None = None
    metageneration_not_match: int | None = None

    @classmethod
    def of(cls, parameters: Mapping[str, str], prefix: str = "if") -> Preconditions:
        """Read them from query parameters; `prefix` is `ifSource` for the source of a copy. Raises ApiError 400."""
        if not any(key.startswith("if") for key in parameters):
            return NONE
        return cls(
            integer(parameters, f"{prefix}GenerationMatch"),
            integer(parameters, f"{prefix}GenerationNotMatch"),
            integer(parameters, f"{prefix}MetagenerationMatch"),
            integer(parameters, f"{prefix}MetagenerationNotMatch"),
        )

    @classmethod
    def of_headers(cls, headers: Mapping[str, str]) -> Preconditions:
        """Read them from the headers of the XML API. Raises ApiError 400."""
        return cls(
            integer(headers, "x-goog-if-generation-match"),
            None,
            integer(headers, "x-goog-if-metageneration-match"),
            None,
        )

    def check(self, record: StoredObject | None, *, reading: bool = False) -> None:
        """Compare with the version found, None when there is none.

        Raises:
            ApiError: 412 `conditionNotMet`.
            NotModifiedError: 304, when a `NotMatch` fails and `reading`.
        """
        if self is NONE:
            return
        generation = 0 if record is None else record.generation
        if self.generation_match is not None and generation != self.generation_match:
            raise condition_not_met()
        metageneration = None if record is None else record.metageneration
        self.check_metageneration(metageneration, reading=reading)
        if self.generation_not_match is not None and generation == self.generation_not_match:
            raise NotModifiedError() if reading else condition_not_met()

    def check_metageneration(self, metageneration: int | None, *, reading: bool = False) -> None:
        """Compare the metageneration alone, which is all that buckets have. Raises as `check`."""
        if self.metageneration_match is not None and metageneration != self.metageneration_match:
            raise condition_not_met()
        if self.metageneration_not_match is not None and metageneration in (None, self.metageneration_not_match):
            raise NotModifiedError() if reading else condition_not_met()

    def to_json(self) -> list[int | None]:
        """Return what `from_json` takes, for an upload that outlives its request."""
        return [
            self.generation_match,
            self.generation_not_match,
            self.metageneration_match,
            self.metageneration_not_match,
        ]

    @classmethod
    def from_json(cls, value: list[int | None]) -> Preconditions:
        """Undo `to_json`."""
        return cls(*value)


NONE = Preconditions()


def integer(parameters: Mapping[str, str], key: str) -> int | None:
    """Return an int64 parameter, or None. Raises ApiError 400."""
    text = parameters.get(key)
    if text is None or text == "":
        return None
    digits = text.removeprefix("-")
    if not (digits.isascii() and digits.isdigit()) or len(digits) > 19:
        raise bad_request(f"Invalid value for {key}: '{text}'. It must be an integer.", "invalidParameter")
    return int(text)
