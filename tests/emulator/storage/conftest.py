"""A bucket of its own and a plain HTTP client for every test."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, TypeVar
from urllib.parse import quote

import httpx
import pytest

from runner.emulator.errors import ApiError
from runner.emulator.server import EmulatorServer
from tests.loopback import NO_TLS
from tests.provisioning import Provisioned

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Bucket:
    """Short forms of the calls that most tests make."""

    client: httpx.Client
    name: str

    @property
    def path(self) -> str:
        return f"/storage/v1/b/{self.name}"

    def object_path(self, name: str) -> str:
        return f"{self.path}/o/{quote(name, safe='')}"

    def put(self, name: str, data: bytes, **parameters: object) -> httpx.Response:
        query = {"uploadType": "media", "name": name, **parameters}
        return self.client.post(f"/upload{self.path}/o", params=query, content=data)  # type: ignore[arg-type]

    def stored(self, name: str, data: bytes, **parameters: object) -> dict[str, Any]:
        answer = self.put(name, data, **parameters)
        assert answer.status_code == 200, answer.text
        resource: dict[str, Any] = answer.json()
        return resource

    def data(self, name: str, **headers: str) -> httpx.Response:
        return self.client.get(self.object_path(name), params={"alt": "media"}, headers=headers)

    def names(self, **parameters: object) -> list[str]:
        answer = self.client.get(f"{self.path}/o", params=parameters)  # type: ignore[arg-type]
        assert answer.status_code == 200, answer.text
        return [item["name"] for item in answer.json().get("items", [])]

    def start(self, name: str, headers: dict[str, str] | None = None, **parameters: object) -> str:
        """Start a resumable upload; return its address."""
        query = {"uploadType": "resumable", "name": name, **parameters}
        answer = self.client.post(
            f"/upload{self.path}/o",
            params=query,  # type: ignore[arg-type]
            json={},
            headers=headers,
        )
        assert answer.status_code == 200, answer.text
        return str(answer.headers["location"])


def attempt(work: Callable[[], T]) -> tuple[T | None, int | None]:
    """Return what `work` returns and None, or None and the number of its refusal."""
    try:
        return work(), None
    except ApiError as error:
        return None, error.http


@pytest.fixture
def client(emulator: EmulatorServer) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=emulator.url, timeout=60, verify=NO_TLS) as client:
        yield client


@pytest.fixture
def bucket(client: httpx.Client, project: Provisioned) -> Bucket:
    return Bucket(client, project.datasets)
