"""Google's own addresses on this machine: a proxy that has certificates for them and hands requests to the emulator."""

from __future__ import annotations

import base64
import json
import ssl
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import certifi
import httpx

from tests.local_server import Handler, LocalServer
from tests.serving import certificates

HOSTS = ("*.googleapis.com",)
_OWN = {"host", "content-length", "connection", "accept-encoding"}


def without_addresses(variables: Mapping[str, str]) -> dict[str, str]:
    """Return the variables without those of a custom address, so that Google's are asked."""
    return {name: value for name, value in variables.items() if not name.endswith("_URL")}


@contextmanager
def google(emulator: str, project: str, directory: Path) -> Iterator[dict[str, str]]:
    """Serve Google's addresses and yield the variables that lead there, with the key of a service account.

    Every request is TLS, with a certificate that is checked against the usual authorities and one more.
    """
    certificate = certificates.make(directory / "tls", *HOSTS)
    authorities = directory / "authorities.pem"
    authorities.write_bytes(certifi.contents().encode() + certificate.authority.read_bytes())
    key = directory / "key.json"
    key.write_text(json.dumps(_service_account(emulator, project)))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate.certificate, certificate.key)
    with _Proxy(emulator, context) as proxy:
        yield {
            "HTTPS_PROXY": proxy.url,
            "SSL_CERT_FILE": str(authorities),
            "GOOGLE_APPLICATION_CREDENTIALS": str(key),
        }


def _service_account(emulator: str, project: str) -> dict[str, str]:
    """Return the key of a service account that may do everything in its project, as the emulator gives it out."""
    account = f"looker@{project}.iam.gserviceaccount.com"
    members = [f"serviceAccount:{account}"]
    policy = {"bindings": [{"role": role, "members": members} for role in ("roles/owner", "roles/storage.admin")]}
    with httpx.Client(base_url=emulator, timeout=120) as client:
        client.post(f"/v1/projects/{project}/services/iam.googleapis.com:enable", json={}).raise_for_status()
        client.post(f"/v1/projects/{project}/serviceAccounts", json={"accountId": "looker"})
        client.post(f"/v1/projects/{project}:setIamPolicy", json={"policy": policy}).raise_for_status()
        path = f"/v1/projects/{project}/serviceAccounts/{account}/keys"
        answer = client.post(path, json={}).raise_for_status().json()
    body: dict[str, str] = json.loads(base64.b64decode(answer["privateKeyData"]))
    return {**body, "token_uri": "https://oauth2.googleapis.com/token"}


@dataclass(slots=True)
class _Proxy(LocalServer):
    upstream: str
    context: ssl.SSLContext

    def handler(self) -> type[Handler]:
        """Return what takes a tunnel for one of Google's hosts and answers in it."""
        proxy = self

        class Forwarding(Handler):
            def answer(self) -> None:
                kept = {name: value for name, value in self.headers.items() if name.lower() not in _OWN}
                answer = httpx.request(
                    self.command, proxy.upstream + self.path, content=self.body(), headers=kept, timeout=60
                )
                content_type = {"content-type": answer.headers.get("content-type", "")}
                self.send_content(answer.status_code, answer.content, content_type)

        class Tunnel(Handler):
            def do_CONNECT(self) -> None:  # noqa: N802
                self.close_connection = True
                self.wfile.write(b"HTTP/1.1 200 Connected\r\n\r\n")
                with suppress(OSError), proxy.context.wrap_socket(self.connection, server_side=True) as secured:
                    Forwarding(secured, self.client_address, self.server)

        return Tunnel
