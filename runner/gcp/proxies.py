"""Environment variables for connections: proxies, and certificate authorities."""

from __future__ import annotations

import functools
import os
import sys
from typing import TYPE_CHECKING
from urllib.parse import SplitResult, unquote, urlsplit

from runner.addresses import is_loopback

if TYPE_CHECKING:
    import ssl


def tls_context(*, trust_environment: bool) -> ssl.SSLContext:
    """Return the TLS settings with the authorities in SSL_CERT_FILE or SSL_CERT_DIR, or Mozilla's."""
    file = os.environ.get("SSL_CERT_FILE", "") if trust_environment else ""
    directory = os.environ.get("SSL_CERT_DIR", "") if trust_environment else ""
    return _trusting(file, directory)


@functools.cache
def _trusting(file: str, directory: str) -> ssl.SSLContext:
    """Return TLS settings with the authorities of a file or folder.

    Reading them takes twice as long as starting Python.
    """
    import ssl

    if not file and not directory:
        import certifi

        file = certifi.where()
    context = ssl.create_default_context(cafile=file or None, capath=None if file else directory)
    context.set_alpn_protocols(["http/1.1"])
    return context


def proxy_for(address: SplitResult) -> SplitResult | None:
    """Return the address of the proxy for a host; None if there is none. Raises ValueError for an unknown type.

    Connections to this machine never use a proxy, even if NO_PROXY does not say so, because the proxy would connect to
    its own machine.
    """
    if is_loopback((address.hostname or "").lower()):
        return None
    variables = {f"{address.scheme}_proxy", "all_proxy"}
    named = any(value and name.lower() in variables for name, value in os.environ.items())
    if not named and sys.platform not in {"darwin", "win32"}:  # systems with their own proxy settings
        return None
    from urllib.request import getproxies, proxy_bypass

    known = getproxies()
    given = known.get(address.scheme) or known.get("all")
    if not given or proxy_bypass(address.netloc):
        return None
    proxy = urlsplit(given if "://" in given else f"http://{given}")
    if proxy.scheme != "http":
        raise ValueError(f"the proxy {proxy.scheme}://{proxy.hostname} does not speak plain http://")
    return proxy


def proxy_login(proxy: SplitResult) -> dict[str, str]:
    """Return the header for the login at a proxy; none if its address contains no user."""
    if not proxy.username:
        return {}
    import base64

    text = f"{unquote(proxy.username)}:{unquote(proxy.password or '')}"
    return {"Proxy-Authorization": f"Basic {base64.b64encode(text.encode()).decode()}"}
