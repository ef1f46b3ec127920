"""Datasets in buckets, read as streams."""

from __future__ import annotations

from typing import BinaryIO

from runner.datasets.reading.sources import RemoteObject
from runner.errors import NotFoundError
from runner.gcp.object_http import ObjectClient, find, open_object


def remote_object(client: ObjectClient, uri: str) -> RemoteObject:
    """Return an object to read from. Raises NotFoundError, ConfigurationError."""
    info = find(client, uri)
    if info is None:
        raise NotFoundError(
            f"storage.objects.get {uri}: there is no such object",
            status="NOT_FOUND",
            http=404,
            method="storage.objects.get",
            resource=uri,
            hint="check bucket and name; a folder is not a dataset",
        )

    def open_stream() -> BinaryIO:
        return open_object(client, uri)[1]

    return RemoteObject(uri, info.size, open_stream)
