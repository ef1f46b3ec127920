"""The schema of a run manifest that is read again; a separate module, because importing pydantic takes long."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, Field

from runner.jobs.specification import TuningJobSpec


class _Version(BaseModel):
    uri: str
    generation: int
    crc32c: str


class _Price(BaseModel):
    usd: float | None = Field(None, alias="usdPerMillionTokens")


class _Commit(BaseModel):
    commit: str
    dirty: bool


class RunManifest(BaseModel):
    """The result of `run_manifest.manifest_of`, as far as it is read again."""

    version: Literal[1] = Field(alias="schema")
    fingerprint: str
    written: str
    spec: TuningJobSpec
    datasets: dict[str, _Version | None]
    catalog: str
    price: _Price
    versions: dict[str, str | None]
    git: _Commit | None = None
