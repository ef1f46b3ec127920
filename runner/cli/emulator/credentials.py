"""Files with credentials for other programs, in the emulator's directory: keys that the emulator makes on request."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from runner import local_files
from runner.cli.emulator.group import ask
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
    answer = ask("POST", f"/v1/projects/-/serviceAccounts/{account}/keys", {}, about="iam.keys.create")
    local_files.replace(path, base64.b64decode(answer["privateKeyData"]), private=True)
    return str(path)


def boto_file(place: Path, info: ServerInfo, project: str) -> str:
    """Return a configuration file for gsutil, written anew; "" without a project."""
    if not project:
        return ""
    address = urlsplit(info.url)
    path = place / "boto.cfg"
    local_files.replace(
        path, _BOTO.format(host=address.hostname or "", port=address.port, project=project), private=True
    )
    return str(path)


def token_file(place: Path, info: ServerInfo) -> str:
    """Return a file with the token that the emulator demands, for gcloud; "" if it demands none."""
    if not info.token:
        return ""
    path = place / "access-token"
    local_files.replace(path, info.token, private=True)
    return str(path)
