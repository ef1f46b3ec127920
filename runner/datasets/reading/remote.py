"""Datasets in buckets, read as streams."""

from __future__ import annotations

from typing import BinaryIO

from runner.datasets.reading.sources import RemoteObject
from runner.gcp.downloads import stream_of
from runner.gcp.session import Session
from runner.gcp.storage import existing


def remote_object(session: Session, uri: str) -> RemoteObject:
    """Return an object for reading, in its current version. Raises NotFoundError, ConfigurationError."""
    info = existing(session, uri)

    def open_stream() -> BinaryIO:
        return stream_of(session, info)

    return RemoteObject(uri, info.size, open_stream)
