"""Files with credentials for other programs, in the emulator's directory: keys that the emulator makes on request."""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from runner.errors import NotFoundError, RunnerError, UnreachableError
from runner.json_text import parsed

if TYPE_CHECKING:
    from runner.running_emulator import ServerInfo

_BOTO = """\
[Credentials]
gs_host = {host}
gs_port = {port}

[Boto]
is_secure = False
https_validate_certificates = False

[GSUtil]
use_gcloud_storage = True
prefer_api = xml
default_project_id = {project}
software_update_check_period = 0
"""
"""gsutil's JSON API is TLS only, so it hands its work to gcloud, which has the address from the environment.

What it does not hand over uses the XML API; downloads to files cannot, since gsutil reads its port as text there.
"""


def key_file(place: Path, info: ServerInfo, account: str) -> str:
    """Return a key file of a service account in the emulator, asked for when there is none yet; "" without an account.

    A server that demands a token takes no other credentials, so there is none either. Raises RunnerError.
    """
    if not account or info.token:
        return ""
    path = place / "credentials.json"
    try:
        present = parsed(path.read_bytes())
        if (present.get("token_uri"), present.get("client_email")) == (f"{info.url}/token", account):
            return str(path)
    except (OSError, ValueError):
        pass
    _write(path, new_key(info, account))
    return str(path)


def boto_file(place: Path, info: ServerInfo, project: str) -> str:
    """Return a configuration file for gsutil, written anew; "" without a project."""
    if not project:
        return ""
    address = urlsplit(info.url)
    path = place / "boto.cfg"
    _write(path, _BOTO.format(host=address.hostname or "", port=address.port, project=project).encode())
    return str(path)


def gcloud_folder(place: Path, endpoints: Mapping[str, str], project: str) -> str:
    """Return a folder with gcloud's configuration, written anew; its credentials are kept.

    Some commands of gcloud (`ai model-garden models deploy`) take the addresses that variables give away before they
    send, and would go to the cloud; what a configuration says, they leave. It is also no place for the developer's own.
    """
    folder = place / "gcloud"
    (folder / "configurations").mkdir(mode=0o700, parents=True, exist_ok=True)
    lines = ["[api_endpoint_overrides]", *(f"{name} = {address}" for name, address in endpoints.items())]
    if project:
        lines += ["[core]", f"project = {project}"]
    _write(folder / "active_config", b"default")
    _write(folder / "configurations" / "config_default", "\n".join([*lines, ""]).encode())
    return str(folder)


def token_file(place: Path, info: ServerInfo) -> str:
    """Return a file with the token that the emulator demands, for gcloud; "" if it demands none."""
    if not info.token:
        return ""
    path = place / "access-token"
    _write(path, info.token.encode())
    return str(path)


def _write(path: Path, content: bytes) -> None:
    """Write a file that only its owner reads."""
    aside = path.with_name(path.name + ".new")
    descriptor = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
    aside.replace(path)


def new_key(info: ServerInfo, account: str) -> bytes:
    """Return a new key file of a service account (its address). Raises RunnerError."""
    answer = _asked(info.url, "POST", f"/v1/projects/-/serviceAccounts/{account}/keys", {})
    return base64.b64decode(answer["privateKeyData"])


def made_account(info: ServerInfo, project: str, account: str, roles: Sequence[str]) -> str:
    """Make a service account in a project if it is not there yet, and give it roles there; return its address.

    Args:
        info: of the emulator.
        project: id.
        account: address, or the id before its `@`.
        roles: of the project, as in `roles/aiplatform.user`.

    Raises:
        RunnerError: the emulator refuses the account or a role.
    """
    address = account if "@" in account else f"{account}@{project}.iam.gserviceaccount.com"
    parent = f"/v1/projects/{project}"
    try:
        _asked(info.url, "GET", f"{parent}/serviceAccounts/{address}")
    except NotFoundError:
        _asked(info.url, "POST", f"{parent}/serviceAccounts", {"accountId": address.partition("@")[0]})
    if roles:
        policy = _asked(info.url, "POST", f"{parent}:getIamPolicy", {})
        bindings = [{"role": role, "members": [f"serviceAccount:{address}"]} for role in roles]
        policy["bindings"] = [*policy.get("bindings", []), *bindings]
        _asked(info.url, "POST", f"{parent}:setIamPolicy", {"policy": policy})
    return address


def _asked(url: str, method: str, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
    """Return what the emulator answers. Raises RunnerError."""
    import http.client

    address = urlsplit(url)
    connection = http.client.HTTPConnection(address.hostname or "", address.port, timeout=30)
    try:
        content = None if body is None else json.dumps(body).encode()
        connection.request(method, path, body=content, headers={"Content-Type": "application/json"})
        response = connection.getresponse()
        answer: dict[str, Any] = parsed(response.read())
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise UnreachableError(f"the emulator at {url} does not answer: {error}") from error
    finally:
        connection.close()
    if response.status == http.client.OK:
        return answer
    message = answer.get("error", {}).get("message", str(response.status))
    if response.status == http.client.NOT_FOUND:
        raise NotFoundError(message, status="NOT_FOUND", http=response.status)
    raise RunnerError(f"the emulator refuses {method} {path}: {message}")
