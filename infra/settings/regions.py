"""The regions of a stack, and the buckets of each."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Literal

from infra.naming import BUCKET_KINDS, BUCKET_NAME_LIMIT, REGIONAL_KINDS, bucket_name
from infra.settings.reader import Reader
from runner.catalog import load_catalog

DEFAULT_REGION = "us-central1"
MODES = ("create", "import", "attach")

_PREFIX = re.compile(r"[a-z0-9][a-z0-9-]*[a-z0-9]")
_BUCKET = re.compile(r"[a-z0-9][a-z0-9._-]{1,220}[a-z0-9]")
_KMS_KEY = re.compile(r"projects/[^/]+/locations/([^/]+)/keyRings/[^/]+/cryptoKeys/[^/]+")


@dataclass(frozen=True, slots=True, kw_only=True)
class BucketSpec:
    """One bucket."""

    kind: str
    name: str
    mode: Literal["create", "import", "attach"] = "create"
    """Created by the stack, imported into the stack, or only opened to the accounts; the last two existed before."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stamp:
    """One region: its buckets, their encryption key, and an endpoint."""

    region: str
    home: bool
    buckets: tuple[BucketSpec, ...]
    kms_key: str | None = None

    @property
    def suffix(self) -> str:
        """Return the suffix of the region's resource names: empty for the home region."""
        return "" if self.home else f"-{self.region}"

    def bucket(self, kind: str) -> BucketSpec:
        """Return the bucket of one kind."""
        return next(item for item in self.buckets if item.kind == kind)


def read_stamps(reader: Reader, project: str) -> tuple[str, tuple[Stamp, ...]]:
    """Return the prefix of all names, and the regions, the home region first."""
    regions = _regions(reader)
    prefix = _name_prefix(reader, project, regions)
    keys = _kms_keys(reader, regions)
    given = _buckets(reader, regions)
    stamps = []
    for index, region in enumerate(regions):
        kinds = BUCKET_KINDS if index == 0 else REGIONAL_KINDS
        buckets = tuple(_spec(given, prefix, region, kind, home=index == 0) for kind in kinds)
        stamps.append(Stamp(region=region, home=index == 0, buckets=buckets, kms_key=keys.get(region)))
    names = [item.name for stamp in stamps for item in stamp.buckets]
    for name in sorted({name for name in names if names.count(name) > 1}):
        reader.problem("buckets", f"use {name} twice")
    return prefix, tuple(stamps)


def _regions(reader: Reader) -> list[str]:
    offered = [place.id for place in load_catalog().locations if place.id != "global"]
    home = reader.values.get("gcp:region") or DEFAULT_REGION
    if home not in offered:
        why = ": a bucket needs a region; jobs can still be sent to `global`" if home == "global" else ""
        reader.problems.append(f"gcp:region is {home!r}{why}; tuning runs in {', '.join(offered)}")
    extra = reader.json("extraRegions", list, [])
    for item in extra:
        if item not in offered:
            reader.problem("extraRegions", f"holds {item!r}; tuning runs in {', '.join(offered)}")
        elif item == home:
            reader.problem("extraRegions", f"holds {item!r}, which is gcp:region already")
    return list(dict.fromkeys([home, *(str(item) for item in extra)]))


def _name_prefix(reader: Reader, project: str, regions: list[str]) -> str:
    prefix = reader.text("namePrefix", _PREFIX, "lower-case letters, digits and -") or project
    key = "namePrefix"
    room = BUCKET_NAME_LIMIT - max(len(bucket_name("", kind)) for kind in BUCKET_KINDS) - 1
    longest = max((len(region) + 1 for region in regions[1:]), default=0)
    room -= longest
    if len(prefix) > room:
        reader.problem(key, f"has {len(prefix)} characters; {room} leave room for the rest of the buckets' names")
    if prefix.startswith("goog") or "google" in prefix:
        reader.problem(key, "may not start with `goog` or hold `google`: Cloud Storage refuses such names")
    return prefix


def _kms_keys(reader: Reader, regions: list[str]) -> dict[str, str]:
    found: dict[str, str] = {}
    for key in reader.texts("kmsKeys", _KMS_KEY, "projects/P/locations/L/keyRings/R/cryptoKeys/K"):
        match = _KMS_KEY.fullmatch(key)
        if match is None:
            continue
        location = match.group(1)
        if location not in regions:
            reader.problem("kmsKeys", f"hold a key in {location}; the buckets are in {', '.join(regions)}")
        elif location in found:
            reader.problem("kmsKeys", f"hold two keys in {location}")
        found[location] = key
    return found


def _buckets(reader: Reader, regions: list[str]) -> dict[str, dict[str, Any]]:
    """Return the settings of single buckets, by `KIND` for the home region and `REGION/KIND` for others."""
    offered = list(BUCKET_KINDS) + [f"{region}/{kind}" for region in regions[1:] for kind in REGIONAL_KINDS]
    found: dict[str, dict[str, Any]] = {}
    for key, entry in reader.json("buckets", dict, {}).items():
        if key not in offered:
            reader.problem("buckets", f"name {key!r}; there are {', '.join(offered)}")
        elif not isinstance(entry, dict) or set(entry) - {"mode", "name"}:
            reader.problem("buckets", f"entry {key!r} is an object with `mode` and `name`")
        elif entry.get("mode", "create") not in MODES:
            reader.problem("buckets", f"entry {key!r} has mode {entry['mode']!r}; it is one of {', '.join(MODES)}")
        elif not isinstance(entry.get("name", ""), str) or (entry.get("name") and not _BUCKET.fullmatch(entry["name"])):
            reader.problem("buckets", f"entry {key!r} has name {entry['name']!r}, which is no name of a bucket")
        elif entry.get("mode") == "attach" and not entry.get("name"):
            reader.problem("buckets", f"entry {key!r} attaches a bucket and does not name it")
        else:
            found[key] = entry
    return found


def _spec(given: dict[str, dict[str, Any]], prefix: str, region: str, kind: str, *, home: bool) -> BucketSpec:
    entry = given.get(kind if home else f"{region}/{kind}", {})
    name = entry.get("name") or bucket_name(prefix, kind, None if home else region)
    return BucketSpec(kind=kind, name=name, mode=entry.get("mode", "create"))
