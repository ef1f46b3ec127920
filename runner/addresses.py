"""Addresses of services: how they are spelled, and whether an access token may be sent there."""

from __future__ import annotations

import ipaddress
import re
from urllib.parse import urlsplit

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
    """Tell whether a host, in lower case, is this machine."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


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
    if named_here or host.endswith(".googleapis.com"):
        return ""
    return f"is neither Google's nor on this machine, and would be sent your token; if you trust it, set {settings}"
