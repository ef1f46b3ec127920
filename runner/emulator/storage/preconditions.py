"""`ifGenerationMatch` and similar parameters, and HTTP's own conditions with entity tags and dates."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import astuple, dataclass
from email.utils import parsedate_to_datetime
from typing import Any

from starlette.datastructures import Headers

from runner.emulator.storage.faults import NotModifiedError, condition_not_met
from runner.emulator.storage.parameters import has_any, integer
from runner.emulator.storage.records import StoredObject

Tags = tuple[str, ...]
_CONDITIONAL = frozenset({"if-match", "if-none-match"})


@dataclass(frozen=True, slots=True)
class Preconditions:
    """The required state of the target at the time of the change; None for no requirement."""

    generation_match: int | None = None
    generation_not_match: int | None = None
    metageneration_match: int | None = None
    metageneration_not_match: int | None = None
    etag_match: Tags | None = None
    """One of these; `*` matches any."""
    etag_not_match: Tags | None = None
    modified_since: int | None = None
    """Seconds since 1970, like the next field."""
    unmodified_since: int | None = None

    @classmethod
    def of(cls, parameters: Mapping[str, str], headers: Headers, prefix: str = "if") -> Preconditions:
        """Read those of the JSON API; `prefix` is `ifSource` for the source of a copy. Raises ApiError 400."""
        if not any(key.startswith("if") for key in parameters) and not has_any(headers, _CONDITIONAL):
            return NONE
        return cls(
            integer(parameters, f"{prefix}GenerationMatch"),
            integer(parameters, f"{prefix}GenerationNotMatch"),
            integer(parameters, f"{prefix}MetagenerationMatch"),
            integer(parameters, f"{prefix}MetagenerationNotMatch"),
            _tags(headers, "if-match") if prefix == "if" else None,
            _tags(headers, "if-none-match") if prefix == "if" else None,
        )

    @classmethod
    def of_headers(cls, headers: Mapping[str, str], source: str = "") -> Preconditions:
        """Read those of the XML API; `source` is `copy-source-` for the source of a copy. Raises ApiError 400."""
        own = f"x-goog-{source}" if source else ""
        return cls(
            integer(headers, f"x-goog-{source}if-generation-match"),
            None,
            integer(headers, f"x-goog-{source}if-metageneration-match"),
            None,
            _tags(headers, f"{own}if-match"),
            _tags(headers, f"{own}if-none-match"),
            _date(headers, f"{own}if-modified-since"),
            _date(headers, f"{own}if-unmodified-since"),
        )

    def check(self, record: StoredObject | None, *, reading: bool = False) -> None:
        """Compare with the version that was found; None if there is none.

        Raises:
            ApiError: 412 `conditionNotMet`.
            NotModifiedError: 304, if the reader already has this version.
        """
        if self is NONE:
            return
        generation = 0 if record is None else record.generation
        metageneration = None if record is None else record.metageneration
        if self.generation_match is not None and generation != self.generation_match:
            raise condition_not_met()
        if self.generation_not_match is not None and generation == self.generation_not_match:
            raise _unchanged(reading)
        self._check(metageneration, () if record is None else record.etags, reading=reading)
        updated = 0 if record is None else record.created // 1_000_000
        if self.unmodified_since is not None and updated > self.unmodified_since:
            raise condition_not_met()
        if self.modified_since is not None and self.etag_not_match is None and updated <= self.modified_since:
            raise _unchanged(reading)

    def check_bucket(self, bucket: dict[str, Any], *, reading: bool = False) -> None:
        """Compare with a bucket's resource, which has a metageneration and an entity tag. Raises like `check`."""
        if self is not NONE:
            self._check(int(bucket["metageneration"]), (bucket["etag"],), reading=reading)

    def _check(self, metageneration: int | None, etags: Tags, *, reading: bool) -> None:
        if self.metageneration_match is not None and metageneration != self.metageneration_match:
            raise condition_not_met()
        if self.metageneration_not_match is not None and metageneration in (None, self.metageneration_not_match):
            raise _unchanged(reading)
        if self.etag_match is not None and not _match(self.etag_match, etags):
            raise condition_not_met()
        if self.etag_not_match is not None and _match(self.etag_not_match, etags):
            raise _unchanged(reading)

    def to_json(self) -> list[Any]:
        """Return the argument of `from_json`, for an upload that outlives its request."""
        return list(astuple(self))

    @classmethod
    def from_json(cls, value: list[Any]) -> Preconditions:
        """Undo `to_json`."""
        decoded: list[Any] = [tuple(one) if isinstance(one, list) else one for one in value]
        return cls(*decoded)


NONE = Preconditions()


def _unchanged(reading: bool) -> Exception:
    return NotModifiedError() if reading else condition_not_met()


def _match(wanted: Tags, etags: Tags) -> bool:
    return bool(etags) and ("*" in wanted or not set(wanted).isdisjoint(etags))


def _tags(headers: Mapping[str, str], name: str) -> Tags | None:
    text = headers.get(name)
    if text is None:
        return None
    return tuple(tag.strip().removeprefix("W/").strip('"') for tag in text.split(",") if tag.strip())


def _date(headers: Mapping[str, str], name: str) -> int | None:
    """Return seconds since 1970; None without a date, and for an invalid one, which RFC 9110 ignores."""
    try:
        return int(parsedate_to_datetime(headers[name]).timestamp())
    except (KeyError, ValueError, TypeError):
        return None
