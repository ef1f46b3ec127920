"""Credential files for other programs, in the emulator's directory: keys that the emulator creates on request."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from runner import local_files
from runner.cli.emulator.group import ask
from runner.errors import ConfigurationError
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
"""gsutil's JSON API requires TLS, so gsutil passes its work to gcloud, which gets the address from the environment.

For other work, gsutil uses the XML API. Downloads to files fail with it, because gsutil reads its port as text there.
"""
_HINT = "`runner emulator logs` shows the requests to it"


def key_file(place: Path, info: ServerInfo, account: str) -> str:
    """Return a key file of a service account in the emulator, which is created if there is none; "" without an account.

    A server that requires a token accepts no other credentials, so there is no key either. Raises RunnerError.
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
    local_files.replace(path, new_key(info, account), private=True)
    return str(path)


def boto_file(place: Path, info: ServerInfo, project: str) -> str:
    """Return a new configuration file for gsutil; "" without a project."""
    if not project:
        return ""
    address = urlsplit(info.url)
    path = place / "boto.cfg"
    local_files.replace(
        path, _BOTO.format(host=address.hostname or "", port=address.port, project=project), private=True
    )
    return str(path)


def gcloud_folder(place: Path, endpoints: Mapping[str, str], project: str) -> str:
    """Return a folder with a new gcloud configuration; its credentials are kept.

    Some commands of gcloud (`ai model-garden models deploy`) discard the addresses in variables before they send
    requests, and would use the cloud; they keep addresses in a configuration. The folder is separate from the
    developer's own configuration.
    """
    folder = place / "gcloud"
    (folder / "configurations").mkdir(mode=0o700, parents=True, exist_ok=True)
    lines = ["[api_endpoint_overrides]", *(f"{name} = {address}" for name, address in endpoints.items())]
    if project:
        lines += ["[core]", f"project = {project}"]
    local_files.replace(folder / "active_config", "default", private=True)
    local_files.replace(folder / "configurations" / "config_default", "\n".join([*lines, ""]), private=True)
    return str(folder)


def token_file(place: Path, info: ServerInfo) -> str:
    """Return a file with the emulator's token for gcloud; "" if the emulator requires none."""
    if not info.token:
        return ""
    path = place / "access-token"
    local_files.replace(path, info.token, private=True)
    return str(path)


def new_key(info: ServerInfo, account: str) -> bytes:
    """Return a new key file for the address of a service account. Raises RunnerError."""
    path = f"/v1/projects/-/serviceAccounts/{account}/keys"
    answer = ask("POST", path, {}, info=info, about="serviceAccounts.keys.create", hint=_HINT)
    return base64.b64decode(answer["privateKeyData"])


def made_account(info: ServerInfo, project: str, account: str, roles: Sequence[str]) -> str:
    """Create a service account in a project if it does not exist, grant it roles there, and return its address.

    Args:
        info: the emulator.
        project: project ID.
        account: an address, which can be of another project and is not created then; or the ID before the `@`.
        roles: roles on the project, such as `roles/aiplatform.user`.

    Raises:
        ConfigurationError: the account is of another project and does not exist; the emulator refuses it or a role.
        UnreachableError: the emulator does not answer.
    """
    own = f"@{project}.iam.gserviceaccount.com"
    address = account if "@" in account else f"{account}{own}"
    parent, there = f"/v1/projects/{project}", partial(ask, info=info, hint=_HINT)
    if there("GET", f"/v1/projects/-/serviceAccounts/{address}", about="serviceAccounts.get", missing=True) is None:
        if not address.endswith(own):
            message = f"there is no service account {address}, and only those of project {project} are made"
            raise ConfigurationError(message, hint="give the id alone, without @, to make one in the project")
        body = {"accountId": address.removesuffix(own)}
        there("POST", f"{parent}/serviceAccounts", body, about="serviceAccounts.create")
    if roles:
        policy = there("POST", f"{parent}:getIamPolicy", {}, about="projects.getIamPolicy")
        bindings = [{"role": role, "members": [f"serviceAccount:{address}"]} for role in roles]
        policy["bindings"] = [*policy.get("bindings", []), *bindings]
        there("POST", f"{parent}:setIamPolicy", {"policy": policy}, about="projects.setIamPolicy")
    return address
