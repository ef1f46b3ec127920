"""Addresses of services: how they are spelled, and whether an access token may be sent there."""

from __future__ import annotations

import ipaddress
import re
from urllib.parse import urlsplit

_GOOGLES = re.compile(r"(?:[a-z0-9-]+\.)+googleapis\.com(?::443)?")
_OF_ENDPOINTS = re.compile(r"[a-z0-9-]+\.[a-z0-9-]+\.prediction\.vertexai\.goog")
"""Hosts of dedicated endpoints, `{endpoint}.{location}-{uid}.prediction.vertexai.goog` (the API's Endpoint)."""
_PORT = re.compile(r":[0-9]{1,5}")
_NEVER_IN_ADDRESSES = re.compile(r"[^!-~]|[\\%]")
"""What two parsers of addresses could take for two hosts."""


def problem(url: str, *, named_here: bool, settings: str) -> str:
    """Say what is wrong with a base address, "" when nothing is.

    Args:
        url: scheme, host and port.
        named_here: the user named it on this machine, by a flag or a variable; else an environment document did.
        settings: that flag and that variable, for the message.
    """
    return _url_problem(url) or _destination_problem(url, named_here=named_here, settings=settings)


def is_loopback(host: str) -> bool:
    """Return whether a host, in lower case, is this machine."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def is_safe(address: str) -> bool:
    """Return whether nobody on the way to an address reads what is sent there: by TLS, or on this machine."""
    try:
        parts = urlsplit(address)
        host = (parts.hostname or "").lower()
    except ValueError:
        return False
    return bool(host) and (parts.scheme == "https" or (parts.scheme == "http" and is_loopback(host)))


def is_googles(scheme: str, authority: str) -> bool:
    """Return whether a scheme with HOST:PORT is one of Google's APIs, by TLS and at its usual port."""
    return scheme == "https" and _GOOGLES.fullmatch(authority) is not None


def is_of_endpoint(scheme: str, authority: str, *, of: str) -> bool:
    """Return whether a scheme with HOST:PORT may be that of a dedicated endpoint.

    Args:
        scheme: only `https` is.
        authority: HOST:PORT.
        of: base address of Vertex AI. One on this machine has endpoints on this machine, with any port and names.
    """
    port = _PORT.search(authority)
    host = authority[: port.start()] if port and port.end() == len(authority) else authority
    home = is_loopback((urlsplit(of).hostname or "").lower())
    named = _OF_ENDPOINTS.fullmatch(host) is not None
    usual = host == authority or authority.endswith(":443")
    return scheme == "https" and ((named and usual) or (home and (named or is_loopback(host.strip("[]")))))


def _url_problem(url: str) -> str:
    try:
        parts = urlsplit(url)
        named = parts.hostname is not None and (parts.port or 0) >= 0
    except ValueError as error:
        return f"is no address: {error}"
    if _NEVER_IN_ADDRESSES.search(url):
        return "must not hold spaces, backslashes or signs that cannot be seen"
    if parts.scheme not in {"http", "https"} or not named:
        return "must start with http:// or https:// and name a host"
    if parts.path.strip("/") or parts.query or parts.fragment or parts.username:
        return "must be scheme, host and port only"
    return ""


def _destination_problem(url: str, *, named_here: bool, settings: str) -> str:
    """Say why no token may go to an address, "" when it may: to this machine, to Google by TLS, or where the user said.

    A document comes from a bucket that others can write to, or with a checkout: what it says is not the user's word.
    """
    parts = urlsplit(url)
    host = (parts.hostname or "").lower()
    if is_loopback(host):
        return ""
    if parts.scheme != "https":
        return "would send the token without TLS; only this machine is reached by http"
    if named_here or is_googles(parts.scheme, parts.netloc.lower()):
        return ""
    return f"is neither Google's nor on this machine, and would be sent your token; if you trust it, set {settings}"
