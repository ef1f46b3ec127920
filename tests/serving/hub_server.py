"""A model hub on this machine, as far as pushing needs it: the HTTP API that huggingface_hub speaks, with Git LFS.

Repositories, the check before a commit and Git LFS's batch call follow the hub's and Git LFS's documentation. Xet, the
hub's newer transfer, is not here: the client has its own switch for it, HF_HUB_DISABLE_XET.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import threading
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any

from tests.local_server import Handler, LocalServer

TOKEN = "hf_test"


@dataclass(slots=True)
class Repository:
    """Files by name, as the hub lists them."""

    private: bool
    files: dict[str, dict[str, Any]] = field(default_factory=dict)
    commits: list[str] = field(default_factory=lambda: ["0" * 40])


@dataclass(slots=True)
class HubServer(LocalServer):
    """A context manager."""

    repositories: dict[str, Repository] = field(default_factory=dict)
    blobs: dict[str, bytes] = field(default_factory=dict)
    """Git LFS objects by SHA-256."""
    sent: list[str] = field(default_factory=list)
    """Objects in the order in which they were received whole."""
    stall_after: int | None = None
    """Objects that are taken before the next one is left unanswered."""
    stalled: threading.Event = field(default_factory=threading.Event)
    failing: int = 0
    """HTTP status of every commit; 0 for none."""
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def handler(self) -> type[Handler]:
        """Return what answers as the hub."""
        hub = self

        class Hub(Handler):
            def answer_get(self) -> None:
                self._answer(b"")

            def answer_post(self) -> None:
                self._answer(self._received())

            def answer_put(self) -> None:
                self._answer(self._received())

            def _received(self) -> bytes:
                if self.headers.get("transfer-encoding", "").lower() != "chunked":
                    return self.body()
                content = b""
                while size := int(self.rfile.readline(), 16):
                    content += self.rfile.read(size)
                    self.rfile.readline()
                self.rfile.readline()
                return content

            def _answer(self, content: bytes) -> None:
                path = self.path.split("?")[0]
                # Objects go to an address that is signed, without the login, as on the hub.
                if not path.startswith("/objects/") and self.headers.get("authorization") != f"Bearer {TOKEN}":
                    self._send(401, {"error": "Invalid username or password."}, "RepoNotFound")
                    return
                self._send(*hub._answer(self.command, path, content))

            def _send(self, status: int, body: dict[str, Any], error_code: str = "") -> None:
                self.send_json(status, body, {"x-error-code": error_code} if error_code else None)

        return Hub

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stalled.set()
        LocalServer.__exit__(self, kind, error, trace)

    def variables(self) -> dict[str, str]:
        """Return the environment variables that lead the client here."""
        return {"HF_ENDPOINT": self.url, "HF_TOKEN": TOKEN, "HF_HUB_DISABLE_XET": "1", "HF_HUB_OFFLINE": "0"}

    def _answer(self, method: str, path: str, content: bytes) -> tuple[Any, ...]:
        if method == "PUT":
            return self._take(path.removeprefix("/objects/"), content)
        if path == "/api/validate-yaml":
            return 200, {"errors": [], "warnings": [{"message": "empty or missing yaml metadata"}]}
        if path == "/api/repos/create":
            return self._create(json.loads(content))
        if batch := re.fullmatch(r"/(.+)\.git/info/lfs/objects/batch", path):
            assert batch[1] in self.repositories
            return 200, {
                "transfer": "basic",
                "objects": [self._wanted(item) for item in json.loads(content)["objects"]],
            }
        match = re.fullmatch(r"/api/models/([^/]+/[^/]+)(?:/(preupload|commit)/main)?", path)
        assert match, path
        repository = self.repositories.get(match[1])
        if repository is None:
            return 404, {"error": "Repository not found"}, "RepoNotFound"
        if match[2] == "preupload":
            return 200, {"files": [_mode(item) for item in json.loads(content)["files"]]}
        if match[2] == "commit":
            return self._commit(match[1], repository, content)
        files = [{"rfilename": ".gitattributes", "size": 1, "blobId": "0" * 40}, *repository.files.values()]
        body = {"id": match[1], "private": repository.private, "sha": repository.commits[-1], "siblings": files}
        return 200, {**body, "tags": [], "downloads": 0, "likes": 0}

    def _create(self, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        name = f"{body['organization']}/{body['name']}"
        if name in self.repositories:
            return 409, {"error": "You already created this model repo"}
        self.repositories[name] = Repository(private=body.get("visibility") == "private")
        return 200, {"url": f"{self.url}/{name}", "name": name, "id": "1"}

    def _wanted(self, item: dict[str, Any]) -> dict[str, Any]:
        if item["oid"] in self.blobs:
            return item
        return {**item, "actions": {"upload": {"href": f"{self.url}/objects/{item['oid']}"}}}

    def _take(self, oid: str, content: bytes) -> tuple[int, dict[str, Any]]:
        with self._lock:
            stall = self.stall_after is not None and len(self.sent) >= self.stall_after
            if not stall:
                assert hashlib.sha256(content).hexdigest() == oid
                self.blobs[oid] = content
                self.sent.append(oid)
        if stall:
            self.stalled.set()
            threading.Event().wait(60)
        return 200, {}

    def _commit(self, name: str, repository: Repository, content: bytes) -> tuple[int, dict[str, Any]]:
        if self.failing:
            return self.failing, {"error": "not now"}
        lines = [json.loads(line) for line in content.splitlines()]
        if lines[0]["value"].get("parentCommit") != repository.commits[-1]:
            return 412, {"error": "A commit has happened since. Please refresh and try again."}
        for line in lines[1:]:
            value = line["value"]
            if line["key"] == "lfsFile":
                assert value["oid"] in self.blobs
                lfs = {"oid": value["oid"], "sha256": value["oid"], "size": value["size"], "pointerSize": 1}
                entry = {"size": value["size"], "blobId": "1" * 40, "lfs": lfs}
            else:
                data = base64.b64decode(value["content"])
                blob = hashlib.sha1(b"blob %d\0" % len(data) + data, usedforsecurity=False).hexdigest()
                entry = {"size": len(data), "blobId": blob}
            repository.files[value["path"]] = {"rfilename": value["path"], **entry}
        repository.commits.append(hashlib.sha1(content, usedforsecurity=False).hexdigest())
        commit = repository.commits[-1]
        return 200, {"commitUrl": f"{self.url}/{name}/commit/{commit}", "commitOid": commit, "success": True}


def _mode(item: dict[str, Any]) -> dict[str, Any]:
    mode = "lfs" if item["path"].endswith(".safetensors") else "regular"
    return {"path": item["path"], "uploadMode": mode, "shouldIgnore": False}
