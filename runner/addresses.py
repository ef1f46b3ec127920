"""Addresses of services: their syntax, and whether an access token may be sent there."""

from __future__ import annotations

import ipaddress
import re
from urllib.parse import urlsplit

_GOOGLES = re.compile(r"(?:[a-z0-9-]+\.)+googleapis\.com(?::443)?")
_OF_ENDPOINTS = re.compile(r"[a-z0-9-]+\.[a-z0-9-]+\.prediction\.vertexai\.goog")
"""Hosts of dedicated endpoints, `{endpoint}.{location}-{uid}.prediction.vertexai.goog` (the API's Endpoint)."""
_PORT = re.compile(r":[0-9]{1,5}")
_NEVER_IN_ADDRESSES = re.compile(r"[^!-~]|[\\%]")
"""Characters after which two parsers of addresses could find different hosts."""


def problem(url: str, *, named_here: bool, settings: str) -> str:
    """Describe the error in a base address; "" if there is none.

    Args:
        url: scheme, host and port.
        named_here: whether the user set it on this machine with a flag or a variable, and not with an environment
            document.
        settings: the names of this flag and this variable, for the message.
    """
    return _url_problem(url) or _destination_problem(url, named_here=named_here, settings=settings)


def is_loopback(host: str) -> bool:
    """Return whether a lowercase host is this machine."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def is_safe(address: str) -> bool:
    """Return whether nobody can intercept requests to an address: it uses TLS, or is on this machine."""
    try:
        parts = urlsplit(address)
        host = (parts.hostname or "").lower()
    except ValueError:
        return False
    return bool(host) and (parts.scheme == "https" or (parts.scheme == "http" and is_loopback(host)))


def is_googles(scheme: str, authority: str) -> bool:
    """Return whether a scheme with HOST:PORT is one of Google's APIs, with TLS and at its usual port."""
    return scheme == "https" and _GOOGLES.fullmatch(authority) is not None


def is_of_endpoint(scheme: str, authority: str, *, of: str) -> bool:
    """Return whether a scheme with HOST:PORT can be that of a dedicated endpoint.

    Args:
        scheme: only `https` is allowed.
        authority: HOST:PORT.
        of: base address of Vertex AI. If it is on this machine, endpoints can be on this machine with any port and
            name.
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
    """Return why a token must not be sent to an address; "" for this machine, Google with TLS, or a user's address.

    A document comes from a bucket that others can write to, or with a checkout, so its contents do not count as set by
    the user.
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
